# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option values that the argv templates put together."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest import arguments
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.definition import parse_definition

from .definitions import consoles, definition, disks, memory, nics


def objects(*blocks: dict[str, Any]) -> list[str]:
    """Values of -object."""
    return arguments.memory_objects(parse_definition(memory(*blocks)))


def test_machine_uses_the_one_memory_backend() -> None:
    guest = parse_definition(definition())
    assert arguments.machine_options(guest) == "pc-q35-10.0,accel=tcg,memory-backend=ram0,aux-ram-share=on"
    assert arguments.numa_nodes(guest) == []
    assert arguments.memory_options(guest) == "size=262144k"


def test_auxiliary_memory_can_be_left_alone_for_an_older_qemu() -> None:
    guest = parse_definition(definition(aux_ram_share=False))
    assert arguments.machine_options(guest) == "pc-q35-10.0,accel=tcg,memory-backend=ram0"


def test_numa_nodes_use_every_memory_backend() -> None:
    guest = parse_definition({**memory({"numa_node": 1}, {"id": "ram1", "numa_node": 0}), "cpu": {"count": 3}})
    assert arguments.machine_options(guest) == "pc-q35-10.0,accel=tcg,aux-ram-share=on"
    assert arguments.numa_nodes(guest) == ["node,nodeid=0,cpus=0-0,memdev=ram1", "node,nodeid=1,cpus=1-2,memdev=ram0"]


@pytest.mark.parametrize(("cpus", "nodes"), [(1, 3), (2, 3), (3, 2), (4, 4), (7, 3)])
def test_every_vcpu_is_on_one_node(cpus: int, nodes: int) -> None:
    blocks = [{"id": f"ram{number}", "numa_node": number} for number in range(nodes)]
    found: list[int] = []
    for value in arguments.numa_nodes(parse_definition({**memory(*blocks), "cpu": {"count": cpus}})):
        given = dict(part.partition("=")[::2] for part in value.split(","))
        if "cpus" in given:
            first, last = given["cpus"].split("-")
            found.extend(range(int(first), int(last) + 1))
    assert found == list(range(cpus))


@pytest.mark.parametrize(
    ("block", "wanted"),
    [
        (
            {},
            (
                "memory-backend-file,id=ram0,size=268435456,share=on,prealloc=off,"
                "mem-path=/dev/shm/hostmem/web1/qemu_back_mem.0+10000000.ram0"
            ),
        ),
        (
            {"directory": "/srv/a, b", "backing": "file", "mmap": "private"},
            "memory-backend-file,id=ram0,size=268435456,share=off,prealloc=off,mem-path=/srv/a,, b/qemu_back_mem.0+10000000.ram0",
        ),
        (
            {"mode": "temp"},
            "memory-backend-file,id=ram0,size=268435456,share=on,prealloc=off,mem-path=/dev/shm/hostmem/web1",
        ),
        ({"backing": "memfd", "prealloc": True}, "memory-backend-memfd,id=ram0,size=268435456,share=on,prealloc=on"),
        (
            {"backing": "memfd", "page_size": "2M", "host_nodes": [0, 2], "policy": "bind"},
            (
                "memory-backend-memfd,id=ram0,size=268435456,share=on,prealloc=off,"
                "host-nodes=0,host-nodes=2,policy=bind,hugetlb=on,hugetlbsize=2097152"
            ),
        ),
        (
            {"prealloc": True, "prealloc_threads": 4},
            (
                "memory-backend-file,id=ram0,size=268435456,share=on,prealloc=off,"
                "mem-path=/dev/shm/hostmem/web1/qemu_back_mem.0+10000000.ram0"
            ),
        ),
        (
            {"backing": "memfd", "seal": False, "merge": False, "dump": False, "prealloc": True, "prealloc_threads": 4},
            (
                "memory-backend-memfd,id=ram0,size=268435456,share=on,prealloc=on,prealloc-threads=4,"
                "merge=off,dump=off,seal=off"
            ),
        ),
        (
            {"backing": "dax", "directory": "/pm/web1"},
            (
                "memory-backend-file,id=ram0,size=268435456,share=on,prealloc=off,"
                "mem-path=/pm/web1/qemu_back_mem.0+10000000.ram0,pmem=on"
            ),
        ),
        (
            {"backing": "dax", "directory": "/pm/web1", "pmem": False, "align": "2M"},
            (
                "memory-backend-file,id=ram0,size=268435456,share=on,prealloc=off,"
                "mem-path=/pm/web1/qemu_back_mem.0+10000000.ram0,align=2097152"
            ),
        ),
        (
            {"backing": "dax", "device": "/dev/dax0.1", "offset": "64M"},
            (
                "memory-backend-file,id=ram0,size=268435456,share=on,prealloc=off,"
                "mem-path=/dev/dax0.1,align=2097152,offset=67108864,pmem=on"
            ),
        ),
        (
            {
                "backing": "file",
                "directory": "/srv",
                "mmap": "private",
                "mode": "open",
                "read_only": True,
                "reserve": False,
            },
            (
                "memory-backend-file,id=ram0,size=268435456,share=off,prealloc=off,reserve=off,"
                "mem-path=/srv/qemu_back_mem.0+10000000.ram0,readonly=on,rom=off"
            ),
        ),
    ],
)
def test_memory_object(block: dict[str, Any], wanted: str) -> None:
    assert objects(block) == [wanted]


