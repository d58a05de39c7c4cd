# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input is refused with its key and the reason, all of it at once."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.definition import parse_definition
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.errors import DefinitionError

from .definitions import MINIMAL, consoles, definition, disks, memory, nics, without

OURS = "is taken by the collection's own devices and sockets"

DAX = {"backing": "dax", "directory": "/pm/web1"}
NVDIMM = {"id": "nv0", "path": "/pm/web1.nv0", "size": "64M"}
DEVDAX = {"backing": "dax", "device": "/dev/dax0.0"}

TOP_LEVEL = [
    (None, "definition", "must be a mapping"),
    (["web1"], "definition", "must be a mapping"),
    (without(MINIMAL, "name"), "name", "is required"),
    (without(MINIMAL, "machine"), "machine", "is required"),
    (without(MINIMAL, "memory"), "memory", "is required"),
    (definition(schema=2), "schema", "is not the schema"),
    (definition(schema="1"), "schema", "is not the schema"),
    (definition(schema=0), "schema", "is not the schema"),
    (definition(schema=False), "schema", "is not the schema"),
    (definition(schema=True), "schema", "is not the schema"),
    (definition(schema=1.0), "schema", "is not the schema"),
    (definition(ram="1G"), "ram", "is not known here"),
    (definition(Machine="pc-q35-10.0"), "Machine", "is not known here"),
    (definition(name=""), "name", "non-empty"),
    (definition(name="Web1"), "name", "must be 1 to 32"),
    (definition(name="-web"), "name", "must be 1 to 32"),
    (definition(name="web 1"), "name", "must be 1 to 32"),
    (definition(name="web,1"), "name", "must be 1 to 32"),
    (definition(name="../web"), "name", "must be 1 to 32"),
    (definition(name="web1\n"), "name", "line break"),
    (definition(name="w" * 33), "name", "must be 1 to 32"),
    (definition(name=7), "name", "must be a non-empty text"),
    (definition(qemu="qemu-system-x86_64"), "qemu", "absolute path"),
    (definition(qemu="/usr/bin/../qemu"), "qemu", "absolute path"),
    (definition(accel="xen"), "accel", "is not one of"),
    (definition(accel=True), "accel", "must be a non-empty text"),
    (definition(cpu=2), "cpu", "must be a mapping"),
    (definition(cpu=[]), "cpu", "must be a mapping"),
    (definition(cpu=""), "cpu", "must be a mapping"),
    (definition(cpu=False), "cpu", "must be a mapping"),
    (definition(cpu={"model": "host"}), "cpu.model", "host needs accel kvm"),
    (definition(cpu={"model": "host,-vmx"}), "cpu.model", "host needs accel kvm"),
    (definition(cpu={"count": 0}), "cpu.count", "whole number"),
    (definition(cpu={"count": "2"}), "cpu.count", "whole number"),
    (definition(cpu={"count": True}), "cpu.count", "whole number"),
    (definition(cpu={"count": 1.5}), "cpu.count", "whole number"),
    (definition(cpu={"model": "host -S"}), "cpu.model", "is not a CPU model"),
    (definition(cpu={"sockets": 2}), "cpu.sockets", "is not known here"),
    (definition(guest_agent="yes"), "guest_agent", "must be true or false"),
    (definition(vnc=1), "vnc", "must be true or false"),
    (definition(video="cirrus"), "video", "is not one of"),
    (definition(max_pause=0), "max_pause", "number from"),
    (definition(aux_ram_share="on"), "aux_ram_share", "must be true or false"),
    (definition(sandbox=True), "sandbox", ""),
    (definition(sandbox={"spawn": "allow"}), "sandbox.spawn", "must be true or false"),
    (definition(sandbox={"fork": True}), "sandbox.fork", "is not known here"),
    (definition(max_pause="2"), "max_pause", "number from"),
    (definition(max_pause=float("nan")), "max_pause", "number from"),
    (definition(max_pause=float("inf")), "max_pause", "number from"),
    (definition(on_host_shutdown="suspend"), "on_host_shutdown", "is not one of poweroff, save"),
    (definition(on_host_shutdown=True), "on_host_shutdown", "must be a non-empty text"),
    (definition(on_power_cut="ask"), "on_power_cut", "is not one of start, refuse"),
    (definition(kernel={}), "kernel.image", "is required"),
    (definition(kernel="/boot/vmlinuz"), "kernel", "must be a mapping"),
    (definition(kernel={"image": "vmlinuz"}), "kernel.image", "absolute path"),
    (definition(kernel={"image": "/boot/vmlinuz", "cmdline": "quiet\n-S"}), "kernel.cmdline", "line break"),
    (definition(kernel={"image": "/boot/vmlinuz", "cmdline": "quiet\r-S"}), "kernel.cmdline", "line break"),
    (definition(kernel={"image": "/boot/vmlinuz", "cmdline": "a=@generation@"}), "kernel.cmdline", "placeholders"),
    (definition(kernel={"image": "/boot/vmlinuz", "append": "quiet"}), "kernel.append", "is not known here"),
    (definition(disks={"id": "d0"}), "disks", "must be a list"),
    (definition(disks="d0"), "disks", "must be a list"),
    (definition(disks=["d0"]), "disks[0]", "must be a mapping"),
    (definition(arguments="-device pvpanic"), "arguments", "must be a list"),
]

