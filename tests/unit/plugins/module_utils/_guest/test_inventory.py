# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two inventories held against each other."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.inventory import differences

IMAGE: dict[str, Any] = {"format": "qcow2", "path": "/srv/a", "identity": [1, 2], "read_only": False, "driver": "qcow2"}
BASE: dict[str, Any] = {"format": "raw", "path": "/srv/base", "identity": [1, 3]}
RUNNING: dict[str, Any] = {
    "machine": {"type": "pc-q35-10.0", "aux_ram_share": True, "memory_backend": "/objects/ram0"},
    "ram_blocks": {"ram0": 1 << 28, "pc.bios": 1 << 18},
    "memory_backends": {"ram0": {"size": 1 << 28, "share": True}},
    "devices": {"d0": "child<virtio-blk-pci>"},
    "nameless_devices": ["child<pvpanic>", "child<pvpanic>"],
    "objects": {"ram0": "child<memory-backend-file>"},
    "pci": ["00:00.0 8086:29c0", "00:02.0 1af4:1042 d0"],
    "disks": {"d0": [IMAGE, BASE]},
    "character_devices": ["chr-c0"],
    "cpus": [(0, "/machine/unattached/device[0]")],
}


def changed(*path: Any, to: Any) -> dict[str, Any]:
    """The inventory with one value replaced."""
    other = copy.deepcopy(RUNNING)
    place: Any = other
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return other


def test_the_same() -> None:
    assert differences(RUNNING, copy.deepcopy(RUNNING)) == []


def test_one_of_the_two_may_have_been_written_to_a_file() -> None:
    assert differences(json.loads(json.dumps(RUNNING)), RUNNING) == []


@pytest.mark.parametrize(
    ("other", "wanted"),
    [
        (
            changed("machine", "type", to="pc-q35-11.1"),
            "machine.type: 'pc-q35-10.0' in the running guest, 'pc-q35-11.1' otherwise",
        ),
        (
            changed("machine", "aux_ram_share", to=None),
            "machine.aux_ram_share: True in the running guest, None otherwise",
        ),
        (
            changed("ram_blocks", "pc.bios", to=1 << 17),
            "ram_blocks.pc.bios: 262144 in the running guest, 131072 otherwise",
        ),
        (changed("ram_blocks", "vga.vram", to=1 << 24), "ram_blocks: vga.vram is not in the running guest"),
        (changed("ram_blocks", to={"ram0": 1 << 28}), "ram_blocks: pc.bios is in the running guest only"),
        (
            changed("memory_backends", "ram0", "share", to=False),
            "memory_backends.ram0.share: True in the running guest, False otherwise",
        ),
        (
            changed("devices", "d0", to="child<scsi-hd>"),
            "devices.d0: 'child<virtio-blk-pci>' in the running guest, 'child<scsi-hd>' otherwise",
        ),
        (
            changed("nameless_devices", to=["child<pvpanic>"]),
            "nameless_devices: child<pvpanic> is in the running guest only",
        ),
        (
            changed("nameless_devices", to=["child<pvpanic>"] * 3),
            "nameless_devices: child<pvpanic> is not in the running guest",
        ),
        (changed("pci", 1, to="00:03.0 1af4:1042 d0"), "pci: 00:02.0 1af4:1042 d0 is in the running guest only"),
        (changed("disks", to={}), "disks: d0 is in the running guest only"),
        (changed("disks", "d0", to=[IMAGE]), "disks.d0: ["),
        (changed("disks", "d0", 0, "identity", to=[1, 9]), "disks.d0: ["),
        (changed("disks", "d0", 0, "format", to="raw"), "disks.d0: ["),
        (changed("disks", "d0", 0, "read_only", to=True), "disks.d0: ["),
        (changed("character_devices", to=[]), "character_devices: chr-c0 is in the running guest only"),
        (changed("cpus", to=[]), "cpus: [(0, '/machine/unattached/device[0]')] in the running guest, [] otherwise"),
        ({key: value for key, value in RUNNING.items() if key != "cpus"}, ": cpus is in the running guest only"),
    ],
)
def test_what_differs_is_said(other: dict[str, Any], wanted: str) -> None:
    assert [line for line in differences(RUNNING, other) if line.startswith(wanted)], differences(RUNNING, other)
    assert len(differences(other, RUNNING)) == len(differences(RUNNING, other))


def test_the_order_of_devices_is_no_difference() -> None:
    assert differences(RUNNING, changed("pci", to=RUNNING["pci"][::-1])) == []


def test_an_image_is_known_by_its_file_not_by_its_path() -> None:
    assert differences(RUNNING, changed("disks", "d0", 0, "path", to="/srv/./a")) == []


def test_an_image_without_a_file_is_known_by_its_name() -> None:
    running, other = (changed("disks", "d0", 0, "identity", to=None) for _side in range(2))
    assert differences(running, other) == []
    other["disks"]["d0"][0]["path"] = "nbd://b"
    assert len(differences(running, other)) == 1


def test_neither_side_is_changed() -> None:
    running, other = copy.deepcopy(RUNNING), changed("pci", to=[])
    before = copy.deepcopy(other)
    differences(running, other)
    assert (running, other) == (RUNNING, before)
