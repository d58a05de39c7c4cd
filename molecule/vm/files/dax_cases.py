# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What persistent memory and DAX really do on this host, held against what the engine promises of them.

    dax_cases.py MODULE_UTILS REGION [PART_OF_A_NAME]

MODULE_UTILS is a copy of plugins/module_utils; REGION, such as region0, has a label area and LOSES ALL IT HOLDS.
One line for each case, then ``N passed, N failed``. Needs root, systemd, ndctl, xfsprogs, e2fsprogs, util-linux with fdisk.
"""

from __future__ import annotations

import contextlib
import importlib
import mmap
import os
import subprocess
import sys
import time
import traceback
import types
from collections.abc import Callable, Iterator
from typing import Any

MIB = 1 << 20
POINT = "/mnt/hostmem-dax"
OTHER_POINT = "/mnt/hostmem-dax2"
LOOP_FILE = "/var/tmp/hostmem-dax.img"
CASES: list[Callable[[], None]] = []
REGION = ""


def load(directory: str) -> None:
    """The engine as the package ``engine``, from wherever it lies."""
    package = types.ModuleType("engine")
    package.__path__ = [os.path.abspath(directory)]
    sys.modules["engine"] = package
    for name in (
        "_host.dax",
        "_host.devdax",
        "_host.errors",
        "_host.filesystem_tools",
        "_host.mounts",
        "_host.pmem",

        "_memory.namespaces",
    ):
        globals()[name.split(".")[-1]] = importlib.import_module(f"engine.{name}")


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
    except errors.HostmemError as error:
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
    path = device(size=64 * MIB)
    zero(path)
    sh(f"mkfs.ext4 -q -F {path}")
    for told in ("", "ram1", path):
        with refused("ext4", "holds data", "destroy_data to ram0"):
            namespaces.plan_present(wish(size=128 * MIB, destroy=told))
        with refused("ext4", "holds data"):
            namespaces.plan_absent(wish(destroy=told))
    same(namespaces.plan_present(wish(size=64 * MIB)).changed, False)
    plan = namespaces.plan_absent(wish(destroy="ram0"))
    same(plan.action, "destroy")
    same(namespaces.apply(plan), None)
    same(namespaces.plan_absent(wish()).changed, False)


@case
def namespace_without_a_signature_holds_data_too() -> None:
    path = device(size=64 * MIB)
    zero(path)
    same(namespaces.content(region().namespaces[0]), "")
    with open(path, "r+b", buffering=0) as file:
        file.seek(30 * MIB)
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
def partitions_are_data() -> None:
    path = device(size=64 * MIB)
    zero(path)
    sh(f"printf 'label: gpt\\nstart=2MiB\\n' | sfdisk -q {path}")
    with refused("gpt"):
        namespaces.plan_absent(wish())
    sh(f"wipefs -qaf {path}")


@case
def used_namespace_is_kept_whatever_was_named() -> None:
    path = device(size=64 * MIB)
    with open(path, "rb"):
        # Our own process does not count, another one does.
        with subprocess.Popen(["sleep", "60"], stdin=open(path, "rb")) as other:
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


def main() -> int:
    global REGION  # noqa: PLW0603
    load(sys.argv[1])
    REGION = sys.argv[2]
    part = sys.argv[3] if len(sys.argv) > 3 else ""
    failed = passed = 0
    for function in CASES:
        if part not in function.__name__:
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
