# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the host's pools of huge pages, and the NUMA nodes that blocks are bound to, have what a guest still takes from them.

The kernel promises pages for the host as a whole, when they are mapped. Whether the bound nodes have them shows only when they are
touched: by SIGBUS (dequeue_hugetlb_folio_nodemask() in mm/hugetlb.c).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .._host.bound_pages import BoundPages, bound_pages, node_groups
from .._host.filesystems import free_huge_pages, free_huge_pages_on_node, reserved_huge_pages
from .._host.hugepages import page_sizes
from .._host.numa import SYS, memory_nodes
from .errors import Refused
from .memory_block import MemoryBlock
from .sizes import format_size


@dataclass(frozen=True)
class PageDemand:
    """What a block takes from the pool of a page size, in bytes; ``nodes``: from these only, or from any when there are none.

    ``gained`` becomes free before. ``unfilled`` is what its file lacks, for which it, or its mount, may hold a promise of the kernel's.
    """

    id: str
    page_size: int
    nodes: frozenset[int]
    needed: int
    gained: int = 0
    unfilled: int = 0


def page_demand(block: MemoryBlock) -> PageDemand:
    """Of a block that lies in no file yet: a memfd takes all its pages."""
    return PageDemand(block.id, block.page_size or 0, bound_to(block), block.size)


def bound_to(block: MemoryBlock) -> frozenset[int]:
    """The host's nodes that the block's pages have to be on; none when they may be anywhere, as every policy but bind falls back."""
    return frozenset(block.host_nodes if block.policy == "bind" else ())


def check_nodes(blocks: Sequence[MemoryBlock], root: str = SYS) -> None:
    """The kernel leaves out nodes that are not there, and takes the others (mbind(2)).

    :raises Refused: a block names one that is not there, or has no memory.
    """
    there = memory_nodes(root)
    for block in blocks:
        missing = [node for node in block.host_nodes if node not in there]
        if missing:
            raise Refused(
                f"Memory block {block.id}: this host has no NUMA node {', '.join(map(str, missing))} with memory.",
                cause=f"The nodes with memory are {', '.join(map(str, there))}.",
                cure="Correct host_nodes in the definition.",
            )


def check_pools(demands: Sequence[PageDemand], root: str = SYS) -> None:
    """Refuse what the pools do not have, all blocks of a guest taken together.

    :raises Refused: with the numbers.
    """
    for page_size in sorted({demand.page_size for demand in demands}):
        alike = [demand for demand in demands if demand.page_size == page_size]
        _check_host(page_size, alike, root)
        there = memory_nodes(root)
        if any(demand.nodes for demand in alike):
            free = {node: free_huge_pages_on_node(page_size, node, root) for node in there}
            check_bound(alike, free, bound_pages(page_size, there))


def _check_host(page_size: int, demands: Sequence[PageDemand], root: str) -> None:
    sizes = page_sizes(root)
    if page_size not in sizes:
        raise Refused(
            f"Memory block {_names(demands)}: this host has no huge pages of {format_size(page_size)}.",
            cause=f"Its kernel has pages of {', '.join(map(format_size, sizes))}." if sizes else "Its kernel has none.",
            cure="Correct page_size in the definition.",
        )
    needed = sum(demand.needed for demand in demands)
    gained = sum(demand.gained for demand in demands)
    free = free_for(page_size, sum(demand.unfilled for demand in demands), root) + gained
    if needed > free:
        raise Refused(
            f"Memory block {_names(demands)}: not enough huge pages of {format_size(page_size)} on this host.",
            cause=f"{format_size(needed)} are needed, {format_size(max(0, free))} are free and promised to nobody.",
            cure="Enlarge the pool, or stop guests.",
        )


def free_for(page_size: int, promised: int, root: str = SYS) -> int:
    """Bytes that the host's pool has for somebody who may hold promises of the kernel's for so many.

    Whose a promise is, nothing tells; if it is somebody else's, QEMU says so as it starts.
    """
    return free_huge_pages(page_size, root) + min(reserved_huge_pages(page_size, root), promised)


def check_bound(demands: Sequence[PageDemand], free: Mapping[int, int], others: Sequence[BoundPages]) -> None:
    """Refuse what bound nodes do not have. Pure.

    All can be served if each group of nodes has what those take who keep to it (Hall's theorem); all nodes together are the kernel's to count.

    :param demands: of one page size.
    :param free: bytes in free pages by node, of all nodes with memory.
    :param others: what processes were promised and have not touched.
    :raises Refused: with the numbers.
    """
    groups = node_groups([demand.nodes for demand in demands if demand.nodes] + [item.nodes for item in others])
    for group in sorted(groups, key=lambda nodes: (len(nodes), sorted(nodes))):
        inside = [demand for demand in demands if demand.nodes and demand.nodes <= group]
        if not inside or group.issuperset(free):
            continue
        needed = sum(demand.needed for demand in inside)
        taken = sum(item.pages for item in others if item.nodes <= group) * inside[0].page_size
        present = sum(free.get(node, 0) for node in group) + sum(demand.gained for demand in inside)
        if needed and needed > present - taken:
            raise Refused(
                f"Memory block {_names(inside)}: not enough huge pages of {format_size(inside[0].page_size)}"
                f" on the NUMA nodes {', '.join(map(str, sorted(group)))}.",
                cause=f"{format_size(needed)} are needed, {format_size(present)} are free there"
                + (f", of which {format_size(taken)} were promised to others who are bound there." if taken else "."),
                cure="Enlarge the pool on these nodes, or bind the block to others.",
            )


def _names(demands: Sequence[PageDemand]) -> str:
    return ", ".join(demand.id for demand in demands)
