# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd says of the guests' unit, and what that means for devices."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.unit_properties import parse_properties
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.device_access import unit_allows
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.limit_information import described

NOT_FOUND = """\
Slice=
MemoryHigh=infinity
MemoryMax=infinity
MemorySwapMax=infinity
DevicePolicy=auto
LimitMEMLOCK=8388608
LimitMEMLOCKSoft=8388608
PrivateDevices=no
LoadState=not-found
"""
SHOWN = """\
Slice=machine.slice
MemoryHigh=infinity
MemoryMax=1073741824
MemorySwapMax=0
DevicePolicy=closed
DeviceAllow=/dev/kvm rw
DeviceAllow=/dev/net/tun rw
DeviceAllow=/dev/userfaultfd r
LimitMEMLOCK=infinity
LimitMEMLOCKSoft=8388608
PrivateDevices=no
LoadState=loaded
"""


def test_unit() -> None:
    assert described(parse_properties(NOT_FOUND)) is None
    assert described(parse_properties(SHOWN)) == {
        "slice": "machine.slice",
        "memlock": {"soft": 8388608, "hard": None},
        "memory_max": 1 << 30,
        "memory_high": None,
        "memory_swap_max": 0,
        "device_policy": "closed",
        "device_allow": [
            {"path": "/dev/kvm", "access": "rw"},
            {"path": "/dev/net/tun", "access": "rw"},
            {"path": "/dev/userfaultfd", "access": "r"},
        ],
        "private_devices": False,
    }


@pytest.mark.parametrize(
    ("changes", "path", "wanted"),
    [
        ({}, "/dev/kvm", True),
        ({}, "/dev/userfaultfd", False),
        ({}, "/dev/other", False),
        ({"private_devices": True}, "/dev/kvm", False),
        ({"device_policy": "auto"}, "/dev/other", False),  # any DeviceAllow closes the rest
        ({"device_policy": "auto", "device_allow": []}, "/dev/other", True),
    ],
)
def test_devices(changes: dict[str, Any], path: str, wanted: bool) -> None:
    unit = described(parse_properties(SHOWN))
    assert unit is not None
    assert unit_allows({**unit, **changes}, path) == wanted
    assert unit_allows(None, path) is None
