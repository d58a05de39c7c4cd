# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pools of huge pages at run time: what a change of them comes to, and what is refused before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from .._guest.sizes import format_size
from .._host.bound_pages import BoundPages, bound_pages
from .._host.errors import Refused
from .._host.hugepages import NodePool, Pool, page_sizes
from .._host.hugetlbfs_files import describe_files, holding_files
from .._host.numa import SYS, NodeMemory, memory_nodes
from .promised_pages import describe, kept_free
from .reserve import Reserve
from .seen_pools import SeenPools

_AS_THEY_ARE = SeenPools()


@dataclass(frozen=True)
class PoolWish:
    """What is wanted of the pools of one page size.

    :param counts: pages by node.
    :param at_least: more than that are left alone.
    :param lenient: go as far as it goes, and warn, where it would be refused otherwise.
    :param later: the same for growth only: what is missing comes at the next boot.
    :param overcommit: limit of surplus pages for the host; None leaves it.
    """

    page_size: int
    counts: Mapping[int, int]
    at_least: bool = False
    lenient: bool = False
    later: bool = False
    overcommit: int | None = None
    reserve: Reserve = field(default_factory=Reserve)


@dataclass(frozen=True)
class NodePlan:
    """What is asked of one node; ``target`` differs from ``wanted`` only where that cannot be, as ``problem`` says."""

    before: NodePool
    wanted: int
    target: int
    problem: str = ""

    @property
    def node(self) -> int:
        return self.before.node

    @property
    def growth(self) -> int:
        return self.target - self.before.persistent

    @property
    def predicted(self) -> NodePool:
        """The pool afterwards, if the kernel finds all the pages. It makes surplus pages part of the pool first."""
        kept = max(0, min(self.before.surplus, self.before.nr - self.target))
        nr = self.target + kept if self.growth > 0 else self.target + self.before.surplus
        return replace(self.before, nr=nr, free=self.before.free + nr - self.before.nr, surplus=nr - self.target)


@dataclass(frozen=True)
class PoolPlan:
    """What is asked of all nodes. ``held`` says what holds pages that were to go."""

    wish: PoolWish
    before: Pool
    nodes: list[NodePlan]
    root: str = SYS

    @property
    def overcommit(self) -> int:
        return self.before.overcommit if self.wish.overcommit is None else self.wish.overcommit

    @property
    def changed(self) -> bool:
        return any(item.growth for item in self.nodes) or self.overcommit != self.before.overcommit

    @property
    def problems(self) -> list[str]:
        return [item.problem for item in self.nodes if item.problem]

    @property
    def predicted(self) -> Pool:
        after = self.before
        for item in self.nodes:
            nr = item.predicted.nr - item.before.nr
            surplus = item.predicted.surplus - item.before.surplus
            after = replace(after, nr=after.nr + nr, free=after.free + nr, surplus=after.surplus + surplus)
        return replace(after, overcommit=self.overcommit)


def check_page_size(page_size: int, root: str = SYS) -> None:
    """Refuse what the kernel has no pool for.

    :raises Refused: with the sizes that it has.
    """
    sizes = page_sizes(root)
    if page_size not in sizes:
        raise Refused(
            f"This host has no huge pages of {format_size(page_size)}.",
            cause=f"Its kernel and processor offer {', '.join(map(format_size, sizes)) or 'none'}.",
            cure="Choose one of these."
            if sizes
            else "Use a kernel with CONFIG_HUGETLBFS on a processor that has them.",
        )


def check_nodes(nodes: Sequence[int], root: str = SYS) -> None:
    """Refuse nodes that the host lacks.

    :raises Refused: with the nodes that it has.
    """
    present = memory_nodes(root)
    missing = sorted(set(nodes) - set(present))
    if missing:
        raise Refused(
            f"This host has no NUMA node {', '.join(map(str, missing))} with memory.",
            cause=f"Its nodes with memory are {', '.join(map(str, present))}.",
            cure="Choose among these (ls /sys/devices/system/node).",
        )


