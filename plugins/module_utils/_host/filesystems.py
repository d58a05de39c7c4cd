# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a path lies on: file-system type, page size, free space (statfs(2), mounts.py, /sys/kernel/mm/hugepages)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

from .files import existing_parent
from .mounts import mount_of

_NODES = "/sys/devices/system/node"
_HUGE_PAGES = "/sys/kernel/mm/hugepages"


@dataclass(frozen=True)
class FileSystem:
    """The file system under a path; ``options`` are mount and super-block options, ``page_size`` in bytes."""

    mount_point: str
    type: str
    source: str
    options: tuple[str, ...]
    page_size: int
    device: int

    @property
    def volatile(self) -> bool:
        """True when its files live in the host's memory only."""
        return self.type in ("tmpfs", "ramfs", "hugetlbfs")

    @property
    def dax(self) -> bool:
        """True when all its files are mapped without the page cache (mount options ``dax`` and ``dax=always``)."""
        return "dax" in self.options or "dax=always" in self.options


def file_system(path: str) -> FileSystem:
    """The file system that holds the path (or its nearest existing parent).

    :raises OSError: the path cannot be looked at.
    """
    target = existing_parent(path)
    device = os.stat(target).st_dev
    mount = mount_of(target)
    if mount is None:  # the root of a chroot
        return FileSystem("", "unknown", "", (), os.statvfs(target).f_frsize, device)
    page_size = os.statvfs(target).f_bsize if mount.type == "hugetlbfs" else os.sysconf("SC_PAGE_SIZE")
    options = mount.options + mount.super_options
    return FileSystem(mount.point, mount.type, mount.source, options, page_size, device)


def free_space(path: str) -> int:
    """Bytes an unprivileged user can still allocate in the file system of the path; huge pages not yet promised to anybody on hugetlbfs."""
    target = existing_parent(path)
    found = file_system(target)
    if found.type == "hugetlbfs":
        return _free_huge_pages(found.page_size, target)
    state = os.statvfs(target)
    return state.f_bavail * state.f_frsize


def _free_huge_pages(page_size: int, path: str) -> int:
    directory = f"{_HUGE_PAGES}/hugepages-{page_size // 1024}kB"
    try:
        free = _number(f"{directory}/free_hugepages") - _number(f"{directory}/resv_hugepages")
        # Beyond the pool, the kernel allocates these when they are reserved, so that a shortage shows at once.
        free += max(0, _number(f"{directory}/nr_overcommit_hugepages") - _number(f"{directory}/surplus_hugepages"))
    except OSError:
        return 0
    state = os.statvfs(path)
    if state.f_blocks:  # the mount has a size limit of its own
        free = min(free, state.f_bavail)
    return free * page_size


def reserved_huge_pages(page_size: int) -> int:
    """Bytes in free huge pages of the host that are promised to files already."""
    try:
        return _number(f"{_HUGE_PAGES}/hugepages-{page_size // 1024}kB/resv_hugepages") * page_size
    except OSError:
        return 0


def free_huge_pages_on_nodes(page_size: int, nodes: Sequence[int]) -> int:
    """Bytes in free huge pages of these NUMA nodes."""
    total = 0
    for node in nodes:
        with contextlib.suppress(OSError):  # no such node, or no such pool
            total += _number(f"{_NODES}/node{node}/hugepages/hugepages-{page_size // 1024}kB/free_hugepages")
    return total * page_size


def _number(path: str) -> int:
    with open(path, encoding="ascii") as file:
        return int(file.read())
