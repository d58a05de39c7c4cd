# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Good definitions are completed, and read back as they were written."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.definition import parse_definition

from .definitions import MINIMAL, consoles, definition, disks, memory, nics

FULL: dict[str, Any] = {
    "schema": 1,
    "name": "db_2-a",
    "qemu": "/opt/qemu 11,1/bin/qemu-system-x86_64",
    "machine": "pc-i440fx-9.2",
    "accel": "kvm",
    "cpu": {"model": "Nehalem,+aes,-x2apic", "count": 4},
    "memory": {
        "blocks": [
            {
                "id": "ram0",
                "size": "1G",
                "backing": "hugetlbfs",
                "page_size": "2M",
                "numa_node": 0,
                "host_nodes": [0, 1],
                "policy": "interleave",
            },
            {
                "id": "ram1",
                "size": 268435456,
                "backing": "file",
                "directory": "/srv/ram, fast",
                "numa_node": 1,
                "mmap": "private",
            },
        ]
    },
    "disks": [
        {
            "id": "d0",
            "path": "/srv/a, b=c.qcow2",
            "format": "qcow2",
            "cache": "none",
            "aio": "native",
            "discard": True,
            "boot_index": 1,
        },
        {"id": "d1", "path": "/srv/base.raw", "format": "raw", "interface": "scsi", "read_only": True},
    ],
    "nics": [
        {"id": "n0", "bridge": "br0", "mac": "52:54:00:AB:cd:56", "queues": 4},
        {"id": "n1", "type": "user", "mac": "52:54:00:00:00:01", "model": "e1000e"},
    ],
    "consoles": [{"id": "c0"}, {"id": "c1", "type": "virtio", "to": "socket"}],
    "guest_agent": True,
    "vnc": True,
    "video": "virtio",
    "kernel": {"image": "/boot/vmlinuz", "initrd": "/boot/initrd.img", "cmdline": "root=/dev/vda1 a=1,2 -- quiet"},
    "arguments": ["-device", "pvpanic"],
    "max_pause": 0.5,
}


def test_defaults() -> None:
    guest = parse_definition(definition())
    assert (guest.schema, guest.qemu, guest.cpu_model, guest.cpus) == (1, "/usr/bin/qemu-system-x86_64", "qemu64", 1)
    assert (guest.vnc, guest.guest_agent, guest.video, guest.kernel, guest.max_pause) == (
        False,
        False,
        "none",
        None,
        2.0,
    )
    (block,) = guest.blocks
    assert (block.id, block.size, block.directory, block.filesystem) == (
        "ram0",
        256 << 20,
        "/dev/shm/hostmem/web1",
        "tmpfs",
    )
    assert (block.mmap, block.mode, block.prealloc, block.policy) == ("shared", "create", False, "default")
    assert block.named


def test_cpu_defaults_to_the_host_only_where_kvm_can_show_it() -> None:
    assert parse_definition(definition(accel="kvm")).cpu_model == "host"
    assert parse_definition({key: value for key, value in MINIMAL.items() if key != "accel"}).cpu_model == "host"


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, ("poweroff", "start")),
        ({"on_power_cut": "refuse"}, ("poweroff", "refuse")),
        ({"on_host_shutdown": "save"}, ("save", "refuse")),
        ({"on_host_shutdown": "save", "on_power_cut": "start"}, ("save", "start")),
    ],
)
@pytest.mark.parametrize(
    "place",
    [
        {"backing": "dax", "directory": "/pm/web1"},
        {"backing": "dax", "device": "/dev/dax0.0"},
        {"backing": "file", "directory": "/srv/ram/web1", "mode": "open"},
    ],
)
def test_who_has_a_guest_saved_does_not_have_it_started_anew(
    place: dict[str, str], changes: dict[str, str], wanted: tuple[str, str]
) -> None:
    guest = parse_definition({**memory(place), **changes})
    assert (guest.on_host_shutdown, guest.on_power_cut) == wanted
    complete = guest.as_dict()
    assert (complete["on_host_shutdown"], complete["on_power_cut"]) == wanted


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], False),
        (["-device", "pvpanic,id=vfio-pci"], False),
        (["-device", "vfio-pci,host=0000:81:11.1"], True),
        (["-device", '{"driver": "vfio-pci", "host": "0000:81:11.1"}'], True),
        (["-device", "host=0000:81:11.1,driver=vfio-pci-nohotplug"], True),
    ],
)
def test_devices_of_the_hosts_own_are_known(arguments: list[str], wanted: bool) -> None:
    assert parse_definition(definition(arguments=arguments)).has_vfio is wanted


