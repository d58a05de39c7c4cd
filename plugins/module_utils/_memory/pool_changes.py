# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Changes of pools of huge pages: asked of the kernel by a plan, read back, and given back where they were in vain."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from .._guest.sizes import format_size
from .._host.errors import HostmemError
from .._host.hugepages import (
    NodePool,
    Pool,
    node_directory,
    node_pool,
    pool,
    pool_directory,
    set_node_pool,
    set_overcommit,
)
from .._host.numa import compact, node_memory
from .pools import NodePlan, PoolPlan, mib


@dataclass(frozen=True)
class Outcome:
    """What the kernel shows afterwards (or is expected to)."""

    pool: Pool
    nodes: list[NodePool]

    def short(self, plan: PoolPlan) -> dict[int, int]:
        """Pages missing of those that were asked for, by node."""
        pairs = zip(plan.nodes, self.nodes)
        return {item.node: item.target - after.persistent for item, after in pairs if after.persistent < item.target}


def apply_pools(plan: PoolPlan, tries: int, compaction: bool, keep: bool) -> Outcome:
    """Ask the kernel, and read back what it gave.

    A node that gives less is asked again, up to ``tries`` times, after a compaction of its memory. Nodes that grow come first, so that nobody
    goes short in between. When it fails, what was got is given back, and what was given is asked for again, so that the pools are as before.

    :param keep: what falls short of the plan is kept, and no error.
    :raises HostmemError: the kernel gave less, with the numbers; it refused; or pages that were to go were taken into use meanwhile.
    """
    try:
        _allow_surplus(plan)
        for item in plan.nodes:
            if item.growth > 0:
                _ask(plan, item, tries, compaction)
        middle = outcome(plan)
        if middle.short(plan) and not keep:
            raise shortfall(plan, middle)
        for item in plan.nodes:
            if item.growth < 0:
                _release(plan, item)
    except (HostmemError, OSError):
        _bring_back(plan)
        raise
    return outcome(plan)


def _bring_back(plan: PoolPlan) -> None:
    """The pools as they were before a change failed. The first error says more than that this fails, too."""
    growing = [item for item in plan.nodes if item.growth > 0]
    for item in [*growing, *(item for item in plan.nodes if item.growth < 0)]:
        with contextlib.suppress(OSError):
            if item.growth > 0:
                _give_back(plan, item)
            else:
                set_node_pool(plan.wish.page_size, item.node, item.before.persistent, plan.root)
    if plan.overcommit != plan.before.overcommit:
        with contextlib.suppress(OSError):
            set_overcommit(plan.wish.page_size, plan.before.overcommit, plan.root)


def _allow_surplus(plan: PoolPlan) -> None:
    if plan.overcommit != plan.before.overcommit:
        try:
            set_overcommit(plan.wish.page_size, plan.overcommit, plan.root)
        except OSError as error:
            raise HostmemError(
                f"Surplus pages of {format_size(plan.wish.page_size)} cannot be allowed.",
                cause=f"The kernel said: {error.strerror}. It has none of pages that it cannot allocate at run time.",
                cure="Leave surplus out for this page size.",
            ) from error


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
            if plan.wish.later:  # the boot gives them, also where they cannot be had at run time
                return
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
    """Shrink a pool by pages that nobody uses.

    :raises HostmemError: somebody has taken some of them since the plan was made: the kernel made them surplus pages.
    """
    size = plan.wish.page_size
    set_node_pool(size, item.node, item.target, plan.root)
    taken = node_pool(size, item.node, plan.root).surplus - item.before.surplus
    if taken > 0:
        raise HostmemError(
            f"Node {item.node} cannot be left with {item.target} huge pages of {format_size(size)}.",
            cause=f"Of those that were to go, {taken} were taken into use meanwhile.",
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
                f" (it had {item.before.persistent} before, and has {mib(memory.free)} free now)."
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
