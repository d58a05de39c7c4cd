# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Huge pages of one size as they are wanted, now and at each boot: the pools, our configuration, and what others do to them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .._guest.config import load_config
from .._guest.sizes import format_size
from .._host.errors import Refused
from .._host.hugepages import default_page_size
from .._host.hugetlb_cgroups import CgroupLimit, hugetlb_hierarchy, hugetlb_limits
from .._host.numa import memory_nodes
from .._host.pool_settings import PoolSetting, pool_settings
from .foreseen import Foreseen
from .guest_needs import need, need_of_host
from .pool_changes import Outcome, apply_pools, describe, diff, foreseen, outcome, shortfall
from .pool_persistence import PersistencePlan, apply_persistence, choose, plan_persistence, running_pools
from .pool_record import PoolRecord, load_record, pools_locked, store_record
from .pools import PoolPlan, PoolWish, check_capacity, check_nodes, check_page_size, plan_pools
from .reserve import Reserve
from .seen_pools import SeenPools

# The guests' units, the slice that the role puts them in, and libvirt's scopes, named machine-qemu\x2d1\x2dweb1.
GUEST_GROUPS = ("hostmem-guest@", "machine.slice", "machine-qemu")


@dataclass(frozen=True)
class PoolRequest:
    """What a user asks for. ``counts``: pages by node; empty with ``present`` false means all nodes.

    ``policy``: exact, at_least, or needed (by the guests of ``config``, with ``counts`` on top).
    ``persist``: auto, tmpfiles, boot or none.
    """

    page_size: int
    counts: Mapping[int, int]
    present: bool = True
    policy: str = "exact"
    surplus: int | None = None
    reserve: Reserve = field(default_factory=Reserve)
    tries: int = 3
    compaction: bool = True
    lenient: bool = False
    persist: str = "auto"
    config: str = ""


@dataclass(frozen=True)
class Situation:
    """What a request comes to on this host now."""

    request: PoolRequest
    nodes: list[int]
    wanted: dict[int, int]
    pools: PoolPlan
    persistence: PersistencePlan
    record: PoolRecord
    conflicts: list[PoolSetting]
    limits: list[CgroupLimit]
    later: bool


def ensure_pools(request: PoolRequest, check: bool, before: Foreseen) -> dict[str, Any]:
    """Make the pools be as wanted (or foretell it); the result of the module.

    :param before: what would be there by then, in check mode.
    :raises HostmemError: something is refused, with nothing changed; or the kernel gave less, with what was got given back.
    """
    with pools_locked():
        situation = _look(request, before)
        if check:
            after = foreseen(situation.pools)
        else:
            keep = request.lenient or situation.later
            try:
                after = apply_pools(situation.pools, request.tries, request.compaction, keep)
            finally:
                # Whatever fails, what was got must not be forgotten.
                _note(situation, outcome(situation.pools))
            apply_persistence(situation.persistence)
    result = _result(situation, after, check)
    if check:
        result["warnings"] += _presumed(situation, before)
        result["foreseen"] = _foreseen_after(situation, after, before).as_dict()
    return result


def _presumed(situation: Situation, before: Foreseen) -> list[str]:
    """What was presumed, in sentences."""
    grows = any(item.growth > 0 for item in situation.pools.nodes)
    sizes = [size for size in before.pools.foreseen if grows or size == situation.request.page_size]
    found = [before.pools.presumed(size) for size in sizes]
    if situation.request.policy == "needed" and _no_guests_yet(situation.request.config, before):
        found.append(f"Presuming that no guests are defined by then: {situation.request.config} is still to be made.")
    return [text for text in found if text]


def _foreseen_after(situation: Situation, after: Outcome, before: Foreseen) -> Foreseen:
    nodes = {item.node: item for item in after.nodes}
    pools = before.pools.with_pool(situation.request.page_size, after.pool, nodes)
    return replace(before, pools=pools, configured=situation.persistence.after)


def _no_guests_yet(config: str, before: Foreseen) -> bool:
    return config in before.files and not os.path.exists(config)