def test_full_definition() -> None:
    guest = parse_definition(FULL)
    assert guest.memory_size == 1280 << 20
    assert [block.directory for block in guest.blocks] == ["/dev/hugepages/hostmem/db_2-a", "/srv/ram, fast"]
    assert guest.disks[0].path == "/srv/a, b=c.qcow2"
    assert guest.nics[0].mac == "52:54:00:ab:cd:56"
    assert guest.nics[1].tap == guest.nics[1].bridge == ""


@pytest.mark.parametrize("data", [definition(), FULL], ids=["minimal", "full"])
def test_complete_form_is_read_back_as_the_same_guest(data: dict[str, Any]) -> None:
    guest = parse_definition(data)
    complete = json.loads(json.dumps(guest.as_dict()))
    assert parse_definition(complete) == guest
    assert parse_definition(complete).as_dict() == guest.as_dict()


def test_the_given_mapping_is_left_alone() -> None:
    data = copy.deepcopy(FULL)
    parse_definition(data)
    assert data == FULL


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        (8192, 8192),
        ("8192", 8192),
        ("8K", 8192),
        ("256M", 256 << 20),
        ("256MiB", 256 << 20),
        ("1g", 1 << 30),
        ("1 G", 1 << 30),
        ("2T", 2 << 40),
    ],
)
def test_sizes(size: Any, wanted: int) -> None:
    assert parse_definition(memory({"size": size})).memory_size == wanted


@pytest.mark.parametrize("machine", ["pc-q35-10.0", "pc-q35-11.1", "pc-i440fx-7.2", "pc-q35-2.12"])
def test_versioned_machines(machine: str) -> None:
    assert parse_definition(definition(machine=machine)).machine == machine


@pytest.mark.parametrize(
    ("block", "named"),
    [
        ({"backing": "tmpfs"}, True),
        ({"backing": "tmpfs", "mode": "open"}, True),
        ({"backing": "tmpfs", "mode": "temp"}, False),
        ({"backing": "memfd"}, False),
        ({"backing": "memfd", "page_size": "2M"}, False),
        ({"backing": "hugetlbfs", "page_size": "1G", "size": "2G"}, True),
        ({"backing": "file", "directory": "/srv/ram", "filesystem": "dax"}, True),
    ],
)
def test_blocks_with_a_named_file(block: dict[str, Any], named: bool) -> None:
    assert parse_definition(memory(block)).blocks[0].named is named


@pytest.mark.parametrize("node", [None, 0])
def test_one_block_may_be_a_numa_node(node: int | None) -> None:
    assert parse_definition(memory({"numa_node": node})).blocks[0].numa_node == node


def test_numa_nodes_in_any_order() -> None:
    guest = parse_definition(memory({"numa_node": 1}, {"id": "ram1", "numa_node": 0}))
    assert [block.numa_node for block in guest.blocks] == [1, 0]


def test_taps_of_one_guest_have_distinct_legal_names() -> None:
    macs = [f"52:54:00:00:00:{number:02x}" for number in range(12)]
    guest = parse_definition(
        {**nics(*({"id": f"n{number}", "mac": mac} for number, mac in enumerate(macs))), "name": "w" * 32}
    )
    taps = [nic.tap for nic in guest.nics]
    assert len(set(taps)) == len(taps)
    assert all(re.fullmatch(r"[a-z0-9]{1,13}", tap) for tap in taps)


def test_taps_of_guests_with_long_names_differ() -> None:
    taps = {parse_definition({**nics({}), "name": f"{c}-database-replica-1"}).nics[0].tap for c in ("eu", "us")}
    assert len(taps) == 2


def test_the_tap_of_a_guest_stays_the_same() -> None:
    first, again = (parse_definition(nics({})).nics[0].tap for _run in range(2))
    assert first == again


def test_one_image_may_be_read_by_two_disks() -> None:
    shared = {"path": "/srv/base.raw", "format": "raw", "read_only": True}
    assert len(parse_definition(disks({"id": "d0", **shared}, {"id": "d1", **shared})).disks) == 2


def test_consoles_default_to_a_serial_port_with_a_log() -> None:
    (console,) = parse_definition(consoles({})).consoles
    assert (console.type, console.to) == ("serial", "log")
