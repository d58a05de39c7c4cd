# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest whose RAM is a device-DAX device, with an NVDIMM on a DAX file system: MAP_SYNC, a live update, and nobody's data lost."""

from __future__ import annotations

import re
import time

import pytest

from support.vm_runtime import VmRuntime

SIZE = 64 << 20
RAM = "/srv/pm/g/qemu_back_mem.0+4000000.ram0"
# A fresh region: labels, a namespace with a file system, and a device.
PREPARE = """set -e
ndctl disable-region region1
ndctl init-labels -f nmem0
ndctl enable-region region1
ndctl create-namespace -f -r region1 -m fsdax -a 2M -s 256M
ndctl create-namespace -f -r region1 -m devdax -a 2M -s 256M
blockdev=$(ndctl list -N -r region1 -m fsdax | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["blockdev"])')
mkfs.ext4 -q -b 4096 /dev/$blockdev
mkdir -p /srv/pm
mount -o dax=always /dev/$blockdev /srv/pm
"""
WRITE = "import mmap, os; m = mmap.mmap(os.open({device!r}, os.O_RDWR), {size}); m[4096:4100] = {data!r}"
READ = "import mmap, os; m = mmap.mmap(os.open({device!r}, os.O_RDWR), {size}); print(m[4096:4100], any(m[:]))"


@pytest.fixture(scope="module", name="device")
def fixture_device(vm: VmRuntime) -> str:
    vm.host.run(PREPARE)
    path = vm.host.run("ls /dev/dax*")
    nvdimm = {"id": "nv0", "path": "/srv/pm/nv0", "size": "32M", "label_size": "128K", "pmem": True}
    vm.define("g", {"backing": "dax", "device": path}, nvdimms=[nvdimm])
    return path


def ticks(vm: VmRuntime) -> int:
    """Lines of ticks on the guest's console; each comes only after a look through its memory."""
    text = vm.host.run("cat /var/log/hostmem/g/console-c0.log", check=False)
    assert not re.search(r"^X", text, re.M)  # a page was wrong
    return len(re.findall(r"^T\d+", text, re.M))


def flags(vm: VmRuntime, path: str) -> list[str]:
    """VmFlags of the one mapping of the file or device, by the kernel's word."""
    text = vm.host.run("cat /proc/$(cat /run/hostmem/g/pid)/smaps")
    blocks = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", text, flags=re.M)
    (block,) = [item for item in blocks if item.split("\n")[0].endswith(f" {path}")]
    return next(line for line in block.splitlines() if line.startswith("VmFlags")).split()[1:]


def test_data_of_others_is_not_cleared(vm: VmRuntime, device: str) -> None:
    vm.python(WRITE.format(device=device, size=SIZE, data=b"data"))
    for words in (("start", "--check", "g"), ("start", "g")):
        refused = vm.verb(*words)
        assert "holds data" in refused["error"]["message"], refused
    vm.one("stop", "g")
    assert vm.python(READ.format(device=device, size=SIZE)) == "b'data' True"
    vm.python(WRITE.format(device=device, size=SIZE, data=bytes(4)))


def test_memory_is_mapped_with_map_sync_and_goes_through_an_update(vm: VmRuntime, device: str) -> None:
    vm.one("start", "g")
    assert "sf" in flags(vm, device)
    assert "sf" in flags(vm, "/srv/pm/nv0")
    told = {block["name"]: block["map_sync"] for block in vm.one("info", "g")["ram_blocks"]}
    assert (told["ram0"], told["nv0"]) == (True, True)
    deadline = time.monotonic() + 120
    while not ticks(vm) and time.monotonic() < deadline:
        time.sleep(1)
    before = ticks(vm)
    assert vm.one("update", "--force", "--max-pause", "30", "g")["changed"]
    assert "sf" in flags(vm, device)
    while ticks(vm) <= before + 1 and time.monotonic() < deadline:
        time.sleep(1)
    assert ticks(vm) > before + 1