def test_what_qemu_fills_is_filled_by_threads_on_the_memory_s_nodes() -> None:
    block = {"backing": "memfd", "prealloc": True, "host_nodes": [0, 2], "policy": "bind"}
    assert objects(block) == [
        "thread-context,id=threads-ram0,node-affinity=0,node-affinity=2",
        "memory-backend-memfd,id=ram0,size=268435456,share=on,prealloc=on,"
        "host-nodes=0,host-nodes=2,policy=bind,prealloc-context=threads-ram0",
    ]


def test_disk_with_a_comma_and_spaces_in_its_path() -> None:
    (disk,) = parse_definition(disks({"path": '/srv/a, "b"=c', "cache": "none", "aio": "native"})).disks
    node = json.loads(arguments.disk_blockdev(disk))
    assert node["file"] == {"driver": "file", "filename": '/srv/a, "b"=c', "aio": "native", "cache": {"direct": True}}
    assert (node["driver"], node["node-name"], node["read-only"], node["cache"]) == (
        "qcow2",
        "disk-d0",
        False,
        {"direct": True},
    )


@pytest.mark.parametrize(
    ("path", "driver"), [("/dev/vg0/web1", "host_device"), ("/dev/shm/web1", "file"), ("/srv/web1", "file")]
)
def test_block_devices_are_opened_as_such(path: str, driver: str) -> None:
    (disk,) = parse_definition(disks({"path": path})).disks
    assert arguments.blockdev(disk)["file"]["driver"] == driver


@pytest.mark.parametrize(
    ("disk", "wanted"),
    [
        ({}, "virtio-blk-pci,id=d0,drive=disk-d0"),
        ({"boot_index": 0}, "virtio-blk-pci,id=d0,drive=disk-d0,bootindex=0"),
        ({"interface": "scsi"}, "scsi-hd,id=d0,drive=disk-d0,bus=scsi0.0"),
        ({"interface": "sata"}, "ide-hd,id=d0,drive=disk-d0"),
    ],
)
def test_disk_device(disk: dict[str, Any], wanted: str) -> None:
    assert arguments.disk_device(parse_definition(disks(disk)).disks[0]) == wanted


def test_tap_comes_as_descriptors_that_the_runtime_opens() -> None:
    (nic,) = parse_definition(nics({"tap": "t0", "queues": 2})).nics
    assert arguments.nic_netdev(nic) == "tap,id=net-n0,fds=@tap-n0@,vhost=off"
    assert arguments.nic_device(nic) == "virtio-net-pci,id=n0,netdev=net-n0,mac=52:54:00:12:34:56,mq=on,vectors=6"


@pytest.mark.parametrize("model", ["virtio-net-pci", "e1000e"])
def test_a_single_queue_fits_every_model(model: str) -> None:
    (nic,) = parse_definition(nics({"model": model})).nics
    assert arguments.nic_device(nic) == f"{model},id=n0,netdev=net-n0,mac=52:54:00:12:34:56"


def test_user_network() -> None:
    (nic,) = parse_definition(definition(nics=[{"id": "n0", "type": "user", "mac": "52:54:00:12:34:56"}])).nics
    assert arguments.nic_netdev(nic) == "user,id=net-n0"


def test_console_logs_are_appended_and_sockets_belong_to_the_generation() -> None:
    log, socket = parse_definition(consoles({}, {"id": "c1", "to": "socket"})).consoles
    assert arguments.console_chardev(log) == "file,id=chr-c0,path=@log@/console-c0.log,append=on"
    assert arguments.console_chardev(socket) == "socket,id=chr-c1,path=@generation@/c1.sock,server=on,wait=off"
