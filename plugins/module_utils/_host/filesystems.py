# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a path lies on: file-system type, page size, free space (statfs(2), mounts.py, hugepages.py)."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass

from .files import existing_parent
from .hugepages import node_pool, pool
from .mounts import mount_of
from .numa import SYS


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
        return _free_huge_pages_in(target, found.page_size)
    state = os.statvfs(target)
    return state.f_bavail * state.f_frsize


def _free_huge_pages_in(path: str, page_size: int) -> int:
    free, left = free_huge_pages(page_size), left_in_limit(path)
    return free if left is None else min(free, left)


def left_in_limit(path: str) -> int | None:
    """Bytes that the files in the hugetlbfs of the path can still grow by its option ``size``; None without one.

    What is reserved for a mapping counts as taken. With ``min_size`` alone, statfs(2) shows -1 (hugetlbfs_statfs() in fs/hugetlbfs/inode.c).
    """
    state = os.statvfs(path)
    return state.f_bavail * state.f_bsize if state.f_blocks > 0 else None


def kept_for_mount(system: FileSystem) -> int:
    """Bytes that a hugetlbfs still has reserved for whatever comes to lie in it (``min_size``); the files in it use that first."""
    least = sum(int(option[9:]) for option in system.options if option.startswith("min_size="))
    if not least:
        return 0
    used = 0
    for directory, _names, files in os.walk(system.mount_point):
        for name in files:
            with suppress(FileNotFoundError):
                found = os.lstat(f"{directory}/{name}")
                used += max(found.st_size, found.st_blocks * 512)
    return max(0, least - used)


def free_huge_pages(page_size: int, root: str = SYS) -> int:
    """Bytes in huge pages of the host that can still be promised to somebody; negative when the pool shrank below its promises."""
    try:
        found = pool(page_size, root)
    except OSError:
        return 0
    # Beyond the pool, the kernel allocates pages when they are reserved, so that a shortage shows at once.
    return (found.free - found.reserved + max(0, found.overcommit - found.surplus)) * page_size


def reserved_huge_pages(page_size: int, root: str = SYS) -> int:
    """Bytes in free huge pages of the host that are promised to files already."""
    try:
        return pool(page_size, root).reserved * page_size
    except OSError:
        return 0


def free_huge_pages_on_node(page_size: int, node: int, root: str = SYS) -> int:
    """Bytes in free huge pages of a NUMA node; 0 without such a node or pool."""
    try:
        return node_pool(page_size, node, root).free * page_size
    except OSError:
        return 0