def test_what_the_guest_had_is_cleared_when_it_stops_and_nothing_later(vm: VmRuntime, device: str) -> None:
    vm.one("stop", "--timeout", "0", "g")
    assert vm.python(READ.format(device=device, size=SIZE)).endswith(" False")
    vm.python(WRITE.format(device=device, size=SIZE, data=b"next"))
    vm.one("undefine", "g")
    assert vm.python(READ.format(device=device, size=SIZE)) == "b'next' True"
    assert vm.host.run("ls /srv/pm/nv0").strip() == "/srv/pm/nv0"


# What QEMU does by itself where it cannot have MAP_SYNC: it maps without, and says so on stderr.
WITHOUT = """mkdir -p /srv/without && cat >/srv/without/qemu-system-x86_64 <<'END' && chmod +x /srv/without/qemu-system-x86_64
#!/bin/bash
exec /usr/bin/qemu-system-x86_64 "${@//pmem=on/pmem=off}"
END
"""


def test_a_mapping_without_map_sync_fails_the_start(vm: VmRuntime, device: str) -> None:
    assert device
    vm.host.run(WITHOUT)
    nvdimm = {"id": "nv0", "path": "/srv/pm/nv1", "size": "2M", "pmem": True}
    qemu = "/srv/without/qemu-system-x86_64"
    vm.define("g", {"backing": "dax", "directory": "/srv/pm/g"}, nvdimms=[nvdimm], qemu=qemu)
    said = vm.verb("start", "g")["error"]["message"]
    assert "RAMBlock ram0 is not mapped with MAP_SYNC" in said
    assert "RAMBlock nv0 is not mapped with MAP_SYNC" in said
    assert vm.one("info", "g")["state"] == "stopped"
    vm.one("undefine", "g")


@pytest.mark.parametrize(("mapping", "reaches_the_device"), [("shared", True), ("private", False)])
def test_without_pmem(vm: VmRuntime, device: str, mapping: str, reaches_the_device: bool) -> None:
    """A shared mapping writes to the device, a private one to copies; neither is mapped with MAP_SYNC."""
    assert device
    vm.define("g", {"backing": "dax", "directory": "/srv/pm/g", "mmap": mapping, "pmem": False})
    vm.one("start", "g")
    assert "sf" not in flags(vm, RAM)
    assert ("sh" in flags(vm, RAM)) == reaches_the_device
    (block,) = [item for item in vm.one("info", "g")["ram_blocks"] if item["name"] == "ram0"]
    assert block["map_sync"] is False
    # What QEMU put there for the guest to boot from.
    held = vm.python(f"print(any(open({RAM!r}, 'rb').read()))")
    assert held == str(reaches_the_device)
    vm.one("stop", "--timeout", "0", "g")
    vm.one("undefine", "g")


REMOUNT = "set -e; source=$(findmnt -no SOURCE /srv/pm); umount /srv/pm; mount -o dax={dax} $source /srv/pm"


def test_memory_in_a_mount_without_dax_is_refused(vm: VmRuntime, device: str) -> None:
    assert device
    vm.host.run(REMOUNT.format(dax="never"))
    vm.define("g", {"backing": "dax", "directory": "/srv/pm/g"})
    for words in (("start", "--check", "g"), ("start", "g")):
        refused = vm.verb(*words)["error"]
        assert "lies on ext4, the definition demands dax" in refused["message"]
        assert "dax=never" in refused["cause"]
    assert vm.host.run("find /srv/pm -name 'qemu_back_mem*'") == ""
    # With dax=inode a file says itself whether it is to be DAX: those of a guest do.
    vm.host.run(REMOUNT.format(dax="inode"))
    vm.one("start", "g")
    assert "sf" in flags(vm, RAM)
    vm.one("stop", "--timeout", "0", "g")
    vm.one("undefine", "g")