ALIASES = [
    "q35",
    "pc",
    "pc-q35",
    "microvm",
    "none",
    "isapc",
    "pc-q35-10",
    "pc-q35-10.0,accel=tcg",
    "pc q35-10.0",
    "pc-q35-10.0 ",
    "pc-q35-10.0\n",
    "pc-q35-\u0661\u0660.\u0660",
]

MEMORY = [
    (definition(memory="256M"), "memory", "must be a mapping"),
    (definition(memory={}), "memory.blocks", "at least one"),
    (definition(memory={"blocks": []}), "memory.blocks", "at least one"),
    (definition(memory={"blocks": {"size": "1G"}}), "memory.blocks", "must be a list"),
    (definition(memory={"size": "256M"}), "memory.size", "is not known here"),
    (definition(memory={"blocks": [{}]}), "memory.blocks[0].size", "is required"),
    (memory({"id": "0ram"}), "memory.blocks[0].id", "begin with a letter"),
    (memory({"id": "ram,0"}), "memory.blocks[0].id", "begin with a letter"),
    (memory({"id": "ram 0"}), "memory.blocks[0].id", "begin with a letter"),
    (memory({"id": "ram/0"}), "memory.blocks[0].id", "begin with a letter"),
    (memory({"backing": "disk"}), "memory.blocks[0].backing", "is not one of"),
    (
        memory({"backing": "ram"}),
        "memory.blocks[0].backing",
        "no other QEMU can take it over when it is private; use memfd",
    ),
    (memory({"rom": "on"}), "memory.blocks[0].rom", "the guest could not write to its RAM"),
    (memory({"rom": False}), "memory.blocks[0].rom", "leaves no choice"),
    (memory({"mem-path": "/x"}), "memory.blocks[0].mem-path", "directory, device or namespace"),
    (memory({"discard_data": True}), "memory.blocks[0].discard_data", "stays off"),
    (memory({"hugetlbsize": "2M"}), "memory.blocks[0].hugetlbsize", "is page_size"),
    (memory({"share": True}), "memory.blocks[0].share", "is mmap"),
    (memory({"directory": "ram"}), "memory.blocks[0].directory", "absolute path"),
    (memory({"directory": "/dev/shm/"}), "memory.blocks[0].directory", "absolute path"),
    (memory({"directory": "/dev//shm"}), "memory.blocks[0].directory", "absolute path"),
    (memory({"directory": "/dev/shm/../etc"}), "memory.blocks[0].directory", "absolute path"),
    (memory({"directory": "/dev/shm/@log@"}), "memory.blocks[0].directory", "placeholders"),
    (memory({"backing": "file"}), "memory.blocks[0].directory", "is required"),
    (
        memory({"backing": "memfd", "directory": "/dev/shm"}),
        "memory.blocks[0].directory",
        "no meaning with backing memfd",
    ),
    (memory({"backing": "memfd", "mode": "open"}), "memory.blocks[0].mode", "no meaning with backing memfd"),
    (
        memory({"backing": "memfd", "filesystem": "tmpfs"}),
        "memory.blocks[0].filesystem",
        "no meaning with backing memfd",
    ),
    (memory({"backing": "hugetlbfs"}), "memory.blocks[0].page_size", "is required"),
    (
        memory({"backing": "hugetlbfs", "page_size": "2M", "size": "257M"}),
        "memory.blocks[0].size",
        "not a multiple of the page size 2M",
    ),
    (memory({"backing": "memfd", "size": "68K"}), "memory.blocks", "must be a multiple of 8K"),
    (memory({"backing": "hugetlbfs", "page_size": "3M"}), "memory.blocks[0].page_size", "is not a page size"),
    (memory({"backing": "hugetlbfs", "page_size": 1024}), "memory.blocks[0].page_size", "is not a page size"),
    (memory({"backing": "hugetlbfs", "page_size": "4K"}), "memory.blocks[0].page_size", "is not a page size"),
    (memory({"backing": "memfd", "page_size": "4K"}), "memory.blocks[0].page_size", "is not a page size"),
    (
        memory({"backing": "hugetlbfs", "page_size": "2M", "filesystem": "dax"}),
        "memory.blocks[0].filesystem",
        "contradicts",
    ),
    (memory({"page_size": "2M"}), "memory.blocks[0].page_size", "the mount decides"),
    (memory({"filesystem": "hugetlbfs"}), "memory.blocks[0].filesystem", "contradicts backing tmpfs"),
    (memory({"filesystem": "ext4"}), "memory.blocks[0].filesystem", "is not one of"),
    (memory({"mode": "truncate"}), "memory.blocks[0].mode", "is not one of"),
    (memory({"mmap": "anonymous"}), "memory.blocks[0].mmap", "is not one of"),
    (memory({"mmap": "private"}), "memory.blocks[0].mmap", "costs the memory twice"),
    (memory({"backing": "memfd", "mmap": "private"}), "memory.blocks[0].mmap", "costs the memory twice"),
    (
        memory({"backing": "file", "directory": "/srv/ram", "mmap": "private", "prealloc": True}),
        "memory.blocks[0].prealloc",
        "copies every page",
    ),
    (memory({"prealloc": "on"}), "memory.blocks[0].prealloc", "must be true or false"),
    (memory({"prealloc_threads": 2}), "memory.blocks[0].prealloc_threads", "needs prealloc"),
    (memory({"prealloc": True, "prealloc_threads": 0}), "memory.blocks[0].prealloc_threads", "whole number"),
    (memory({"reserve": False}), "memory.blocks[0].reserve", "reserves nothing"),
    (
        memory({"backing": "hugetlbfs", "page_size": "2M", "mmap": "private", "reserve": False}),
        "memory.blocks[0].reserve",
        "SIGBUS",
    ),
    (memory({"seal": False}), "memory.blocks[0].seal", "memfd only"),
    (memory({"align": "3M"}), "memory.blocks[0].align", "power of two"),
    (memory({"align": 512}), "memory.blocks[0].align", "power of two"),
    (memory({"offset": "2M"}), "memory.blocks[0].offset", "a device only"),
    (memory({"read_only": True}), "memory.blocks[0].read_only", "needs mmap private and mode open"),
    (memory({"pmem": True}), "memory.blocks[0].pmem", "without MAP_SYNC"),
    (memory({**DAX, "mmap": "private", "pmem": True}), "memory.blocks[0].pmem", "needs mmap shared"),
    (memory({"backing": "dax"}), "memory.blocks[0].directory", "is required"),
    (memory({**DAX, "page_size": "2M"}), "memory.blocks[0].page_size", "the mount decides"),
    (memory({**DAX, "filesystem": "tmpfs"}), "memory.blocks[0].filesystem", "contradicts backing dax"),
    (memory({**DAX, "policy": "bind", "host_nodes": [0]}), "memory.blocks[0].host_nodes", "where the device is"),
    (memory({"backing": "file", "device": "/dev/dax0.0"}), "memory.blocks[0].device", "needs backing dax"),
    (memory({"backing": "dax", "device": "/dev/pmem0"}), "memory.blocks[0].device", "is not a devdax device"),
    (memory({**DAX, "device": "/dev/dax0.0"}), "memory.blocks[0].directory", "no meaning with a device"),
    (memory({**DEVDAX, "namespace": "web1"}), "memory.blocks[0].namespace", "leave one of them out"),
    (memory({**DAX, "namespace": "web1"}), "memory.blocks[0].directory", "no meaning with a device"),
    (memory({"backing": "tmpfs", "namespace": "web1"}), "memory.blocks[0].namespace", "needs backing dax"),
    (memory({"backing": "dax", "namespace": " web1"}), "memory.blocks[0].namespace", "is not the name or UUID"),
    (memory({"backing": "dax", "namespace": "n" * 64}), "memory.blocks[0].namespace", "is not the name or UUID"),
    (memory({"backing": "dax", "namespace": ""}), "memory.blocks[0].namespace", "is not the name or UUID"),
    (memory({"backing": "dax", "namespace": "web1", "offset": "1M"}), "memory.blocks[0].offset", "multiple of align"),
    (
        definition(nvdimms=[{"id": "nv0", "namespace": "web1", "path": "/dev/dax0.0", "size": "2M"}]),
        "nvdimms[0].namespace",
        "leave one of them out",
    ),
    (
        {
            **memory({"backing": "dax", "namespace": "web1"}),
            "nvdimms": [{"id": "nv0", "namespace": "web1", "size": "2M"}],
        },
        "memory.blocks",
        "ram0 and nv0 share a part of web1",
    ),
    (memory({**DEVDAX, "mmap": "private"}), "memory.blocks[0].mmap", "refused by the kernel"),
    (memory({**DEVDAX, "mode": "temp"}), "memory.blocks[0].mode", "no file name"),
    (memory({**DEVDAX, "offset": "1M"}), "memory.blocks[0].offset", "multiple of align (2M)"),
    (
        memory({**DEVDAX, "numa_node": 0}, {**DEVDAX, "id": "ram1", "numa_node": 1, "offset": "254M"}),
        "memory.blocks",
        "ram0 and ram1 share a part of /dev/dax0.0",
    ),
    (
        {**memory(DEVDAX), "nvdimms": [{"id": "nv0", "path": "/dev/dax0.0", "size": "2M"}]},
        "memory.blocks",
        "ram0 and nv0 share a part of /dev/dax0.0",
    ),
    (memory({**DEVDAX, "size": "257M"}), "memory.blocks[0].size", "device's align (2M)"),
    (memory({"policy": "bind"}), "memory.blocks[0].policy", "needs host_nodes"),
    (memory({"policy": "local"}), "memory.blocks[0].policy", "is not one of"),
    (memory({"host_nodes": [0]}), "memory.blocks[0].host_nodes", "needs a policy"),
    (memory({"host_nodes": 0, "policy": "bind"}), "memory.blocks[0].host_nodes", "must be a list"),
    (memory({"host_nodes": ["0"], "policy": "bind"}), "memory.blocks[0].host_nodes[0]", "number of a NUMA node"),
    (memory({"host_nodes": [0, -1], "policy": "bind"}), "memory.blocks[0].host_nodes[1]", "number of a NUMA node"),
    (memory({"numa_node": -1}), "memory.blocks[0].numa_node", "whole number"),
    (memory({"numa_node": 1}), "memory.blocks", "must number the blocks 0 to 0"),
    (memory({"shared": True}), "memory.blocks[0].shared", "is not known here"),
    (definition(nvdimms=[{**NVDIMM, "size": "65M"}]), "nvdimms[0].size", "not a multiple of 2M"),
    (definition(nvdimms=[without(NVDIMM, "size")]), "nvdimms[0].size", "is required"),
    (definition(nvdimms=[without(NVDIMM, "path")]), "nvdimms[0].path", "is required"),
    (definition(nvdimms=[{**NVDIMM, "label_size": "64K"}]), "nvdimms[0].label_size", "from 128K on"),
    (definition(nvdimms=[{**NVDIMM, "label_size": "64M"}]), "nvdimms[0].label_size", "leaves nothing"),
    (definition(nvdimms=[{**NVDIMM, "read_only": True, "pmem": True}]), "nvdimms[0].pmem", "nothing is written"),
    (definition(nvdimms=[{**NVDIMM, "id": "ram0"}]), "nvdimms[0].id", "is taken by memory.blocks[0].id"),
    (definition(nvdimms=[NVDIMM, {**NVDIMM, "id": "nv1"}]), "disks", "/pm/web1.nv0 is written by one"),
    (definition(nvdimms=[{**NVDIMM, "share": True}]), "nvdimms[0].share", "is not known here"),
    (memory({}, {}), "memory.blocks[1].id", "'ram0' is taken by memory.blocks[0].id"),
    (memory({}, {"id": "ram1"}), "memory.blocks", "give each its numa_node"),
    (memory({"numa_node": 0}, {"id": "ram1"}), "memory.blocks", "give each its numa_node"),
    (memory({"numa_node": 0}, {"id": "ram1", "numa_node": 0}), "memory.blocks", "must number the blocks 0 to 1"),
    (memory({"numa_node": 1}, {"id": "ram1", "numa_node": 2}), "memory.blocks", "must number the blocks 0 to 1"),
]

