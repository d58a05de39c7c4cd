# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pools of huge pages at run time: what a change needs, what is refused, and the change itself, read back from the kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .._guest.sizes import format_size
from .._host.errors import HostmemError, Refused
from .._host.hugepages import (
    NodePool,
    Pool,
    node_directory,
    node_pool,
    page_sizes,
    pool,
    pool_directory,
    set_node_pool,
    set_overcommit,
)
from .._host.hugetlbfs_files import describe_files, holding_files
from .._host.numa import SYS, NodeMemory, compact, memory_nodes, node_memory
from .reserve import Reserve


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


@dataclass(frozen=True)
class Outcome:
    """What the kernel shows afterwards (or is expected to)."""

    pool: Pool
    nodes: list[NodePool]

    def short(self, plan: PoolPlan) -> dict[int, int]:
        """Pages missing of those that were asked for, by node."""
        pairs = zip(plan.nodes, self.nodes)
        return {item.node: item.target - after.persistent for item, after in pairs if after.persistent < item.target}


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


def plan_pools(wish: PoolWish, root: str = SYS) -> PoolPlan:
    """Check everything and say what would be asked of the kernel.

    :raises Refused: an unknown page size or node; or, unless lenient, too little memory or pages in use.
    """
    check_page_size(wish.page_size, root)
    check_nodes(list(wish.counts), root)
    before = pool(wish.page_size, root)
    befores = {node: node_pool(wish.page_size, node, root) for node in sorted(wish.counts)}
    plans = {}
    removable = before.free - before.reserved
    for node, found in befores.items():
        if wish.counts[node] >= found.persistent:
            plans[node] = _grow(wish, found, node_memory(node, root))
            removable += plans[node].predicted.free - found.free
    for node, found in befores.items():
        if node not in plans:
            wanted = found.persistent if wish.at_least else wish.counts[node]
            plans[node] = _shrink(wish, found, wanted, removable, before.reserved)
            removable -= max(0, -plans[node].growth)
    plan = PoolPlan(wish, before, [plans[node] for node in sorted(plans)], root)
    serious = [item for item in plan.nodes if item.problem and not (wish.later and item.wanted > item.target)]
    if serious and not wish.lenient:
        raise Refused(
            " ".join(item.problem for item in serious),
            cause=_held(wish.page_size) if any(item.wanted < item.target for item in serious) else "",
            cure="Set shortfall to warn to go as far as it goes; or stop guests, remove left-over files, or ask for another number.",
        )
    return plan


def check_capacity(wish: PoolWish, root: str = SYS) -> None:
    """Refuse pools that would leave a node without its reserve even if nothing else were in its memory, as at boot.

    :raises Refused: with the numbers.
    """
    others = [size for size in page_sizes(root) if size != wish.page_size]
    for node, pages in sorted(wish.counts.items()):
        total = node_memory(node, root).total
        taken = sum(node_pool(size, node, root).persistent * size for size in others)
        reserve = wish.reserve.of(total)
        present = node_pool(wish.page_size, node, root).persistent
        if pages > present and pages * wish.page_size > total - taken - reserve:
            raise Refused(
                f"Node {node} is not asked for {pages} huge pages of {format_size(wish.page_size)} at each boot:"
                f" they are {_mib(pages * wish.page_size)}.",
                cause=f"Of the node's {_mib(total)}, {_mib(taken)} are in pools of other page sizes, and {_mib(reserve)} are kept for"
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
        f" missing need {_mib(needed)}; it has {_mib(memory.free)} free and {_mib(memory.available - memory.free)} that can be"
        f" reclaimed, of which {_mib(reserve)} are kept for everything else (reserve)."
    )
    return NodePlan(found, wanted, max(found.persistent, possible), problem)


def _shrink(wish: PoolWish, found: NodePool, wanted: int, removable: int, reserved: int) -> NodePlan:
    """Only by free pages that nobody was promised: the kernel would make others surplus without a word (mm/hugetlb.c)."""
    floor = found.persistent - max(0, min(found.free, removable, found.persistent))
    if wanted >= floor:
        return NodePlan(found, wanted, wanted)
    problem = (
        f"Node {found.node} keeps {floor} huge pages of {format_size(wish.page_size)} instead of {wanted}: of its {found.nr},"
        f" {found.nr - found.free} are in use, and {reserved} free ones of the host are reserved, for mappings or by min_size of mounts."
    )
    return NodePlan(found, wanted, floor, problem)


def _mib(size: int) -> str:
    return f"{size >> 20} MiB"


def _held(page_size: int) -> str:
    files = holding_files(page_size)
    return (
        f"Files that hold pages: {describe_files(files)}."
        if files
        else "No file in a mount that is seen here holds them."
    )