def _look(request: PoolRequest, before: Foreseen) -> Situation:
    check_page_size(request.page_size)
    nodes = memory_nodes()
    check_nodes(list(request.counts))
    record = load_record(request.page_size)
    kind = choose(request.persist, request.page_size) if request.present else "none"
    wanted = _wanted(request, nodes, before)
    seen = before.pools
    overcommit = _overcommit(request, record)
    persistence = plan_persistence(kind, request.page_size, wanted, overcommit, nodes, before.configured)
    if not request.present:
        wanted = {node: _without_ours(request.page_size, node, record, persistence, seen) for node in wanted}
    later = kind == "boot" and not persistence.provided and not _booted(request.page_size, persistence, nodes)
    wish = PoolWish(
        request.page_size,
        wanted,
        request.policy == "at_least",
        request.lenient,
        later,
        overcommit,
        request.reserve,
    )
    if kind != "none":
        check_capacity(wish, seen)
    if later and not persistence.changed:
        # It was tried when the parameters were written. Trying again each time would be luck, and never end.
        wish = replace(
            wish,
            counts={
                node: min(pages, seen.node_pool(request.page_size, node).persistent) for node, pages in wanted.items()
            },
        )
    conflicts = _conflicts(request.page_size, wanted, persistence) if request.present else []
    if not persistence.provided:
        check_others(request.policy, kind, {node: pages for node, pages in wanted.items() if pages}, conflicts)
    root = hugetlb_hierarchy()
    limits = hugetlb_limits(root, request.page_size, GUEST_GROUPS) if root else []
    return Situation(request, nodes, wanted, plan_pools(wish, seen), persistence, record, conflicts, limits, later)


def _wanted(request: PoolRequest, nodes: list[int], before: Foreseen) -> dict[int, int]:
    """Pages by node that the configuration is to have."""
    if not request.present:
        return dict.fromkeys(request.counts or nodes, 0)
    if request.policy != "needed":
        return dict(request.counts)
    places = sorted(request.counts) or nodes
    if _no_guests_yet(request.config, before):
        wanted = need([], request.page_size, places, nodes)
    else:
        wanted = need_of_host(load_config(request.config), request.page_size, places, nodes)
    return {node: pages + request.counts.get(node, 0) for node, pages in wanted.items()}


def _overcommit(request: PoolRequest, record: PoolRecord) -> int | None:
    """The limit of surplus pages that is to be; of ours, the one before is brought back."""
    if request.present:
        return request.surplus
    return None if request.counts else record.overcommit


def _without_ours(page_size: int, node: int, record: PoolRecord, persistence: PersistencePlan, seen: SeenPools) -> int:
    """What remains of a node's pool without the pages that we have got since the boot, or that our configuration got at boot."""
    present = seen.node_pool(page_size, node).persistent
    return max(0, present - record.pages.get(node, _known(page_size, node, persistence)))


def _known(page_size: int, node: int, persistence: PersistencePlan) -> int:
    """Pages of ours where nothing is noted: those that our configuration has brought at boot."""
    return persistence.before.pages(page_size, node)


def _booted(page_size: int, persistence: PersistencePlan, nodes: list[int]) -> bool:
    """True when the running kernel was asked for all that our boot parameters say."""
    running = running_pools(page_size, nodes)
    wanted = persistence.after.boot.get(page_size, {})
    return all(running.get(node, 0) >= pages for node, pages in wanted.items())


def _conflicts(page_size: int, wanted: Mapping[int, int], persistence: PersistencePlan) -> list[PoolSetting]:
    """Lines of others that set the same pools at boot."""
    ours = [*persistence.groups(persistence.before), *persistence.groups(persistence.after)]
    return [
        item
        for item in pool_settings(default_page_size(), ours=ours)
        if item.page_size == page_size
        and (item.node is None or item.node in wanted)
        and not item.overcommit
        and not (persistence.provided and item.boot)
    ]


def check_others(policy: str, kind: str, wanted: Mapping[int, int], conflicts: Sequence[PoolSetting]) -> None:
    """At boot, numbers are exact: systemd-tmpfiles writes ours over a larger pool of others, and the kernel heeds the first of two parameters.

    :param kind: how the pools come back at each boot: tmpfiles, boot, or none.
    :param wanted: pages by node that are not 0.
    :raises Refused: less than exactness was asked for, and others set the same pool.
    """
    others = [item for item in conflicts if item.node is None or item.node in wanted]
    if policy == "exact" or kind == "none" or not wanted or not others:
        return
    size = format_size(others[0].page_size)
    raise Refused(
        f"Huge pages of {size} are not asked for at each boot: {others[0].file}:{others[0].line} sets the same pool ({others[0].text}).",
        cause=f"A boot knows no policy {policy}: one of the two numbers would be the whole pool, and others could have fewer pages than they"
        " have configured.",
        cure="Remove that line and ask for all pages here, or set persist to none; with policy exact, the line is only warned of.",
    )