SAVE = {"on_host_shutdown": "save"}
FILE = {"backing": "file", "directory": "/srv/ram/web1"}
LASTING = [
    ({**memory({}), **SAVE}, "on_host_shutdown", "ram0 lies on tmpfs"),
    ({**memory({"backing": "memfd"}), **SAVE}, "on_host_shutdown", "ram0 is a memfd"),
    ({**memory({"backing": "hugetlbfs", "page_size": "2M"}), **SAVE}, "on_host_shutdown", "ram0 lies on hugetlbfs"),
    ({**memory({**FILE, "filesystem": "tmpfs"}), **SAVE}, "on_host_shutdown", "ram0 lies on tmpfs"),
    ({**memory({**FILE, "filesystem": "hugetlbfs"}), **SAVE}, "on_host_shutdown", "ram0 lies on hugetlbfs"),
    ({**memory({**FILE, "mmap": "private"}), **SAVE}, "on_host_shutdown", "ram0 is mapped private"),
    ({**memory({**FILE, "mode": "temp"}), **SAVE}, "on_host_shutdown", "ram0 is an unlinked file"),
    (
        {**memory({**FILE, "numa_node": 0}, {"id": "ram1", "numa_node": 1}), **SAVE},
        "on_host_shutdown",
        "ram1 lies on tmpfs",
    ),
]

