# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What limits the memory of guests: memory that may be locked, what systemd sets for their unit, and control groups."""

from __future__ import annotations

import os
from typing import Any

from .._guest.config import Config
from .._guest.systemd import unit_name
from .._host.cgroups import hierarchy
from .._host.hugepages import page_sizes
from .._host.hugetlb_cgroups import hugetlb_limits
from .._host.memory_cgroups import memory_limits
from .._host.process_memory import own_locked_memory_limit
from .._host.unit_properties import Properties, first, unit_properties
from .pool_configuration import GUEST_GROUPS

# Any instance stands for all: systemd loads it from the template, and forgets it.
_INSTANCE = unit_name("host-memory-info")
_PROPERTIES = (
    *("LoadState", "Slice", "LimitMEMLOCK", "LimitMEMLOCKSoft", "MemoryMax", "MemoryHigh", "MemorySwapMax"),
    *("DevicePolicy", "DeviceAllow", "PrivateDevices"),
)


def limits(unit: dict[str, Any] | None) -> dict[str, Any]:
    """Of this session, of the guests' unit, and of every group that guests run in."""
    return {
        "memlock": locked_memory(),
        "unit": unit,
        "cgroups": [item.as_dict() for item in _memory()] + _huge_pages(),
    }


def locked_memory() -> dict[str, int | None]:
    """RLIMIT_MEMLOCK of this session, in bytes; None for no limit."""
    found = own_locked_memory_limit()
    return {"soft": found.soft, "hard": found.hard}


def _memory() -> list[Any]:
    root = hierarchy("memory")
    return memory_limits(root, GUEST_GROUPS) if root else []


def _huge_pages() -> list[dict[str, Any]]:
    root = hierarchy("hugetlb")
    return [
        {**limit.as_dict(), "limits": "reserved huge pages" if limit.reservations else "huge pages", "page_size": size}
        for size in page_sizes()
        for limit in (hugetlb_limits(root, size, GUEST_GROUPS) if root else [])
    ]


def guest_unit(config: Config | None) -> dict[str, Any] | None:
    """What systemd would set for a guest; None where guests are no units.

    :raises HostmemError: systemd does not tell.
    """
    if config is not None and config.manager != "systemd":
        return None
    if not os.path.isdir("/run/systemd/system"):  # sd_booted(3)
        return None
    return described(unit_properties([_INSTANCE], _PROPERTIES)[0])


def described(unit: Properties) -> dict[str, Any] | None:
    """What systemd says of the unit, for a result; None when there is no such unit."""
    if first(unit, "LoadState") != "loaded":
        return None
    allowed = [line.rpartition(" ") for line in unit.get("DeviceAllow", []) if line]
    return {
        "slice": first(unit, "Slice"),
        "memlock": {"soft": _limit(first(unit, "LimitMEMLOCKSoft")), "hard": _limit(first(unit, "LimitMEMLOCK"))},
        "memory_max": _limit(first(unit, "MemoryMax")),
        "memory_high": _limit(first(unit, "MemoryHigh")),
        "memory_swap_max": _limit(first(unit, "MemorySwapMax")),
        "device_policy": first(unit, "DevicePolicy"),
        "device_allow": [{"path": path, "access": access} for path, _blank, access in allowed],
        "private_devices": first(unit, "PrivateDevices") == "yes",
    }


def _limit(text: str) -> int | None:
    return int(text) if text.isdigit() else None
