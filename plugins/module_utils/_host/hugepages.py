# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pools of huge pages in sysfs (Documentation/admin-guide/mm/hugetlbpage.rst).

Only the files of a node are written: a write to those of the whole host spreads the difference over all nodes.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

from .numa import SYS
from .sysfs import number

_DIRECTORY = re.compile(r"hugepages-(\d+)kB")


@dataclass(frozen=True)
class NodePool:
    """The pool of one page size on one node, in pages. ``nr`` has the surplus pages in it; reservations have no node."""

    node: int
    nr: int
    free: int
    surplus: int

    @property
    def persistent(self) -> int:
        """What was asked for and granted; a write to nr_hugepages sets this."""
        return self.nr - self.surplus

    def as_dict(self) -> dict[str, Any]:
        return {"nr": self.nr, "free": self.free, "used": self.nr - self.free, "surplus": self.surplus}


@dataclass(frozen=True)
class Pool:
    """The pool of one page size on the whole host, in pages. ``reserved`` are free but promised to mappings that did not touch them yet."""

    nr: int
    free: int
    reserved: int
    surplus: int
    overcommit: int

    def as_dict(self) -> dict[str, Any]:
        return {
            "nr": self.nr,
            "free": self.free,
            "reserved": self.reserved,
            "surplus": self.surplus,
            "overcommit": self.overcommit,
        }


def page_sizes(root: str = SYS) -> list[int]:
    """Sizes of huge pages that the kernel has pools for, in bytes, the smallest first."""
    try:
        names = os.listdir(f"{root}/kernel/mm/hugepages")
    except OSError:
        return []
    matches = [_DIRECTORY.fullmatch(name) for name in names]
    return sorted(int(match.group(1)) * 1024 for match in matches if match)


def default_page_size(meminfo: str = "/proc/meminfo") -> int:
    """The size that vm.nr_hugepages and ``hugepages=`` without a size speak of, in bytes; 0 without huge pages."""
    with open(meminfo, encoding="ascii") as file:
        for line in file:
            if line.startswith("Hugepagesize:"):
                return int(line.split()[1]) * 1024
    return 0


def gigantic(page_size: int) -> bool:
    """True for pages larger than the largest block of the page allocator: at run time they can rarely be had.

    That is 4 MiB on x86-64 (MAX_PAGE_ORDER 10).
    """
    return page_size > os.sysconf("SC_PAGE_SIZE") << 10


def pool_directory(page_size: int, root: str = SYS) -> str:
    """The directory of the whole host's pool."""
    return f"{root}/kernel/mm/hugepages/hugepages-{page_size // 1024}kB"


def node_directory(page_size: int, node: int, root: str = SYS) -> str:
    """The directory of a node's pool; that of the whole host where the kernel knows no NUMA."""
    if not os.path.isdir(f"{root}/devices/system/node"):
        return pool_directory(page_size, root)
    return f"{root}/devices/system/node/node{node}/hugepages/hugepages-{page_size // 1024}kB"


def pool(page_size: int, root: str = SYS) -> Pool:
    """The whole host's pool as it is now.

    :raises OSError: there is none of this page size.
    """
    directory = pool_directory(page_size, root)
    names = ("nr_hugepages", "free_hugepages", "resv_hugepages", "surplus_hugepages", "nr_overcommit_hugepages")
    return Pool(*(number(f"{directory}/{name}") for name in names))


def node_pool(page_size: int, node: int, root: str = SYS) -> NodePool:
    """A node's pool as it is now.

    :raises OSError: there is none of this page size.
    """
    directory = node_directory(page_size, node, root)
    names = ("nr_hugepages", "free_hugepages", "surplus_hugepages")
    return NodePool(node, *(number(f"{directory}/{name}") for name in names))


def set_node_pool(page_size: int, node: int, pages: int, root: str = SYS) -> None:
    """Ask for so many pages on a node. The kernel gives what it can and says nothing of a shortfall: read back.

    :raises OSError: the kernel refused.
    """
    _write(f"{node_directory(page_size, node, root)}/nr_hugepages", pages)


def set_overcommit(page_size: int, pages: int, root: str = SYS) -> None:
    """Let so many pages be taken beyond the pool, when a mapping asks for them.

    :raises OSError: the kernel refused, as it does for gigantic pages.
    """
    _write(f"{pool_directory(page_size, root)}/nr_overcommit_hugepages", pages)


def _write(path: str, number: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(descriptor, f"{number}\n".encode("ascii"))
    finally:
        os.close(descriptor)