BAD_SIZES = [
    0,
    -1,
    "0",
    "-256M",
    "",
    "M",
    "256X",
    "1.5G",
    "256M,share=off",
    "0x100",
    "1e9",
    1.5,
    True,
    False,
    [],
    {},
    "4097",
    4095,
    "1G1M",
    " 1G",
    "1M\n",
    "\u0662M",
    "4\u212a",
]

DISKS = [
    (definition(disks=[{"id": "d0", "format": "raw"}]), "disks[0].path", "is required"),
    (definition(disks=[{"path": "/srv/a", "format": "raw"}]), "disks[0].id", "is required"),
    (definition(disks=[{"id": "d0", "path": "/srv/a"}]), "disks[0].format", "is required"),
    (disks({"path": "a.qcow2"}), "disks[0].path", "absolute path"),
    (disks({"path": "nbd://host/a"}), "disks[0].path", "absolute path"),
    (disks({"path": "/srv/@generation@/a"}), "disks[0].path", "placeholders"),
    (disks({"path": "/srv/a\0b"}), "disks[0].path", "NUL"),
    (disks({"format": "vmdk"}), "disks[0].format", "is not one of"),
    (disks({"interface": "nvme"}), "disks[0].interface", "is not one of"),
    (disks({"cache": "unsafe"}), "disks[0].cache", "is not one of"),
    (disks({"aio": "native"}), "disks[0].aio", "needs cache none"),
    (disks({"read_only": "no"}), "disks[0].read_only", "must be true or false"),
    (disks({"boot_index": -1}), "disks[0].boot_index", "whole number"),
    (disks({"boot_index": "1"}), "disks[0].boot_index", "whole number"),
    (disks({"size": "1G"}), "disks[0].size", "is not known here"),
    (disks({}, {}), "disks[1].id", "'d0' is taken by disks[0].id"),
    (disks({}, {"id": "d1"}), "disks", "/srv/web1.qcow2 is written by one disk or NVDIMM and used by another"),
    (
        disks({}, {"id": "d1", "read_only": True}),
        "disks",
        "/srv/web1.qcow2 is written by one disk or NVDIMM and used by another",
    ),
    (disks({"id": "d" * 27}), "disks[0].id", "begin with a letter"),  # node names have 31 characters at most
    (disks({"boot_index": 1}, {"id": "d1", "path": "/srv/b", "boot_index": 1}), "disks", "boot_index 1 is given twice"),
    (disks({"id": "scsi0", "interface": "scsi"}), "disks[0].id", f"'scsi0' {OURS}"),
    (disks({"id": "ram0"}), "disks[0].id", "'ram0' is taken by memory.blocks[0].id"),
    (disks({"id": "video"}), "disks[0].id", f"'video' {OURS}"),
]

