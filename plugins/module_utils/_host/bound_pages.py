# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Huge pages that processes were promised, have not touched yet, and can take from certain NUMA nodes only.

The kernel counts the promise (resv_hugepages) for the whole host. Who touches such a page when those nodes have none left is ended by
SIGBUS, however many the others have (dequeue_hugetlb_folio_nodemask() in mm/hugetlb.c).
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass

from .mounts import mounts
from .numa import parse_node_list
from .numa_maps import MappedPages, numa_maps
from .processes import Mapping, mappings

# The kernel's names of mappings that need no mount: memfd_create(2), mmap(2) with MAP_HUGETLB, shmget(2) with SHM_HUGETLB.
_NAMES = ("/memfd:", "/anon_hugepage", "/SYSV")
# Other policies fall back to all nodes. "bind=static:1" has flags of set_mempolicy(2) (mpol_to_str() in mm/mempolicy.c).
_BIND = re.compile(r"bind(?:=[^:]*)?:(.+)")


@dataclass(frozen=True)
class BoundPages:
    """So many pages of one size that a process may still take, from these nodes."""

    pid: int
    nodes: frozenset[int]
    pages: int


def bound_pages(page_size: int, nodes: Collection[int]) -> list[BoundPages]:
    """Of all processes that we may look at, each file once.

    :param page_size: in bytes.
    :param nodes: the host's nodes with memory; who may take pages from all of them is left out.
    """
    seen: set[tuple[int, ...]] = set()
    found = []
    for entry in sorted(os.listdir("/proc")):
        if entry.isdigit():
            with suppress(OSError):  # it has ended
                found += list(_of_process(int(entry), page_size, frozenset(nodes), seen))
    return found


def bound_nodes(policy: str) -> frozenset[int] | None:
    """The nodes of a policy as /proc/PID/numa_maps shows it; None for one that keeps to no nodes."""
    match = _BIND.fullmatch(policy)
    return frozenset(parse_node_list(match.group(1))) if match else None


def node_groups(sets: Collection[frozenset[int]]) -> set[frozenset[int]]:
    """The sets of nodes and all their unions."""
    found: set[frozenset[int]] = set()
    for item in set(sets):
        found |= {item} | {item | other for other in found}
    return found


def _of_process(pid: int, page_size: int, nodes: frozenset[int], seen: set[tuple[int, ...]]) -> Iterator[BoundPages]:
    candidates = _candidates(pid)
    if not candidates:
        return
    pages = numa_maps(pid)
    allowed = _allowed_nodes(pid)
    for item in candidates:
        mapped = pages.get(item.start)
        if mapped is None or not mapped.huge:
            continue
        bound = bound_nodes(mapped.policy)
        mine = (allowed if bound is None else bound & allowed) & nodes
        missing = 0 if mine == nodes else _missing(pid, item, mapped, page_size, seen)
        if missing:
            yield BoundPages(pid, mine, missing // page_size)


def _candidates(pid: int) -> list[Mapping]:
    """Mappings that can be of huge pages; what the kernel tells of their pages costs it a walk through all page tables."""
    found = mappings(pid)
    if not found:
        return []
    devices = {
        (os.major(mount.device), os.minor(mount.device))
        for mount in mounts(f"/proc/{pid}/mountinfo")
        if mount.type == "hugetlbfs"
    }
    return [item for item in found if item.device in devices or item.path.startswith(_NAMES)]


def _missing(pid: int, item: Mapping, mapped: MappedPages, page_size: int, seen: set[tuple[int, ...]]) -> int:
    """Bytes of a mapping that have no page yet: of a shared one in its file, of a private one in the process."""
    state = os.stat(f"/proc/{pid}/map_files/{item.start:x}-{item.end:x}")
    if state.st_blksize != page_size:
        return 0
    length = item.end - item.start
    if "s" not in item.permissions:
        return max(0, length - mapped.present)
    key = (state.st_dev, state.st_ino, item.offset)
    if key in seen:
        return 0
    seen.add(key)
    return max(0, min(length, state.st_size - state.st_blocks * 512))


def _allowed_nodes(pid: int) -> frozenset[int]:
    """Of its control group (cpuset.mems), as the kernel keeps to it for huge pages, too."""
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        text = next((line.partition(":")[2] for line in file if line.startswith("Mems_allowed_list:")), "0")
    return frozenset(parse_node_list(text))