def plan_pools(
    wish: PoolWish, seen: SeenPools = _AS_THEY_ARE, promised: Sequence[BoundPages] | None = None
) -> PoolPlan:
    """Check everything and say what would be asked of the kernel.

    :param promised: free pages that others count on, on certain nodes; None asks the kernel.
    :raises Refused: an unknown page size or node; or, unless lenient, too little memory or pages in use.
    """
    check_page_size(wish.page_size, seen.root)
    check_nodes(list(wish.counts), seen.root)
    before = seen.pool(wish.page_size)
    befores = {node: seen.node_pool(wish.page_size, node) for node in sorted(wish.counts)}
    plans = {}
    removable = before.free - before.reserved
    for node, found in befores.items():
        if wish.counts[node] >= found.persistent:
            plans[node] = _grow(wish, found, seen.node_memory(node))
            removable += plans[node].predicted.free - found.free
    shrinking = {node: found for node, found in befores.items() if node not in plans and not wish.at_least}
    plans.update(
        {
            node: NodePlan(found, found.persistent, found.persistent)
            for node, found in befores.items()
            if node not in plans
        }
    )
    if shrinking:
        present = memory_nodes(seen.root)
        if promised is None:
            promised = bound_pages(wish.page_size, present) if before.reserved else []
        free = {
            node: plans[node].predicted.free if node in plans else seen.node_pool(wish.page_size, node).free
            for node in present
        }
        for node, found in shrinking.items():
            kept, whom = kept_free(node, free, promised)
            plans[node] = _shrink(
                wish, found, min(removable, found.free - min(kept, before.reserved)), before.reserved, whom
            )
            removable += plans[node].growth
            free[node] += plans[node].growth
    plan = PoolPlan(wish, before, [plans[node] for node in sorted(plans)], seen.root)
    serious = [item for item in plan.nodes if item.problem and not (wish.later and item.wanted > item.target)]
    if serious and not wish.lenient:
        raise Refused(
            " ".join(item.problem for item in serious),
            cause=_held(wish.page_size) if any(item.wanted < item.target for item in serious) else "",
            cure="Set shortfall to warn to go as far as it goes; or stop guests, remove left-over files, or ask for another number.",
        )
    return plan


def check_capacity(wish: PoolWish, seen: SeenPools = _AS_THEY_ARE) -> None:
    """Refuse pools that would leave a node without its reserve even if nothing else were in its memory, as at boot.

    :raises Refused: with the numbers.
    """
    others = [size for size in page_sizes(seen.root) if size != wish.page_size]
    for node, pages in sorted(wish.counts.items()):
        total = seen.node_memory(node).total
        taken = sum(seen.node_pool(size, node).persistent * size for size in others)
        reserve = wish.reserve.of(total)
        present = seen.node_pool(wish.page_size, node).persistent
        if pages > present and pages * wish.page_size > total - taken - reserve:
            raise Refused(
                f"Node {node} is not asked for {pages} huge pages of {format_size(wish.page_size)} at each boot:"
                f" they are {mib(pages * wish.page_size)}.",
                cause=f"Of the node's {mib(total)}, {mib(taken)} are in pools of other page sizes, and {mib(reserve)} are kept for"
                " everything else (reserve).",
                cure="Ask for fewer, or lower reserve.",
            )


def _grow(wish: PoolWish, found: NodePool, memory: NodeMemory) -> NodePlan:
    """At most so much that the reserve stays available."""
    wanted = wish.counts[found.node]
    needed = max(0, wanted - found.nr) * wish.page_size
    reserve = wish.reserve.of(memory.total)
    if needed <= max(0, memory.available - reserve):
        return NodePlan(found, wanted, wanted)
    possible = found.nr + max(0, memory.available - reserve) // wish.page_size
    problem = (
        f"Node {found.node} is not asked for {wanted} huge pages of {format_size(wish.page_size)}: the {wanted - found.nr} that are"
        f" missing need {mib(needed)}; it has {mib(memory.free)} free and {mib(memory.available - memory.free)} that can be"
        f" reclaimed, of which {mib(reserve)} are kept for everything else (reserve)."
    )
    return NodePlan(found, wanted, max(found.persistent, possible), problem)


def _shrink(wish: PoolWish, found: NodePool, removable: int, reserved: int, promised: Sequence[BoundPages]) -> NodePlan:
    """Only by free pages that nobody was promised: the kernel would make others surplus without a word (mm/hugetlb.c)."""
    wanted = wish.counts[found.node]
    floor = found.persistent - max(0, min(found.free, removable, found.persistent))
    if wanted >= floor:
        return NodePlan(found, wanted, wanted)
    problem = (
        f"Node {found.node} keeps {floor} huge pages of {format_size(wish.page_size)} instead of {wanted}: of its {found.nr},"
        f" {found.nr - found.free} are in use, and {reserved} free ones of the host are reserved, for mappings or by min_size of mounts."
    )
    if promised:
        problem = f"{problem[:-1]}: {describe(promised)}."
    return NodePlan(found, wanted, floor, problem)


def mib(size: int) -> str:
    """A size in words, for errors."""
    return f"{size >> 20} MiB"


def _held(page_size: int) -> str:
    files = holding_files(page_size)
    return (
        f"Files that hold pages: {describe_files(files)}."
        if files
        else "No file in a mount that is seen here holds them."
    )
