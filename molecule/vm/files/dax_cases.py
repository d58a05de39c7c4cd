# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What persistent memory and DAX really do on this host, held against what the engine promises of them.

    PYTHONPATH=DIRECTORY dax_cases.py REGION [PART_OF_A_NAME...]

DIRECTORY has plugins/module_utils as ansible_collections/hostmem/qemu/plugins/module_utils; REGION, such as region0, has a label area and
LOSES ALL IT HOLDS. Another region begins at no multiple of 16 MiB (memmap=64M!START on the kernel's command line).
One line for each case, then ``N passed, N failed``. Needs root, systemd, ndctl, xfsprogs, e2fsprogs, util-linux.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from ansible_collections.hostmem.qemu.plugins.module_utils._host import dax, dax_layout, devdax, device_content, pmem
from ansible_collections.hostmem.qemu.plugins.module_utils._host.errors import HostmemError
from ansible_collections.hostmem.qemu.plugins.module_utils._memory import dax_mounts, namespaces
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.dax_mount_changes import apply_mount
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.dax_mount_results import described, warnings
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.dax_wish import Wish

MIB = 1 << 20
POINT = "/mnt/hostmem-dax"
OTHER_POINT = "/mnt/hostmem-dax2"
LOOP_FILE = "/var/tmp/hostmem-dax.img"
CASES: list[Callable[[], None]] = []
REGION = ""


def case(function: Callable[[], None]) -> Callable[[], None]:
    CASES.append(function)
    return function


def sh(command: str, check: bool = True) -> str:
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{command}: {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def same(got: Any, wanted: Any) -> None:
    if got != wanted:
        raise AssertionError(f"got {got!r}, wanted {wanted!r}")


def true(value: Any, what: str) -> None:
    if not value:
        raise AssertionError(what)


@contextlib.contextmanager
def refused(*texts: str) -> Iterator[None]:
    """The block must fail with an error that has all these texts, and a cause and a cure."""
    try:
        yield
    except HostmemError as error:
        said = str(error)
        for text in texts:
            true(text in said, f"no {text!r} in: {said}")
        true(error.cure, f"no cure in: {said}")
        return
    raise AssertionError(f"not refused ({texts})")


# Namespaces


def wish(**changes: Any) -> Any:
    values = {"name": "ram0", "region": REGION, "mode": "fsdax", "align": 2 * MIB, "map": "dev", "size": None}
    return namespaces.Wish(**{**values, "destroy": "", **changes})


def present(**changes: Any) -> Any:
    """Make a namespace; a second time changes nothing, and the plan said before what came."""
    plan = namespaces.plan_present(wish(**changes))
    made = namespaces.apply(plan)
    if plan.changed:
        predicted = plan.diff()["after"]
        same(namespaces.side(made), predicted)
    again = namespaces.plan_present(wish(**changes))
    same(again.changed, False)
    return made


def device(**changes: Any) -> str:
    return f"/dev/{present(**changes).device}"


def region() -> Any:
    return next(item for item in pmem.regions() if item.dev == REGION)


def wipe() -> None:
    """An empty region, whatever there was."""
    for point in (POINT, OTHER_POINT):
        with contextlib.suppress(Exception):
            take_back(point)
        sh(f"umount {point}; chattr -i {point}; rmdir {point}; true", check=False)
    sh(f"losetup -D; rm -f {LOOP_FILE}")
    for item in region().namespaces:
        if item.device and os.path.exists(f"/dev/{item.device}") and item.mode != "devdax":
            sh(f"wipefs -qaf /dev/{item.device}")
        sh(f"ndctl destroy-namespace -f {item.dev}")


def clear(path: str) -> None:
    """Nothing but zeros in the block device, written by the kernel itself."""
    sh(f"wipefs -qaf {path}; blkdiscard --zeroout {path}; udevadm settle")


def partition(path: str, start: int) -> str:
    """Divide the block device: one partition from so many MiB to the end; its path."""
    sectors = int(sh(f"blockdev --getsz {path}"))
    entry = struct.pack("<B3sB3sII", 0, b"", 0x83, b"", start * 2048, sectors - start * 2048)
    with open(path, "r+b", buffering=0) as file:
        file.write(bytes(446) + entry + bytes(48) + b"\x55\xaa")
        os.fsync(file.fileno())
    sh(f"blockdev --rereadpt {path}; udevadm settle")
    return f"{path}p1"


def zero(path: str) -> None:
    """Nothing but zeros in the block device."""
    with contextlib.suppress(OSError), open(path, "r+b", buffering=0) as file:
        while file.write(bytes(MIB)):
            pass


@case
def fresh_region_gets_labels_a_name_and_a_part_of_itself() -> None:
    made = present(size=256 * MIB)
    same((made.mode, made.align, made.map, made.name, made.raw_size), ("fsdax", 2 * MIB, "dev", "ram0", 256 * MIB))
    true(0 < made.size < made.raw_size, "the page map takes its part")
    true(region().labels, "labels")
    found = namespaces.described(made, pmem.regions())
    same(found["blockdev"], f"/dev/{made.device}")
    true(found["persistence_domain"], "a persistence domain")
    same(found["numa_node"], region().numa_node)


@case
def second_namespace_beside_the_first_is_devdax() -> None:
    present(size=256 * MIB)
    made = present(name="dev0", mode="devdax", size=128 * MIB)
    same(made.mode, "devdax")
    found = devdax.dax_device(f"/dev/{made.device}")
    same((found.size, found.align), (made.size, 2 * MIB))
    true(dax.map_sync_works(found.path, found.align), "MAP_SYNC on device-DAX")
    same(sorted(item.name for item in region().namespaces), ["dev0", "ram0"])


@case
def without_a_name_the_only_one_of_its_mode_is_meant() -> None:
    present(size=128 * MIB)
    same(namespaces.plan_present(wish(name="")).action, "none")
    present(name="ram1", size=128 * MIB)
    with refused("several", "Say which"):
        namespaces.plan_present(wish(name=""))


@case
def misaligned_size_is_refused_with_the_next_sizes() -> None:
    with refused("100M", "align setting is 0x1000000 size 0x6400000", "96M, 112M"):
        namespaces.plan_present(wish(size=100 * MIB))
    with refused("at least 16M"):
        namespaces.plan_present(wish(size=8 * MIB))
    with refused("multiples of 1G"):
        namespaces.plan_present(wish(size=128 * MIB, align=1 << 30))
    present(size=128 * MIB)
    with refused("no room", "Sizes that fit"):
        namespaces.plan_present(wish(name="ram1", size=8 << 30))


@case
def misaligned_region_is_explained() -> None:
    present(size=16 * MIB)
    sh(f"ndctl destroy-namespace -f {region().namespaces[0].dev}")
    align = f"/sys/bus/nd/devices/{REGION}/align"
    before = sh(f"cat {align}")
    try:
        sh(f"echo 4096 > {align}")
        sh(f"ndctl create-namespace -r {REGION} -m raw -s {17 * MIB}")
        with refused("misaligned", "multiple of 2M", "echo"):
            namespaces.plan_present(wish(size=64 * MIB))
    finally:
        sh(f"ndctl destroy-namespace -f -r {REGION} all")
        sh(f"echo {before} > {align}")


@case
def region_of_the_kernel_parameter_memmap_that_begins_amiss_is_explained() -> None:
    amiss = next(item for item in pmem.regions() if not item.dimms and (item.start or 0) % (16 * MIB))
    with refused("misaligned", f"{amiss.start:#x}", "memmap=SIZE!START"):
        namespaces.plan_present(wish(region=amiss.dev, name=""))


@case
def other_alignment_is_not_kept_by_ndctl() -> None:
    present(size=64 * MIB, align=4096)
    plan = namespaces.plan_present(wish(size=64 * MIB, destroy="ram0"))
    same(plan.action, "rebuild")
    same(namespaces.apply(plan).align, 2 * MIB)


@case
def map_and_size_are_changed_in_place() -> None:
    present(size=64 * MIB)
    made = present(size=128 * MIB, map="mem", destroy="ram0")
    same((made.map, made.raw_size, made.name), ("mem", 128 * MIB, "ram0"))


@case
def namespace_with_a_file_system_is_neither_changed_nor_destroyed() -> None:
    path = device(size=32 * MIB)
    zero(path)
    sh(f"mkfs.ext4 -q -F {path}")
    for told in ("", "ram1", path):
        with refused("ext4", "holds data", "destroy_data to ram0"):
            namespaces.plan_present(wish(size=128 * MIB, destroy=told))
        with refused("ext4", "holds data"):
            namespaces.plan_absent(wish(destroy=told))
    same(namespaces.plan_present(wish(size=32 * MIB)).changed, False)
    plan = namespaces.plan_absent(wish(destroy="ram0"))
    same(plan.action, "destroy")
    same(namespaces.apply(plan), None)
    same(namespaces.plan_absent(wish()).changed, False)


@case
def namespace_without_a_signature_holds_data_too() -> None:
    path = device(size=32 * MIB)
    zero(path)
    same(namespaces.content(region().namespaces[0]), "")
    with open(path, "r+b", buffering=0) as file:
        file.seek(15 * MIB)
        file.write(b"guest" * 200_000)
    with refused("not zero"):
        namespaces.plan_absent(wish())
    zero(path)
    namespaces.apply(namespaces.plan_absent(wish()))


@case
def devdax_with_content_is_kept() -> None:
    made = present(name="dev0", mode="devdax", size=64 * MIB, destroy="dev0")
    descriptor = os.open(f"/dev/{made.device}", os.O_RDWR)
    with mmap.mmap(descriptor, made.size, flags=mmap.MAP_SHARED) as mapped:
        for start in range(0, made.size, MIB):
            mapped[start : start + MIB] = bytes(MIB)
        same(namespaces.content(made), "")
        mapped[:MIB] = b"\1" * MIB
    os.close(descriptor)
    with refused("not zero", "destroy_data to dev0"):
        namespaces.plan_absent(wish(name="dev0", mode="devdax"))


@case
def what_is_taken_back_goes_when_it_holds_nothing() -> None:
    made = present(size=64 * MIB, destroy="ram0")
    path = f"/dev/{made.device}"
    zero(path)
    sh(f"mkfs.ext4 -q -F {path}; mkdir -p {POINT}; mount {path} {POINT}")
    kept(f"{path} is mounted at {POINT}")
    sh(f"umount {POINT}; rmdir {POINT}")
    kept("ext4")
    with refused("ext4"):
        namespaces.plan_absent(wish())
    same(namespaces.plan_absent_without_data(wish(destroy="ram0")).action, "destroy")
    zero(path)
    with open(path, "rb") as opened, subprocess.Popen(["sleep", "60"], stdin=opened) as other:
        kept(str(other.pid))
        other.kill()
    plan = namespaces.plan_absent_without_data(wish())
    same((plan.action, plan.kept), ("destroy", ""))
    same(namespaces.apply(plan), None)
    same(namespaces.plan_absent_without_data(wish()).changed, False)


@case
def what_is_taken_back_stays_for_a_byte_between_the_samples() -> None:
    path = device(size=256 * MIB)
    zero(path)
    position = write_between_samples(path)
    kept(f"not zero at {position:#x}")
    with refused("not zero"):
        namespaces.plan_absent(wish())


@case
def what_is_taken_back_of_devdax_stays_for_a_byte_between_the_samples() -> None:
    made = present(mode="devdax", size=256 * MIB)
    path, position = f"/dev/{made.device}", between_samples(made.size)
    devdax.clear(path, 0, made.size)
    same(namespaces.plan_absent_without_data(wish(mode="devdax")).action, "destroy")
    write_mapped(path, made.size, position, b"\1")
    kept(f"not zero at {position:#x}", mode="devdax")
    write_mapped(path, made.size, position, b"\0")
    namespaces.apply(namespaces.plan_absent_without_data(wish(mode="devdax")))
    same([item.name for item in region().namespaces], [])


@case
def what_is_taken_back_stays_when_it_cannot_be_read() -> None:
    path = device(size=256 * MIB)
    zero(path)
    damage_between_samples(path)
    kept("cannot be read, and stays")
    with refused("cannot be found out", "Input/output error"):
        namespaces.plan_absent(wish())
    same(namespaces.plan_absent_without_data(wish(destroy="ram0")).action, "destroy")


@case
def what_is_taken_back_stays_when_a_guest_counts_on_it() -> None:
    made = present(mode="devdax", size=64 * MIB)
    devdax.clear(f"/dev/{made.device}", 0, made.size)
    for block in ({"namespace": "ram0"}, {"namespace": made.uuid}, {"device": f"/dev/{made.device}"}):
        with open(f"{sh('mktemp -d')}/db.json", "w", encoding="utf-8") as definition:
            json.dump({"definition": {"memory": {"blocks": [{"id": "ram", **block}]}}}, definition)
        directory = os.path.dirname(definition.name)
        with open(f"{directory}/config", "w", encoding="utf-8") as config:
            json.dump({"definitions": directory, "state": directory}, config)
        kept("memory of guest db", config.name, mode="devdax")
        os.remove(definition.name)
        same(namespaces.plan_absent_without_data(wish(mode="devdax"), config=config.name).action, "destroy")
        sh(f"rm -r {directory}")


def between_samples(size: int) -> int:
    """A place that a look at 256 pieces of 256 KiB, spread evenly over so many bytes, does not see."""
    return (size - (256 << 10)) * 100 // 255 + (300 << 10)


def write_between_samples(path: str) -> int:
    """A byte in the block device that samples do not show; its position."""
    with open(path, "r+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        position = between_samples(size)
        file.seek(position // 4096 * 4096)
        file.write(bytes(position % 4096) + b"\1" + bytes(4095 - position % 4096))
        os.fsync(file.fileno())
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as data:
            same(device_content.first_nonzero_of_samples(data, size), None)
    return position


def damage_between_samples(path: str) -> None:
    """The kernel takes sectors for bad that are told to it (pmem_do_read() in drivers/nvdimm/pmem.c)."""
    name = os.path.basename(path)
    sectors = int(sh(f"blockdev --getsz {path}"))
    sh(f"echo {between_samples(sectors * 512) // 512} 1 > /sys/block/{name}/badblocks")


def write_mapped(path: str, size: int, position: int, data: bytes) -> None:
    descriptor = os.open(path, os.O_RDWR)
    with mmap.mmap(descriptor, size, flags=mmap.MAP_SHARED) as mapped:
        mapped[position : position + len(data)] = data
    os.close(descriptor)


def kept(text: str, config: str = "/none", **changes: Any) -> None:
    """The namespace stays when all is taken back, for this reason."""
    plan = namespaces.plan_absent_without_data(wish(**changes), config=config)
    same(plan.changed, False)
    true(text in plan.kept, f"no {text!r} in: {plan.kept}")
    same(namespaces.apply(plan), region().namespaces[0])


@case
def partitions_are_data() -> None:
    path = device(size=32 * MIB)
    zero(path)
    partition(path, 2)
    with refused("dos"):
        namespaces.plan_absent(wish())
    sh(f"wipefs -qaf {path}")


@case
def used_namespace_is_kept_whatever_was_named() -> None:
    path = device(size=64 * MIB)
    with open(path, "rb") as opened, subprocess.Popen(["sleep", "60"], stdin=opened) as other:
        with refused("is in use", str(other.pid)):
            namespaces.plan_absent(wish(destroy="ram0"))
        other.kill()
    made = present(name="dev0", mode="devdax", size=64 * MIB)
    code = f"import mmap,os,time; d=os.open('/dev/{made.device}',2); m=mmap.mmap(d,2<<20,flags=1); os.close(d); print('x',flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with refused("is in use", str(other.pid)):
            namespaces.plan_absent(wish(name="dev0", mode="devdax", destroy="dev0"))
        other.kill()
    sh(f"mkfs.ext4 -q -F {path}; mkdir -p {POINT}; mount {path} {POINT}")
    with refused("is mounted at", "unmount"):
        namespaces.plan_absent(wish(destroy="ram0"))
    sh(f"umount {POINT}; rmdir {POINT}")


@case
def raw_and_sector_namespaces_are_explained() -> None:
    present(size=64 * MIB, destroy="ram0")
    namespaces.apply(namespaces.plan_absent(wish(destroy="ram0")))
    for mode, text in (("raw", "without struct pages"), ("sector", "translation table")):
        sh(f"ndctl create-namespace -r {REGION} -m {mode}")
        with refused(text, "no room", "destroy_data"):
            namespaces.plan_present(wish())
        found = region().namespaces[0]
        made = present(destroy=found.dev)
        same((made.mode, made.name), ("fsdax", "ram0"))
        namespaces.apply(namespaces.plan_absent(wish(destroy="ram0")))


@case
def whole_region_and_unknown_names() -> None:
    made = present(destroy="ram0")
    same(made.raw_size, region().size)
    with refused("no room", "ram0"):
        namespaces.plan_present(wish(name="ram1"))
    with refused("no region region77", REGION):
        namespaces.plan_present(wish(region="region77"))


# Mounts


def mount_wish(path: str, **changes: Any) -> Any:
    values = {"point": POINT, "device": path, "type": "ext4", "dax": "always", "options": (), "persistent": False}
    return Wish(**{**values, "reflink": False, "destroy": "", "device_timeout": 300, **changes})


def mounted(path: str, **changes: Any) -> Any:
    """Mount; a second time changes nothing, and the plan said before what came."""
    plan = dax_mounts.plan_mount(mount_wish(path, **changes))
    done = apply_mount(plan)
    again = dax_mounts.plan_mount(mount_wish(path, **changes))
    same(again.changed, False)
    same(again.diff()["before"], again.diff()["after"])
    predicted = {path: side for path, side in plan.diff()["after"].items() if side != {"state": "absent"}}
    same(again.diff()["before"], predicted)
    if plan.make:
        same(again.uuid, plan.uuid)
    return done


def take_back(point: str) -> None:
    apply_mount(dax_mounts.plan_unmount(point))


def loop_device() -> str:
    sh(f"modprobe loop; truncate -s 400M {LOOP_FILE}")
    return sh(f"losetup --find --show {LOOP_FILE}")


def huge_faults(path: str) -> tuple[int, int]:
    """Write to each page of a file that is mapped as QEMU maps it; the kernel's huge and small faults (tracepoints of fs_dax)."""
    tracing = "/sys/kernel/tracing"
    sh(f"mountpoint -q {tracing} || mount -t tracefs tracefs {tracing}")
    events = [f"{tracing}/events/fs_dax/{name}/enable" for name in ("dax_pmd_fault_done", "dax_pte_fault_done")]
    sh(f"echo 16000 > {tracing}/buffer_size_kb; echo > {tracing}/trace")
    for event in events:
        sh(f"echo 1 > {event}")
    try:
        with open(path, "r+b", buffering=0) as file, mmap.mmap(file.fileno(), 0, flags=mmap.MAP_SHARED) as mapping:
            for start in range(0, len(mapping), mmap.PAGESIZE):
                mapping[start] = 1
    finally:
        for event in events:
            sh(f"echo 0 > {event}")
    lines = sh(f"cat {tracing}/trace").split("\n")
    huge = sum("dax_pmd_fault_done" in line and "FALLBACK" not in line for line in lines)
    return huge, sum("dax_pte_fault_done" in line for line in lines)


def check_mounted(path: str, kind: str, done: Any) -> None:
    result = described(done, False)
    same((result["fstype"], result["dax_files"], result["map_sync"]), (kind, True, True))
    same((result["block_size"], result["guard"], result["huge_page_share_aligned"]), (4096, "immutable", 1.0))
    true("dax=always" in result["options"], "dax=always in mountinfo")
    same(sh(f"systemctl is-enabled '{result['unit']}'"), "enabled")
    same(sh(f"systemctl is-active '{result['unit']}'"), "active")
    same(sh(f"findmnt -no SOURCE {POINT}"), path)
    timeout = sh(
        'systemctl show -p JobRunningTimeoutUSec "$(systemd-escape -p --suffix=device '
        f'/dev/disk/by-uuid/{result["uuid"]})"'
    )
    same(timeout, "JobRunningTimeoutUSec=5min")
    ram = f"{POINT}/ram"
    got = dax_layout.allocate_aligned(ram, 64 * MIB)
    same(
        (got.share, dax_layout.huge_page_share(ram), dax.is_dax_file(ram), dax.map_sync_works(ram)),
        (1.0, 1.0, True, True),
    )
    same(huge_faults(ram), (32, 0))


@case
def ext4_is_made_mounted_and_proved() -> None:
    path = device(size=384 * MIB)
    clear(path)
    done = mounted(path, persistent=True)
    check_mounted(path, "ext4", done)
    same(described(done, False)["huge_page_share"], 1.0)


@case
def xfs_is_made_mounted_and_proved() -> None:
    path = device(size=384 * MIB, destroy="ram0")
    clear(path)
    done = mounted(path, type="xfs", options=("noatime",), persistent=True)
    check_mounted(path, "xfs", done)
    true("reflink=0" in sh(f"xfs_info {POINT}"), "no reflink")


@case
def files_without_room_for_a_stripe_are_laid_out_by_hand() -> None:
    path = device(size=384 * MIB)
    clear(path)
    for kind, command in (("ext4", "mkfs.ext4 -q -F -b 4096"), ("xfs", "mkfs.xfs -q -f -m reflink=0")):
        sh(f"{command} {path}")
        mounted(path, type=kind)
        natural = f"{POINT}/natural"
        sh(f"fallocate -l 32M {natural}")
        share = dax_layout.huge_page_share(natural)
        huge, small = huge_faults(natural)
        same((huge, small == 0), (round(16 * share), share == 1.0))
        ram = f"{POINT}/ram"
        same(dax_layout.allocate_aligned(ram, 32 * MIB).share, 1.0)
        same(huge_faults(ram), (16, 0))
        same(os.stat(ram).st_size, 32 * MIB)
        take_back(POINT)


@case
def full_file_system_gives_back_what_it_had() -> None:
    path = device(size=64 * MIB)
    clear(path)
    mounted(path)
    free = os.statvfs(POINT).f_bavail
    try:
        dax_layout.allocate_aligned(f"{POINT}/ram", 1 << 30)
    except OSError as error:
        same(error.errno, 28)
    else:
        raise AssertionError("1 GiB in a file system of less than 64 MiB")
    os.unlink(f"{POINT}/ram")
    true(abs(os.statvfs(POINT).f_bavail - free) < 16, "blocks given back")


@case
def devices_without_dax_are_refused_by_their_kind() -> None:
    present(size=64 * MIB)
    namespaces.apply(namespaces.plan_absent(wish(destroy="ram0")))
    for mode, text in (("raw", "without struct pages"), ("sector", "translation table")):
        sh(f"ndctl create-namespace -r {REGION} -m {mode} -s 64M")
        found = region().namespaces[0]
        for kind in ("ext4", "xfs"):
            with refused(text, "pmem_namespace", found.dev):
                dax_mounts.plan_mount(mount_wish(f"/dev/{found.device}", type=kind))
        sh(f"ndctl destroy-namespace -f {found.dev}")
    with refused("loop device", "queue/dax"):
        dax_mounts.plan_mount(mount_wish(loop_device()))
    with refused("no block device"):
        dax_mounts.plan_mount(mount_wish(LOOP_FILE))
    with refused("There is no device"):
        dax_mounts.plan_mount(mount_wish("/dev/pmem77"))
    made = present(name="dev0", mode="devdax", size=64 * MIB)
    with refused("no block device", "backing"):
        dax_mounts.plan_mount(mount_wish(f"/dev/{made.device}"))
    true(not os.path.exists(POINT), "nothing was made")


@case
def blocks_of_1_kib_are_refused() -> None:
    path = device(size=384 * MIB)
    clear(path)
    for kind, command in (("ext4", "mkfs.ext4 -q -F -b 1024"), ("xfs", "mkfs.xfs -q -f -b size=1024 -m reflink=0")):
        sh(f"{command} {path}")
        with refused("1K", "destroy_data"):
            dax_mounts.plan_mount(mount_wish(path, type=kind))
        done = mounted(path, type=kind, destroy=path)
        same(described(done, False)["block_size"], 4096)
        take_back(POINT)


@case
def reflink_with_dax_on_a_device_and_in_a_partition() -> None:
    path = device(size=448 * MIB)
    clear(path)
    mounted(path, type="xfs", reflink=True)
    true("reflink=1" in sh(f"xfs_info {POINT}"), "reflink")
    take_back(POINT)
    clear(path)
    first = partition(path, 2)
    sh(f"mkfs.xfs -q -f -m reflink=1 {first}")
    with refused("reflink", "partition"):
        dax_mounts.plan_mount(mount_wish(first, type="xfs"))
    said = sh(f"mkdir -p {OTHER_POINT}; mount -o dax=always {first} {OTHER_POINT} 2>&1; echo rc $?")
    true("rc 32" in said, f"the kernel says so, too: {said}")
    sh(f"rmdir {OTHER_POINT}")
    done = mounted(first, type="xfs", destroy=first)
    same(described(done, False)["huge_page_share_aligned"], 1.0)
    take_back(POINT)


@case
def partition_that_begins_amiss_is_made_good_by_the_files() -> None:
    path = device(size=128 * MIB)
    clear(path)
    done = mounted(partition(path, 1))
    result = described(done, False)
    same((result["huge_page_share"], result["huge_page_share_aligned"]), (0.0, 1.0))
    true("laid out" in warnings(done)[0], "a warning")
    ram = f"{POINT}/ram"
    same(dax_layout.allocate_aligned(ram, 16 * MIB).share, 1.0)
    same(huge_faults(ram), (8, 0))


@case
def xfs_that_turns_dax_off_silently_is_an_error_and_taken_back() -> None:
    loop = loop_device()
    plan = dax_mounts.plan_mount(mount_wish(loop, type="xfs", dax="never"))
    # As if the device had said that it has DAX.
    with refused("dax=never", "MAP_SYNC is refused", "Turning off DAX", "fsdax namespace"):
        apply_mount(replace(plan, wish=mount_wish(loop, type="xfs")))
    true(not os.path.exists(POINT), "the mount and its directory are taken back")


@case
def ext4_that_fails_loudly_is_explained_and_taken_back() -> None:
    loop = loop_device()
    plan = dax_mounts.plan_mount(mount_wish(loop, dax="never"))
    with refused("DAX unsupported by block device", "fsdax namespace"):
        apply_mount(replace(plan, wish=mount_wish(loop)))
    true(not os.path.exists(POINT), "the directory is taken back")
    path = device(size=64 * MIB)
    clear(path)
    with refused("data=journal"):
        mounted(path, options=("data=journal",))
    sh(f"mkfs.ext4 -q -F -b 4096 -O inline_data {path}")
    with refused("inline_data"):
        dax_mounts.plan_mount(mount_wish(path))


@case
def mount_in_use_is_neither_changed_nor_taken_away() -> None:
    path = device(size=64 * MIB)
    clear(path)
    mounted(path)
    sh(f"fallocate -l 4M {POINT}/ram")
    code = f"import mmap,time; f=open('{POINT}/ram','r+b'); m=mmap.mmap(f.fileno(),0); f.close(); print(1,flush=True); time.sleep(99)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as guest:
        guest.stdout.readline()
        with refused("in use", str(guest.pid), "maps"):
            dax_mounts.plan_unmount(POINT)
        with refused("in use", str(guest.pid), "dax=always, wanted is dax=inode"):
            dax_mounts.plan_mount(mount_wish(path, dax="inode"))
        same(dax_mounts.plan_mount(mount_wish(path)).changed, False)
        guest.kill()
    # The kernel refuses a remount of it.
    true("rc 32" in sh(f"mount -o remount,dax=inode {POINT} 2>&1; echo rc $?"), "remount")
    mounted(path, dax="inode")
    true(os.path.exists(f"{POINT}/ram"), "the file is still there")
    take_back(POINT)
    true(not os.path.exists(POINT), "the directory is gone")


@case
def dax_of_each_file_and_none() -> None:
    path = device(size=384 * MIB)
    for kind in ("ext4", "xfs"):
        clear(path)
        done = mounted(path, type=kind, dax="inode")
        same((done.found.dax, done.found.map_sync), (True, True))
        with open(f"{POINT}/plain", "wb") as file:
            file.truncate(4096)
        same(dax.is_dax_file(f"{POINT}/plain"), False)
        os.mkdir(f"{POINT}/guest")
        same(dax.is_dax_directory(POINT), True)
        same(sorted(set(os.listdir(POINT)) - {"lost+found"}), ["guest", "plain"])
        dax.ask_for_dax(f"{POINT}/guest")
        with open(f"{POINT}/guest/flagged", "wb") as file:
            file.truncate(4096)
            same(dax.is_dax_file(file.fileno()), True)
        done = mounted(path, type=kind, dax="never")
        same((done.found.dax, done.found.map_sync, dax.is_dax_file(f"{POINT}/guest/flagged")), (False, False, False))
        take_back(POINT)


@case
def file_systems_of_namespaces_have_uuids_of_their_own() -> None:
    found = []
    for _time in range(2):
        path = device(size=32 * MIB, destroy="ram0")
        clear(path)
        plans = [dax_mounts.plan_mount(mount_wish(path)) for _again in range(2)]
        same(plans[0].uuid, plans[1].uuid)
        found.append(plans[0].uuid)
        namespaces.apply(namespaces.plan_absent(wish(destroy="ram0")))
    true(found[0] != found[1], "another namespace, another UUID")


@case
def no_file_system_over_data() -> None:
    path = device(size=384 * MIB)
    clear(path)
    sh(f"mkfs.xfs -q -f -m reflink=0 {path}")
    for told in ("", "/dev/pmem77", "ram0"):
        with refused("holds xfs", "destroy_data"):
            dax_mounts.plan_mount(mount_wish(path, destroy=told))
    mounted(path, type="xfs")
    with open(f"{POINT}/kept", "w", encoding="ascii") as file:
        file.write("kept")
    mounted(path, type="xfs", destroy=path)
    true(os.path.exists(f"{POINT}/kept"), "a file system that fits is kept, whatever is named")
    take_back(POINT)
    sh(f"wipefs -qaf {path}; mkswap -q {path}")
    with refused("swap"):
        dax_mounts.plan_mount(mount_wish(path))
    mounted(path, destroy=path)
    with refused("in use"):
        dax_mounts.plan_mount(mount_wish(path, point=OTHER_POINT))
    with refused("in use"):
        namespaces.plan_absent(wish(destroy="ram0"))


@case
def data_without_a_signature_are_data() -> None:
    path = device(size=64 * MIB)
    clear(path)
    with open(path, "r+b", buffering=0) as file:
        file.seek(40 * MIB)
        file.write(b"A guest's RAM has no signature.".ljust(MIB, b"."))
        os.fsync(file.fileno())
    with refused("without a signature", "0x", f"destroy_data to {path}"):
        dax_mounts.plan_mount(mount_wish(path))
    # Made anew, the namespace still shows what it held: that is to be given up a second time.
    namespaces.apply(namespaces.plan_absent(wish(destroy="ram0")))
    path = device(size=64 * MIB)
    with refused("without a signature", "pmem_namespace clears nothing"):
        dax_mounts.plan_mount(mount_wish(path))
    mounted(path, destroy=path)
    take_back(POINT)


@case
def no_file_system_over_a_byte_between_the_samples() -> None:
    path = device(size=256 * MIB)
    clear(path)
    position = write_between_samples(path)
    with refused(f"not zero at {position:#x}", f"destroy_data to {path}"):
        dax_mounts.plan_mount(mount_wish(path))


@case
def no_file_system_over_what_cannot_be_read() -> None:
    path = device(size=256 * MIB)
    clear(path)
    damage_between_samples(path)
    with refused("cannot be found out", "Input/output error", f"destroy_data to {path}"):
        dax_mounts.plan_mount(mount_wish(path))
    same(dax_mounts.plan_mount(mount_wish(path, destroy=path)).make, True)
    # Where a file system lies already, nothing of it but its super block is read.
    sh(f"mkfs.ext4 -q -F -b 4096 {path}")
    same(dax_mounts.plan_mount(mount_wish(path)).make, False)


@case
def nothing_can_be_made_where_the_mount_is_missing() -> None:
    path = device(size=64 * MIB)
    clear(path)
    mounted(path, persistent=True)
    sh(f"umount {POINT}")
    for command in (f"touch {POINT}/ram", f"mkdir {POINT}/guest", f"rmdir {POINT}"):
        true("rc 0" not in sh(f"{command} 2>&1; echo rc $?"), command)
    same(dax_mounts.plan_mount(mount_wish(path, persistent=True)).attach, True)
    sh(f'systemctl start "$(systemd-escape -p --suffix=mount {POINT})"')
    same(dax_mounts.plan_mount(mount_wish(path, persistent=True)).changed, False)
    sh(f"umount {POINT}; chattr -i {POINT}; chmod 755 {POINT}; touch {POINT}/ram")
    with refused("hide ram"):
        dax_mounts.plan_mount(mount_wish(path, persistent=True))
    os.unlink(f"{POINT}/ram")
    mounted(path, persistent=True)
    take_back(POINT)
    same(sh("ls -A /etc/systemd/system | grep -c -e hostmem.dax -e by.x2duuid; true"), "0")


@case
def configuration_of_others_is_left_alone() -> None:
    path = device(size=64 * MIB)
    clear(path)
    plan = dax_mounts.plan_mount(mount_wish(path, persistent=True))
    with open("/etc/fstab", encoding="ascii") as file:
        before = file.read()
    try:
        for line, ours in (
            (f"{path} {POINT} ext4 noauto 0 0", False),
            (f"UUID={plan.uuid} {POINT} ext4 dax,nofail 0 0", True),
        ):
            text = f"{before}{line}\n"
            with open("/etc/fstab", "w", encoding="ascii") as file:
                file.write(text)
            if ours:
                done = mounted(path, persistent=True)
                result = described(done, False)
                same((result["unit"], result["configured_by"].split(":")[0]), (None, "/etc/fstab"))
                with refused("/etc/fstab"):
                    dax_mounts.plan_unmount(POINT)
            else:
                with refused("/etc/fstab"):
                    dax_mounts.plan_mount(mount_wish(path, persistent=True))
            with open("/etc/fstab", encoding="ascii") as file:
                same(file.read(), text)
    finally:
        with open("/etc/fstab", "w", encoding="ascii") as file:
            file.write(before)


@case
def options_without_a_value_are_those_of_the_mount() -> None:
    path = device(size=384 * MIB)
    for kind, options in (
        ("ext4", ("lazytime", "nobarrier", "strictatime")),
        ("xfs", ("lazytime", "wsync", "largeio")),
    ):
        clear(path)
        mounted(path, type=kind)
        mounted(path, type=kind, options=options)
        for option in options[:2]:
            true(option in sh(f"findmnt -no OPTIONS {POINT}").split(","), option)
        mounted(path, type=kind)
        true("lazytime" not in sh(f"findmnt -no OPTIONS {POINT}"), "the option is gone")
        take_back(POINT)


@case
def drop_in_of_a_file_system_that_is_no_more_goes() -> None:
    path = device(size=64 * MIB)
    clear(path)
    sh(f"mkfs.ext4 -q -F -b 4096 {path}; udevadm settle")
    first = mounted(path, persistent=True).uuid
    sh(f"umount {POINT}")
    clear(path)
    true(mounted(path, persistent=True).uuid != first, "another file system")
    same(sh("ls /etc/systemd/system | grep -c by.x2duuid; true"), "1")
    take_back(POINT)
    same(sh("ls /etc/systemd/system | grep -c by.x2duuid; true"), "0")


@case
def only_now_leaves_no_unit() -> None:
    path = device(size=64 * MIB)
    clear(path)
    mounted(path, persistent=True)
    done = mounted(path)
    same(described(done, False)["unit"], None)
    true(os.path.ismount(POINT), "still mounted")
    take_back(POINT)
    same(dax_mounts.plan_unmount(POINT).changed, False)


def main() -> int:
    global REGION  # noqa: PLW0603  cases take no arguments, and it is set once
    REGION = sys.argv[1]
    parts = sys.argv[2:] or [""]
    failed = passed = 0
    for function in CASES:
        if not any(part in function.__name__ for part in parts):
            continue
        began = time.monotonic()
        try:
            wipe()
            function()
            passed += 1
            result = "ok"
        except Exception:
            failed += 1
            result = "FAILED"
            traceback.print_exc(file=sys.stdout)
        print(f"{result}: {function.__name__.replace('_', ' ')} ({time.monotonic() - began:.1f} s)", flush=True)
    wipe()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