NICS = [
    (nics({"id": "n,0"}), "nics[0].id", "begin with a letter"),
    (nics({"type": "bridge"}), "nics[0].type", "is not one of"),
    (nics({"bridge": "a-very-long-name"}), "nics[0].bridge", "interface name"),
    (nics({"bridge": "br0,script=/x"}), "nics[0].bridge", "interface name"),
    (nics({"tap": "tap/0"}), "nics[0].tap", "base name for two interfaces"),
    (nics({"tap": "tap.0"}), "nics[0].tap", "base name for two interfaces"),
    (nics({"tap": "t" * 14}), "nics[0].tap", "1 to 13 characters"),
    (definition(nics=[{"id": "n0", "bridge": "br0"}]), "nics[0].mac", "is required"),
    (nics({"mac": "52:54:00:12:34"}), "nics[0].mac", "unicast MAC address"),
    (nics({"mac": "53:54:00:12:34:56"}), "nics[0].mac", "unicast MAC address"),
    (nics({"mac": "52-54-00-12-34-56"}), "nics[0].mac", "unicast MAC address"),
    (nics({"mac": 90520730730496}), "nics[0].mac", "must be a non-empty text"),
    (nics({"queues": 0}), "nics[0].queues", "whole number"),
    (nics({"model": "e1000e", "queues": 2}), "nics[0].queues", "virtio-net model"),
    (
        definition(nics=[{"id": "n0", "type": "user", "mac": "52:54:00:12:34:56", "queues": 2}]),
        "nics[0].queues",
        "more than one needs a tap",
    ),
    (nics({"model": "virtio-net-pci,romfile=/x"}), "nics[0].model", "is not a device name"),
    (nics({"type": "user"}), "nics[0].type", "neither bridge nor tap"),
    (nics({"vlan": 1}), "nics[0].vlan", "is not known here"),
    (nics({}, {"id": "n1", "tap": "other"}), "nics", "mac 52:54:00:12:34:56 is given twice"),
    (nics({"tap": "t0"}, {"id": "n1", "mac": "52:54:00:12:34:57", "tap": "t0"}), "nics", "tap t0 is given twice"),
]

