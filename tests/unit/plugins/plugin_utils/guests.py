# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests with something of everything, for the tests of rendered arguments."""

from __future__ import annotations

from typing import Any

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.definition import Definition, parse_definition

GUEST: dict[str, Any] = {
    "name": "web1",
    "machine": "pc-q35-10.0",
    "accel": "tcg",
    "memory": {"blocks": [{"size": "256M", "backing": "file", "directory": "/srv/ram, fast"}]},
    "disks": [
        {"id": "d0", "path": "/srv/a, b.qcow2", "format": "qcow2"},
        {"id": "d1", "path": "/srv/c.raw", "format": "raw", "interface": "scsi", "read_only": True},
    ],
    "nics": [{"id": "n0", "bridge": "br0", "mac": "52:54:00:12:34:56"}],
    "consoles": [{"id": "c0"}, {"id": "c1", "type": "virtio", "to": "socket"}],
    "guest_agent": True,
    "vnc": True,
    "video": "std",
    "kernel": {"image": "/boot/vm linuz", "cmdline": "console=ttyS0 a=1,2 {{ 7 * 6 }} <&>"},
    "arguments": ["-device", "pvpanic", "-smbios", "type=1,serial=a,,b"],
}

NUMA: dict[str, Any] = {
    **GUEST,
    "memory": {
        "blocks": [{"id": "ram0", "size": "256M", "numa_node": 0}, {"id": "ram1", "size": "1G", "numa_node": 1}]
    },
}


def guest(**changes: Any) -> Definition:
    """The guest with top-level keys replaced."""
    return parse_definition({**GUEST, **changes})