def _note(situation: Situation, after: Outcome) -> None:
    """What of the pools is ours now."""
    request, record, persistence = situation.request, situation.record, situation.persistence
    before = PoolRecord(dict(record.pages), record.overcommit)
    for item, now in zip(situation.pools.nodes, after.nodes):
        got = now.persistent - item.before.persistent
        if not request.present and now.persistent <= situation.wanted[item.node]:
            record.pages.pop(item.node, None)
        elif got or persistence.changed:
            known = min(_known(request.page_size, item.node, persistence), item.before.persistent)
            record.add(item.node, known, got)
    if not request.present and not request.counts and after.pool.overcommit == situation.pools.overcommit:
        record.overcommit = None
    elif after.pool.overcommit != situation.pools.before.overcommit and record.overcommit is None:
        record.overcommit = situation.pools.before.overcommit
    if record != before:
        store_record(request.page_size, record)


def _result(situation: Situation, after: Outcome, check: bool) -> dict[str, Any]:
    plan, persistence = situation.pools, situation.persistence
    moved = any(now.persistent != item.before.persistent for item, now in zip(plan.nodes, after.nodes))
    sides, more = diff(plan, after), persistence.diff()
    missing = any(now.persistent < situation.wanted[now.node] for now in after.nodes)
    reboot = situation.later and missing
    return {
        "changed": moved or after.pool.overcommit != plan.before.overcommit or persistence.changed,
        "page_size": plan.wish.page_size,
        "nodes": [{**item, "wanted": situation.wanted[item["node"]]} for item in describe(plan, after)],
        "pool": {"before": plan.before.as_dict(), "after": after.pool.as_dict()},
        "persist": persistence.kind,
        "reboot_required": reboot,
        "conflicts": [item.as_dict() for item in situation.conflicts],
        "cgroup_limits": [item.as_dict() for item in situation.limits],
        "diff": {side: {**sides[side], **more[side]} for side in ("before", "after")},
        "warnings": _warnings(situation, after, reboot),
    }


def _warnings(situation: Situation, after: Outcome, reboot: bool) -> list[str]:
    plan = situation.pools
    size = format_size(plan.wish.page_size)
    found = list(plan.problems)
    if after.short(plan):
        error = shortfall(plan, after)
        found.append(error.message if reboot else str(error))
    if reboot:
        found.append(f"Only a reboot of this host can give the huge pages of {size} that are missing.")
    for item in situation.conflicts:
        found.append(f"{item.file}:{item.line} sets the same pool of huge pages of {size} at boot: {item.text}")
    total = max(after.pool.nr, sum(situation.wanted.values())) * plan.wish.page_size
    for limit in situation.limits:
        if limit.limit < total:
            kind = "reserve" if limit.reservations else "use"
            found.append(
                f"{limit.file} lets the guests in {limit.cgroup} {kind} {limit.limit >> 20} MiB of huge pages of {size},"
                f" the pools have {total >> 20} MiB."
            )
    return found


def requested_counts(node: int | None, count: int | None, nodes: list[tuple[int, int]]) -> dict[int, int]:
    """Pages by node of a list, or of one node and number; without a node, of the host's only one.

    :raises Refused: the host has several nodes and none is named, or one is named twice.
    """
    numbers = [item for item, _pages in nodes]
    if len(set(numbers)) != len(numbers):
        raise Refused("A NUMA node is named twice in nodes.", cure="Name each node once.")
    if count is None:
        return dict(nodes)
    if node is not None:
        return {node: count}
    present = memory_nodes()
    if len(present) > 1:
        raise Refused(
            f"It is not said on which NUMA node the {count} huge pages are to be.",
            cause=f"This host has the nodes {', '.join(map(str, present))}, and spreading them could take pages from a node's pool.",
            cure="Name the node, or list all in nodes.",
        )
    return {present[0]: count}
