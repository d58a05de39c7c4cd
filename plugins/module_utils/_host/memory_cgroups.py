# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Limits that control groups put on memory (Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst).

Pages of tmpfs and memfd count where they were touched first; huge pages of a pool and DAX do not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .cgroups import group_name, groups, hierarchy, limit_in
from .mounts import Mount

# By file: what it limits, and what counts against it. v2, then v1.
_FILES = {
    "memory.max": ("memory", "memory.current"),
    "memory.high": ("memory, throttled", "memory.current"),
    "memory.swap.max": ("swap", "memory.swap.current"),
    "memory.limit_in_bytes": ("memory", "memory.usage_in_bytes"),
    "memory.memsw.limit_in_bytes": ("memory and swap", "memory.memsw.usage_in_bytes"),
}


@dataclass(frozen=True)
class MemoryLimit:
    """A limit in bytes, and what counts against it now. ``limits``: memory, swap, and so on."""

    cgroup: str
    file: str
    limits: str
    limit: int
    usage: int

    def as_dict(self) -> dict[str, Any]:
        return {
            "cgroup": self.cgroup,
            "file": self.file,
            "limits": self.limits,
            "limit": self.limit,
            "usage": self.usage,
        }


def memory_hierarchy(found: list[Mount] | None = None) -> str | None:
    """Where the controller's groups are mounted; None where it is not to be had."""
    return hierarchy("memory", found)


def memory_limits(root: str, prefixes: Sequence[str]) -> list[MemoryLimit]:
    """The limits in force for some groups: their own, and those of every group that they lie in.

    :param root: of the hierarchy.
    :param prefixes: beginnings of the groups' names, such as ``hostmem-guest@`` and ``machine.slice``.
    """
    return memory_limits_of(root, groups(root, prefixes))


def memory_limits_of(root: str, directories: Iterable[str]) -> list[MemoryLimit]:
    """The limits that these groups set."""
    found = []
    for group in directories:
        for name, (limits, current) in _FILES.items():
            limit = limit_in(f"{group}/{name}")
            if limit is not None:
                usage = limit_in(f"{group}/{current}") or 0
                found.append(MemoryLimit(group_name(root, group), f"{group}/{name}", limits, limit, usage))
    return found
