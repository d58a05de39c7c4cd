# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which kinds of memory a process has mapped: by what the kernel shows in /proc/PID/{maps,mountinfo,numa_maps}, without configuration."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .._host.dax import is_dax_file
from .._host.mounts import mounts
from .._host.numa_maps import MappedPages
from .._host.processes import Mapping as MemoryMapping

HUGETLBFS, TMPFS, MEMFD, DAX, FILE, ANONYMOUS = "hugetlbfs", "tmpfs", "memfd", "dax", "file", "anonymous"
KINDS = (HUGETLBFS, TMPFS, MEMFD, DAX, FILE, ANONYMOUS)


@dataclass
class Holding:
    """Memory of one kind and page size, in bytes: what is mapped, and what of that is there, in all and on each NUMA node.

    ``present`` is None where it cannot be told. DAX is never counted as present: it is no memory of the kernel's.
    """

    kind: str
    page_size: int
    mapped: int = 0
    present: int | None = None
    nodes: dict[int, int] = field(default_factory=dict)

    def add(self, size: int, pages: MappedPages | None) -> None:
        self.mapped += size
        if pages is not None:
            self.present = (self.present or 0) + pages.present
            for node, count in pages.nodes.items():
                self.nodes[node] = self.nodes.get(node, 0) + count

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "page_size": self.page_size,
            "mapped": self.mapped,
            "present": self.present,
            "nodes": [{"node": node, "present": count} for node, count in sorted(self.nodes.items())],
        }


def file_systems(pid: int) -> dict[tuple[int, int], str]:
    """Types of the file systems that a process has mounted, by device as /proc/PID/maps shows it.

    :raises OSError: it is gone, or not ours to look at.
    """
    found = mounts(f"/proc/{pid}/mountinfo")
    return {(os.major(item.device), os.minor(item.device)): item.type for item in found}


def holdings(
    whole: Iterable[MemoryMapping],
    types: Mapping[tuple[int, int], str],
    pages: Mapping[int, MappedPages],
    page_sizes: Mapping[int, int],
    is_dax: Callable[[MemoryMapping], bool],
) -> list[Holding]:
    """What the mappings of a process sum up to, by kind and page size; what its programs and libraries need is left out.

    :param types: what file_systems() says.
    :param pages: what numa_maps() says; empty where that is not known.
    :param page_sizes: what kernel_page_sizes() says, for mappings whose size ``pages`` does not tell.
    :param is_dax: asked of files in file systems that can have DAX.
    """
    whole = list(whole)
    programs = {(item.device, item.inode) for item in whole if item.inode and "x" in item.permissions}
    found: dict[tuple[str, int], Holding] = {}
    for item in whole:
        kind = _kind(item, types, pages.get(item.start), is_dax) if _is_memory(item, programs) else None
        if kind is not None:
            there = pages.get(item.start)
            page_size = (there.page_size if there else 0) or page_sizes.get(item.start, mmap.PAGESIZE)
            holding = found.setdefault((kind, page_size), Holding(kind, page_size))
            holding.add(item.end - item.start, None if kind == DAX else there)
    return sorted(found.values(), key=lambda item: (KINDS.index(item.kind), item.page_size))


def _is_memory(item: MemoryMapping, programs: set[tuple[tuple[int, int], int]]) -> bool:
    """Memory that can be written, or is shared; what is private and can only be read is constants and reserved addresses."""
    if item.inode and (item.device, item.inode) in programs:
        return False
    return item.permissions[3] == "s" or item.permissions[1] == "w"


def _kind(
    item: MemoryMapping,
    types: Mapping[tuple[int, int], str],
    pages: MappedPages | None,
    is_dax: Callable[[MemoryMapping], bool],
) -> str | None:
    """The kind of one mapping; None for what is no memory, such as a device's registers and the kernel's rings."""
    if not item.inode:
        return None if item.path.startswith(("[v", "anon_inode:")) else ANONYMOUS
    if item.path.startswith("/memfd:"):
        return MEMFD  # also in huge pages, which its page size shows
    if (pages is not None and pages.huge) or types.get(item.device) == "hugetlbfs":
        return ANONYMOUS if item.path.startswith("/anon_hugepage") else HUGETLBFS
    if item.path.startswith(("/dev/zero", "/SYSV")):
        return ANONYMOUS  # shared memory without a name (mm/shmem.c)
    if item.path.startswith("/dev/dax"):
        return DAX
    if item.path.startswith(("anon_inode:", "/dev/", "socket:", "[")) and types.get(item.device) != "tmpfs":
        return None
    if types.get(item.device) in ("tmpfs", "ramfs"):
        return TMPFS
    return DAX if is_dax(item) else FILE


def dax_question(pid: int, problems: Callable[[str], None]) -> Callable[[MemoryMapping], bool]:
    """For holdings(): asks the very file that is mapped, by /proc/PID/map_files, or as a user that may not by its path."""

    def ask(item: MemoryMapping) -> bool:
        for path in (f"/proc/{pid}/map_files/{item.start:x}-{item.end:x}", f"/proc/{pid}/root{item.path}"):
            with contextlib.suppress(OSError):
                return is_dax_file(path)
        problems(f"whether {item.path} is on DAX cannot be told")
        return False

    return ask