CONSOLES = [
    (consoles({"id": ""}), "consoles[0].id", "non-empty"),
    (consoles({"id": "a/b"}), "consoles[0].id", "begin with a letter"),
    (consoles({"type": "usb"}), "consoles[0].type", "is not one of"),
    (consoles({"to": "/var/log/x"}), "consoles[0].to", "is not one of"),
    (consoles({"path": "/var/log/x"}), "consoles[0].path", "is not known here"),
    (consoles({}, {}), "consoles[1].id", "'c0' is taken by consoles[0].id"),
    (consoles({"id": "qga"}), "consoles[0].id", f"'qga' {OURS}"),
    (consoles({"id": "virtio-serial0", "type": "virtio"}), "consoles[0].id", f"'virtio-serial0' {OURS}"),
    (consoles({"id": "qmp", "to": "socket"}), "consoles[0].id", f"'qmp' {OURS}"),
    (consoles(*({"id": f"c{number}"} for number in range(5))), "consoles", "4 serial ports"),
]


def problems(data: Any) -> list[str]:
    """What is wrong with a definition."""
    with pytest.raises(DefinitionError) as caught:
        parse_definition(data)
    return caught.value.problems


@pytest.mark.parametrize(("data", "key", "reason"), [*TOP_LEVEL, *MEMORY, *LASTING, *DISKS, *NICS, *CONSOLES])
def test_bad_input_is_refused_with_key_and_reason(data: Any, key: str, reason: str) -> None:
    found = problems(data)
    assert [line for line in found if line.startswith(f"{key}: ") and reason in line], found


@pytest.mark.parametrize("machine", ALIASES)
def test_machine_without_version_is_refused(machine: str) -> None:
    assert [
        line
        for line in problems(definition(machine=machine))
        if line.startswith("machine: ") and "versioned type" in line
    ]


@pytest.mark.parametrize("size", BAD_SIZES)
def test_bad_size_is_refused(size: Any) -> None:
    assert [line for line in problems(memory({"size": size})) if line.startswith("memory.blocks[0].size: ")]


def test_every_problem_is_reported_once() -> None:
    data = definition(
        machine="q35", memory={"blocks": [{"size": "1X", "id": "a,b"}]}, disks=[{"id": "d0"}], colour="blue"
    )
    assert [line.split(": ")[0] for line in problems(data)] == [
        "machine",
        "memory.blocks[0].id",
        "memory.blocks[0].size",
        "disks[0].path",
        "disks[0].format",
        "colour",
    ]


def test_the_message_carries_every_problem() -> None:
    with pytest.raises(DefinitionError, match=r"machine: .*; .*name: ") as caught:
        parse_definition(definition(machine="q35", memory={"blocks": [{"size": "1M", "name": "x"}]}))
    error = caught.value
    assert error.message.endswith("; ".join(error.problems))
    assert str(error) == f"{error.message} Cure: {error.cure}"
