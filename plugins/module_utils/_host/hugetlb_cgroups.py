# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Limits that control groups put on huge pages (Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/hugetlb.rst).

A guest beyond one gets ENOMEM from mmap(2) (rsvd), or SIGBUS when it touches the page, however many are free.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .cgroups import group_name, groups, hierarchy, limit_in
from .mounts import Mount

# v2: hugetlb.2MB.max, v1: hugetlb.2MB.limit_in_bytes; with rsvd. for reservations.
_LIMIT = re.compile(r"hugetlb\.(\d+)(KB|MB|GB)\.(rsvd\.)?(max|limit_in_bytes)")
_UNITS = {"KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


@dataclass(frozen=True)
class CgroupLimit:
    """A limit in bytes, and what counts against it now; ``reservations``: of mapped memory, not of touched memory."""

    cgroup: str
    file: str
    page_size: int
    reservations: bool
    limit: int
    usage: int

    def as_dict(self) -> dict[str, Any]:
        return {"cgroup": self.cgroup, "file": self.file, "limit": self.limit, "usage": self.usage}


def hugetlb_hierarchy(found: list[Mount] | None = None) -> str | None:
    """Where the controller's groups are mounted; None where it is not to be had."""
    return hierarchy("hugetlb", found)


def hugetlb_limits(root: str, page_size: int, prefixes: Sequence[str]) -> list[CgroupLimit]:
    """The limits in force for some groups: their own, and those of every group that they lie in.

    :param root: of the hierarchy.
    :param prefixes: beginnings of the groups' names, such as ``hostmem-guest@`` and ``machine.slice``.
    """
    return hugetlb_limits_of(root, groups(root, prefixes), page_size)


def hugetlb_limits_of(root: str, directories: Iterable[str], page_size: int) -> list[CgroupLimit]:
    """The limits that these groups set."""
    return [limit for group in directories for limit in _limits(root, group, page_size)]


def _limits(root: str, group: str, page_size: int) -> Iterator[CgroupLimit]:
    try:
        names = sorted(os.listdir(group))
    except OSError:
        return
    for name in names:
        match = _LIMIT.fullmatch(name)
        if match is None or int(match.group(1)) * _UNITS[match.group(2)] != page_size:
            continue
        limit = limit_in(f"{group}/{name}")
        if limit is None:
            continue
        current = "current" if match.group(4) == "max" else "usage_in_bytes"
        usage = limit_in(f"{group}/hugetlb.{match.group(1)}{match.group(2)}.{match.group(3) or ''}{current}") or 0
        yield CgroupLimit(
            group_name(root, group),
            f"{group}/{name}",
            page_size,
            bool(match.group(3)),
            limit,
            usage,
        )