def apply_pools(plan: PoolPlan, tries: int, compaction: bool, keep: bool) -> Outcome:
    """Ask the kernel, and read back what it gave.

    A node that gives less is asked again, up to ``tries`` times, after a compaction of its memory. Unless ``keep``, what was got in vain is given
    back, so that the pools are as before. Nodes that grow come first, so that nobody goes short in between.

    :raises HostmemError: unless ``keep``: the kernel gave less; with the numbers.
    """
    growing = [item for item in plan.nodes if item.growth > 0]
    for item in growing:
        _ask(plan, item, tries, compaction)
    middle = outcome(plan)
    if middle.short(plan) and not keep:
        for item in growing:
            _give_back(plan, item)
        raise shortfall(plan, middle)
    for item in plan.nodes:
        if item.growth < 0:
            _release(plan, item)
    if plan.overcommit != plan.before.overcommit:
        try:
            set_overcommit(plan.wish.page_size, plan.overcommit, plan.root)
        except OSError as error:
            raise HostmemError(
                f"Surplus pages of {format_size(plan.wish.page_size)} cannot be allowed.",
                cause=f"The kernel said: {error.strerror}. It has none of pages that it cannot allocate at run time.",
                cure="Leave surplus out for this page size.",
            ) from error
    return outcome(plan)


def outcome(plan: PoolPlan) -> Outcome:
    """The pools of the plan's nodes as they are now."""
    size = plan.wish.page_size
    return Outcome(pool(size, plan.root), [node_pool(size, item.node, plan.root) for item in plan.nodes])


def foreseen(plan: PoolPlan) -> Outcome:
    """The pools as they would be, if the kernel finds enough memory in one piece, which nobody can tell before."""
    return Outcome(plan.predicted, [item.predicted for item in plan.nodes])


def _ask(plan: PoolPlan, item: NodePlan, tries: int, compaction: bool) -> None:
    for attempt in range(tries):
        if attempt and compaction:
            compact(item.node, plan.root)
        try:
            set_node_pool(plan.wish.page_size, item.node, item.target, plan.root)
        except OSError as error:
            raise HostmemError(
                f"The kernel does not let the huge pages of {format_size(plan.wish.page_size)} on node {item.node} be set.",
                cause=f"It said: {error.strerror}. Gigantic pages need CONFIG_CONTIG_ALLOC, and in a container /sys can be read-only.",
                cure="Ask for the pages at boot (persist: boot), or do this on the host itself.",
            ) from error
        if node_pool(plan.wish.page_size, item.node, plan.root).persistent >= item.target:
            return


def _give_back(plan: PoolPlan, item: NodePlan) -> None:
    """As far as nobody uses the pages already."""
    now = node_pool(plan.wish.page_size, item.node, plan.root)
    whole = pool(plan.wish.page_size, plan.root)
    free = max(0, min(now.free, whole.free - whole.reserved))
    set_node_pool(plan.wish.page_size, item.node, max(item.before.persistent, now.persistent - free), plan.root)


def _release(plan: PoolPlan, item: NodePlan) -> None:
    """Shrink a pool; what somebody has taken since the plan was made stays part of it.

    :raises HostmemError: somebody has.
    """
    size = plan.wish.page_size
    set_node_pool(size, item.node, item.target, plan.root)
    after = node_pool(size, item.node, plan.root)
    taken = after.surplus - item.before.surplus
    if taken > 0:
        set_node_pool(size, item.node, after.persistent + taken, plan.root)
        raise HostmemError(
            f"Node {item.node} keeps {after.persistent + taken} huge pages of {format_size(size)} instead of {item.target}.",
            cause=f"{taken} of them were taken into use meanwhile.",
            cure="Try again when their users have ended.",
        )


def shortfall(plan: PoolPlan, after: Outcome) -> HostmemError:
    """What the kernel did not give, in words."""
    size = format_size(plan.wish.page_size)
    texts = []
    for item, now in zip(plan.nodes, after.nodes):
        if now.persistent < item.target:
            memory = node_memory(item.node, plan.root)
            texts.append(
                f"Node {item.node} gave {now.persistent} huge pages of {size} instead of {item.target}"
                f" (it had {item.before.persistent} before, and has {_mib(memory.free)} free now)."
            )
    return HostmemError(
        " ".join(texts),
        cause="Its free memory is not in pieces large enough: what cannot be moved lies in between.",
        cure="Ask for the pages at boot (persist: boot), end what uses the memory, or ask for fewer.",
    )


def describe(plan: PoolPlan, after: Outcome) -> list[dict[str, Any]]:
    """For results: each node with what was wanted, what there was, and what there is."""
    return [
        {
            "node": item.node,
            "wanted": item.wanted,
            "granted": now.persistent - item.before.persistent,
            "before": item.before.as_dict(),
            "after": now.as_dict(),
        }
        for item, now in zip(plan.nodes, after.nodes)
    ]


def diff(plan: PoolPlan, after: Outcome) -> dict[str, dict[str, Any]]:
    """Before and after by the kernel's files, for --diff."""
    size = plan.wish.page_size
    files = [f"{node_directory(size, item.node, plan.root)}/nr_hugepages" for item in plan.nodes]
    sides = {
        "before": dict(zip(files, (item.before.persistent for item in plan.nodes))),
        "after": dict(zip(files, (now.persistent for now in after.nodes))),
    }
    if plan.wish.overcommit is not None:
        name = f"{pool_directory(size, plan.root)}/nr_overcommit_hugepages"
        sides["before"][name] = plan.before.overcommit
        sides["after"][name] = after.pool.overcommit
    return sides
