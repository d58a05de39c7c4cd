# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mounts that a guest's unit waits for."""

from __future__ import annotations

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.definition import parse_definition
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.mount_dependencies import drop_in

from .definitions import DISK, definition, memory


def test_memory_and_disks_are_waited_for() -> None:
    blocks = [
        {"numa_node": 0, "backing": "dax", "directory": "/pm/web1"},
        {"id": "ram1", "numa_node": 1, "backing": "memfd"},
        {"id": "ram2", "numa_node": 2, "backing": "dax", "device": "/dev/dax0.0"},
    ]
    disks = [
        {**DISK, "path": '/srv/50% "a"\\b/web1.qcow2'},
        {**DISK, "id": "d1", "path": "/dev/vg/web1", "format": "raw"},
    ]
    text = drop_in(parse_definition({**memory(*blocks), "disks": disks}))
    assert text == '[Unit]\nRequiresMountsFor="/pm/web1"\nRequiresMountsFor="/srv/50%% \\"a\\"\\\\b"\n'


def test_a_guest_without_files_waits_for_nothing() -> None:
    assert drop_in(parse_definition(definition(memory={"blocks": [{"size": "256M", "backing": "memfd"}]}))) == ""
