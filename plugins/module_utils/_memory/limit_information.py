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
from .._host.errors import HostmemError
from .._host.hugepages import page_sizes
from .._host.hugetlb_cgroups import hugetlb_limits
from .._host.memory_cgroups import memory_limits
from .._host.process_memory import own_locked_memory_limit
from .._host.program_failures import program_failed
from .._host.programs import TimeoutExpired, run
from .pool_configuration import GUEST_GROUPS

# Any instance stands for all: systemd loads it from the template, and forgets it.
_INSTANCE = unit_name("host-memory-info")
_TIMEOUT = 20
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
    words = ["systemctl", "show", f"--property={','.join(_PROPERTIES)}", _INSTANCE]
    try:
        done = run(words, timeout=_TIMEOUT)
    except TimeoutExpired as error:
        raise HostmemError(
            f"systemctl show {_INSTANCE} does not end.",
            cause=f"systemd did not answer within {_TIMEOUT} s.",
            cure="See whether process 1 is well: systemctl is-system-running, journalctl -b _PID=1.",
        ) from error
    if done.returncode:
        raise program_failed(f"systemctl show {_INSTANCE} failed.", "systemctl", done.stderr)
    return parse_unit(done.stdout)


def parse_unit(text: str) -> dict[str, Any] | None:
    """The lines of systemctl show; None when there is no such unit."""
    values: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, _equals, value = line.partition("=")
        values.setdefault(key, []).append(value)

    def first(key: str) -> str:
        return values.get(key, [""])[0]

    if first("LoadState") != "loaded":
        return None
    allowed = [line.rpartition(" ") for line in values.get("DeviceAllow", []) if line]
    return {
        "slice": first("Slice"),
        "memlock": {"soft": _limit(first("LimitMEMLOCKSoft")), "hard": _limit(first("LimitMEMLOCK"))},
        "memory_max": _limit(first("MemoryMax")),
        "memory_high": _limit(first("MemoryHigh")),
        "memory_swap_max": _limit(first("MemorySwapMax")),
        "device_policy": first("DevicePolicy"),
        "device_allow": [{"path": path, "access": access} for path, _blank, access in allowed],
        "private_devices": first("PrivateDevices") == "yes",
    }


def _limit(text: str) -> int | None:
    return int(text) if text.isdigit() else None
