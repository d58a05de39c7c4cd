# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Free huge pages that a node keeps for those who can take them nowhere else."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.bound_pages import BoundPages, bound_nodes
from ansible_collections.hostmem.qemu.plugins.module_utils._host.errors import Refused
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.pools import PoolWish, plan_pools
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.promised_pages import kept_free
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.reserve import Reserve
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.seen_pools import SeenPools

from .sysfs import MIB, Sysfs


def promise(pages: int, *nodes: int, pid: int = 1) -> BoundPages:
    return BoundPages(pid, frozenset(nodes), pages)


@pytest.mark.parametrize(
    ("policy", "nodes"),
    [
        ("default", None),
        ("interleave:0-1", None),
        ("prefer:1", None),
        ("prefer (many):0-1", None),
        ("local", None),
        ("bind:1", {1}),
        ("bind:0-1,4", {0, 1, 4}),
        ("bind=static:2", {2}),
        ("bind=relative|balancing:2", {2}),
    ],
)
def test_policies(policy: str, nodes: set[int] | None) -> None:
    assert bound_nodes(policy) == nodes


@pytest.mark.parametrize(
    ("node", "free", "promised", "kept"),
    [
        (0, {0: 8, 1: 8}, [], 0),
        (0, {0: 8, 1: 8}, [promise(3, 0)], 3),
        (1, {0: 8, 1: 8}, [promise(3, 0)], 0),
        (0, {0: 8, 1: 8}, [promise(3, 0), promise(2, 0)], 5),
        # Node 1 can serve all of the second one, or not.
        (0, {0: 8, 1: 8, 2: 8}, [promise(3, 0), promise(8, 0, 1)], 3),
        (0, {0: 8, 1: 6, 2: 8}, [promise(3, 0), promise(8, 0, 1)], 5),
        # Two groups that overlap: together they need more than each of them.
        (0, {0: 8, 1: 4, 2: 2}, [promise(4, 0, 1), promise(6, 1, 2)], 4),
    ],
)
def test_kept(node: int, free: dict[int, int], promised: list[BoundPages], kept: int) -> None:
    assert kept_free(node, free, promised)[0] == kept


def test_kept_is_what_serves_everybody() -> None:
    """Held against trying out every way to serve them, on three nodes."""
    promised = [promise(2, 0), promise(3, 0, 1), promise(2, 1, 2)]

    def serves(free: dict[int, int]) -> bool:
        options = [sorted(item.nodes) for item in promised for _page in range(item.pages)]
        return any(all(choice.count(node) <= free[node] for node in free) for choice in itertools.product(*options))

    for others in itertools.product(range(4), repeat=2):
        free = {0: 7, 1: others[0], 2: others[1]}
        kept, _whom = kept_free(0, free, promised)
        if serves(free):
            assert serves({**free, 0: kept})
            assert kept == 0 or not serves({**free, 0: kept - 1})


def pools(tmp_path: Path) -> Sysfs:
    """Node 0 with 8 free pages of 2 MiB, node 1 with 4; 3 of all of them are reserved."""
    sysfs = Sysfs(tmp_path)
    sysfs.node(0, nr=8, free=8)
    sysfs.node(1, nr=4, free=4)
    sysfs.pool(nr=12, free=12, resv=3)
    return sysfs


def test_a_node_is_not_shrunk_below_what_it_alone_can_give(tmp_path: Path) -> None:
    seen = SeenPools(root=pools(tmp_path).root)
    wish = PoolWish(2 * MIB, {0: 1}, reserve=Reserve(size=0))
    # Without a word of who is promised them, the other node's pages would do.
    assert [item.target for item in plan_pools(wish, seen, []).nodes] == [1]
    assert [item.target for item in plan_pools(wish, seen, [promise(3, 1)]).nodes] == [1]
    with pytest.raises(
        Refused, match=r"keeps 3 huge pages of 2M instead of 1: .*process 1\), which may still take 3 from node 0 only"
    ):
        plan_pools(wish, seen, [promise(3, 0)])


def test_both_nodes_at_once(tmp_path: Path) -> None:
    seen = SeenPools(root=pools(tmp_path).root)
    wish = PoolWish(2 * MIB, {0: 0, 1: 0}, reserve=Reserve(size=0), lenient=True)
    assert {item.node: item.target for item in plan_pools(wish, seen, [promise(2, 1), promise(1, 0)]).nodes} == {
        0: 1,
        1: 2,
    }
