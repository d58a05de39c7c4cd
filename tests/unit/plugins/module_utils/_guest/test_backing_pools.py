# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Huge pages on a host with two NUMA nodes: what its pool has, and what the nodes have that blocks are bound to."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.backing_pools import (
    PageDemand,
    check_bound,
    check_nodes,
    check_pools,
    page_demand,
)
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.definition import parse_definition
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.errors import Refused
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.memory_block import MemoryBlock
from ansible_collections.hostmem.qemu.plugins.module_utils._host.bound_pages import BoundPages

from .._memory.sysfs import Sysfs

MIB = 1 << 20
PAGE = 2 * MIB
FREE = {0: 40 * PAGE, 1: 8 * PAGE}


def block(**changes: object) -> MemoryBlock:
    """A memfd of 32 huge pages."""
    memory = {"blocks": [{"size": "64M", "backing": "memfd", "page_size": "2M", **changes}]}
    return parse_definition({"name": "web1", "machine": "pc-q35-10.0", "accel": "tcg", "memory": memory}).blocks[0]


def demand(pages: int, *nodes: int, name: str = "ram0") -> PageDemand:
    """So many pages from these nodes."""
    return PageDemand(name, PAGE, frozenset(nodes), pages * PAGE)


@pytest.fixture(name="sys")
def fixture_sys(tmp_path: Path) -> Sysfs:
    """40 free pages on node 0, 8 on node 1, of which nobody was promised any."""
    found = Sysfs(tmp_path)
    found.node(0, nr=40, free=40)
    found.node(1, nr=8, free=8)
    found.pool(nr=48, free=48)
    return found


@pytest.mark.parametrize("policy", ["interleave", "preferred"])
def test_enough_for_who_is_not_bound(sys: Sysfs, policy: str) -> None:
    """Those policies fall back to other nodes."""
    check_pools([page_demand(block())], sys.root)
    check_pools([page_demand(block(policy=policy, host_nodes=[1]))], sys.root)


def test_bound_to_a_node_that_has_too_few(sys: Sysfs) -> None:
    with pytest.raises(Refused, match="ram0: not enough huge pages of 2M on the NUMA nodes 1") as refusal:
        check_pools([page_demand(block(policy="bind", host_nodes=[1]))], sys.root)
    assert refusal.value.cause == "64M are needed, 16M are free there."
    check_pools([page_demand(block(policy="bind", host_nodes=[0, 1]))], sys.root)


def test_too_few_on_the_whole_host(sys: Sysfs) -> None:
    sys.pool(nr=48, free=48, resv=20)
    with pytest.raises(Refused, match="not enough huge pages of 2M on this host") as refusal:
        check_pools([page_demand(block())], sys.root)
    assert refusal.value.cause == "64M are needed, 56M are free and promised to nobody."
    # Pages beyond the pool come when they are promised.
    sys.pool(nr=48, free=48, resv=20, nr_overcommit=4)
    check_pools([page_demand(block())], sys.root)


def test_a_promise_to_the_file_itself_is_not_counted_against_it(sys: Sysfs) -> None:
    sys.pool(nr=48, free=48, resv=32)
    check_pools([PageDemand("ram0", PAGE, frozenset(), 32 * PAGE, unfilled=32 * PAGE)], sys.root)
    with pytest.raises(Refused, match="not enough"):
        check_pools([PageDemand("ram0", PAGE, frozenset(), 32 * PAGE)], sys.root)


def test_what_is_dropped_before_is_free(sys: Sysfs) -> None:
    check_pools([PageDemand("ram0", PAGE, frozenset(), 60 * PAGE, gained=12 * PAGE)], sys.root)


def test_blocks_on_the_same_nodes_are_counted_together() -> None:
    check_bound([demand(8, 1)], FREE, [])
    with pytest.raises(Refused, match=r"Memory block ram0, ram1: .* on the NUMA nodes 1") as refusal:
        check_bound([demand(5, 1), demand(4, 1, name="ram1")], FREE, [])
    assert refusal.value.cause == "18M are needed, 16M are free there."


def test_blocks_whose_nodes_overlap_are_counted_together() -> None:
    free = {0: 4 * PAGE, 1: 4 * PAGE, 2: 4 * PAGE, 3: 0}
    pair = [demand(6, 0, 1), demand(6, 1, 2, name="ram1")]
    check_bound(pair, free, [])
    with pytest.raises(Refused, match=r"Memory block ram0, ram1, ram2: .* on the NUMA nodes 0, 1, 2"):
        check_bound([*pair, demand(1, 1, name="ram2")], free, [])


def test_what_others_were_promised_there_is_taken() -> None:
    with pytest.raises(Refused, match="on the NUMA nodes 1") as refusal:
        check_bound([demand(6, 1)], FREE, [BoundPages(7, frozenset({1}), 3)])
    assert "16M are free there, of which 6M were promised to others" in refusal.value.cause
    check_bound([demand(6, 1)], FREE, [BoundPages(7, frozenset({0}), 30)])


def test_node_that_is_not_there(sys: Sysfs) -> None:
    check_nodes([block(policy="bind", host_nodes=[0, 1])], sys.root)
    with pytest.raises(Refused, match="no NUMA node 2, 7 with memory"):
        check_nodes([block(policy="interleave", host_nodes=[0, 2, 7])], sys.root)
