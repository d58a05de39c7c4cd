# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of the kernel for pools of huge pages, and what is refused before."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.errors import Refused
from ansible_collections.hostmem.qemu.plugins.module_utils._host.hugepages import gigantic, page_sizes
from ansible_collections.hostmem.qemu.plugins.module_utils._host.numa import memory_nodes, node_memory, parse_node_list
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.pool_changes import foreseen
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.pools import (
    PoolPlan,
    PoolWish,
    check_capacity,
    plan_pools,
)
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.reserve import Reserve, parse_reserve
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.seen_pools import SeenPools

from .sysfs import GIB, MIB, Sysfs


@pytest.fixture(name="sysfs")
def fixture_sysfs(tmp_path: Path) -> Sysfs:
    return Sysfs(tmp_path)


def plan(sysfs: Sysfs, counts: dict[int, int], size: int = 2 * MIB, **changes: Any) -> PoolPlan:
    return plan_pools(PoolWish(size, counts, **{"reserve": Reserve(size=0), **changes}), SeenPools(root=sysfs.root))


def targets(found: PoolPlan) -> dict[int, int]:
    return {item.node: item.target for item in found.nodes}


def test_the_host(sysfs: Sysfs) -> None:
    assert page_sizes(sysfs.root) == [2 * MIB, GIB]
    assert memory_nodes(sysfs.root) == [0, 1]
    assert [gigantic(size) for size in (2 * MIB, 4 * MIB, GIB)] == [False, False, True]


@pytest.mark.parametrize(("text", "nodes"), [("0\n", [0]), ("0-2,5", [0, 1, 2, 5]), ("\n", [])])
def test_node_lists(text: str, nodes: list[int]) -> None:
    assert parse_node_list(text) == nodes


def test_available_memory(sysfs: Sysfs) -> None:
    sysfs.memory(1, free=10 * MIB, file=6 * MIB, slab=4 * MIB)
    assert node_memory(1, sysfs.root).available == 18 * MIB


def test_a_kernel_without_numa(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 8 kB\nMemFree: 4 kB\nActive(file): 2 kB\nInactive(file): 1 kB\nSReclaimable: 0 kB\n")
    assert memory_nodes(str(tmp_path)) == [0]
    assert node_memory(0, str(tmp_path), str(meminfo)).available == 7 * 1024


# --- growing


def test_other_nodes_are_left_alone(sysfs: Sysfs) -> None:
    sysfs.node(0, nr=300, free=300)
    sysfs.pool(nr=300, free=300)
    found = plan(sysfs, {1: 500})
    assert targets(found) == {1: 500}
    assert [item.nr for item in foreseen(found).nodes] == [500]
    assert (foreseen(found).pool.nr, foreseen(found).pool.free) == (800, 800)


def test_a_node_keeps_its_reserve(sysfs: Sysfs) -> None:
    sysfs.memory(0, free=100 * MIB, file=20 * MIB, slab=20 * MIB)
    sysfs.node(0, nr=5, free=5)
    sysfs.pool(nr=5, free=5)
    assert targets(plan(sysfs, {0: 70})) == {0: 70}  # 130 MiB are available
    for counts, reserve, text in (
        (
            {0: 71},
            Reserve(size=0),
            "the 66 that are missing need 132 MiB; it has 100 MiB free and 30 MiB that can be reclaimed",
        ),
        ({0: 61}, Reserve(size=20 * MIB), "of which 20 MiB are kept"),
        ({0: 6}, Reserve(), "of which 256 MiB are kept"),
    ):
        with pytest.raises(Refused, match=text):
            plan(sysfs, counts, reserve=reserve)
    lenient = plan(sysfs, {0: 5000}, reserve=Reserve(size=20 * MIB), lenient=True)
    assert targets(lenient) == {0: 60}
    assert len(lenient.problems) == 1


def test_growth_that_comes_at_the_next_boot_is_not_refused(sysfs: Sysfs) -> None:
    found = plan(sysfs, {1: 9}, size=GIB, later=True)
    assert targets(found) == {1: 3}
    sysfs.node(0, nr=2, size=GIB)
    with pytest.raises(Refused, match="keeps 2 huge pages"):
        plan(sysfs, {0: 0, 1: 9}, size=GIB, later=True)


def test_pools_that_would_leave_nothing_at_boot(sysfs: Sysfs) -> None:
    sysfs.node(0, nr=1024, free=1024)
    check_capacity(PoolWish(GIB, {0: 1}), SeenPools(root=sysfs.root))
    with pytest.raises(Refused, match=r"they are 2048 MiB\. Cause: Of the node's 4096 MiB, 2048 MiB are in pools"):
        check_capacity(PoolWish(GIB, {0: 2}), SeenPools(root=sysfs.root))
    check_capacity(PoolWish(GIB, {0: 2}, reserve=Reserve(size=0)), SeenPools(root=sysfs.root))
    check_capacity(
        PoolWish(2 * MIB, {0: 1024}, reserve=Reserve(percent=90)), SeenPools(root=sysfs.root)
    )  # they are there


@pytest.mark.parametrize(
    ("text", "total", "size"),
    [
        (None, 1 * GIB, GIB // 10),
        (None, 4 * GIB, 256 * MIB),
        (None, 100 * GIB, 5 * GIB),
        ("0", GIB, 0),
        ("64M", GIB, 64 * MIB),
        ("25%", 4 * GIB, GIB),
    ],
)
def test_reserves(text: str | None, total: int, size: int) -> None:
    assert parse_reserve(text).of(total) == size


@pytest.mark.parametrize("text", ["", "x", "101%", "-1", "1 X"])
def test_what_is_no_reserve(text: str) -> None:
    with pytest.raises(ValueError, match="is"):
        parse_reserve(text)


# --- shrinking


@pytest.mark.parametrize(
    ("node", "reserved", "wanted", "floor"),
    [
        ({"nr": 50, "free": 50}, 0, 0, 0),
        ({"nr": 50, "free": 10}, 0, 40, 40),
        ({"nr": 50, "free": 10}, 0, 39, 40),
        ({"nr": 50, "free": 50}, 20, 0, 20),
        ({"nr": 50, "free": 10}, 10, 49, 50),
        ({"nr": 50, "free": 0, "surplus": 40}, 0, 9, 10),
    ],
)
def test_pages_in_use_and_reserved_ones_stay(
    sysfs: Sysfs, node: dict[str, int], reserved: int, wanted: int, floor: int
) -> None:
    sysfs.node(0, **node)
    sysfs.pool(nr=50, free=node["free"], resv=reserved, surplus=node.get("surplus", 0))
    assert targets(plan(sysfs, {0: wanted}, lenient=True)) == {0: floor}
    if wanted < floor:
        with pytest.raises(Refused, match=f"keeps {floor} huge pages of 2M instead of {wanted}"):
            plan(sysfs, {0: wanted})
    else:
        assert targets(plan(sysfs, {0: wanted})) == {0: wanted}


def test_nodes_share_what_is_reserved(sysfs: Sysfs) -> None:
    """Reservations have no node: 30 of 40 free pages are promised, whichever they are."""
    for number in (0, 1):
        sysfs.node(number, nr=20, free=20)
    sysfs.pool(nr=40, free=40, resv=30)
    assert targets(plan(sysfs, {0: 10})) == {0: 10}
    assert targets(plan(sysfs, {0: 15, 1: 15})) == {0: 15, 1: 15}
    with pytest.raises(Refused, match="Node 1 keeps 19 huge pages"):
        plan(sysfs, {0: 11, 1: 18})
    assert targets(plan(sysfs, {0: 0, 1: 40})) == {0: 0, 1: 40}  # grown first, so that the promises can be kept


def test_at_least_never_shrinks(sysfs: Sysfs) -> None:
    sysfs.node(0, nr=50, free=50)
    sysfs.pool(nr=50, free=50)
    found = plan(sysfs, {0: 10, 1: 5}, at_least=True)
    assert targets(found) == {0: 50, 1: 5}


def test_surplus_pages_become_part_of_a_larger_pool(sysfs: Sysfs) -> None:
    sysfs.node(0, nr=50, surplus=40)
    sysfs.pool(nr=50, surplus=40)
    sysfs.memory(0, free=0)
    found = plan(sysfs, {0: 30})  # needs no memory
    assert vars(found.nodes[0].predicted) == {"node": 0, "nr": 50, "free": 0, "surplus": 20}
    sysfs.memory(0, free=20 * MIB)
    found = plan(sysfs, {0: 60})
    assert vars(found.nodes[0].predicted) == {"node": 0, "nr": 60, "free": 10, "surplus": 0}


def test_every_plan_keeps_its_promises(sysfs: Sysfs) -> None:
    """Whatever there is and is wanted: nothing in use or reserved goes, no memory is taken that is not there."""
    sysfs.memory(0, free=64 * MIB)
    for nr, used, reserved, wanted in itertools.product(
        (0, 1, 20), (0, 1, 20), (0, 1, 19), (0, 1, 19, 20, 52, 53, 999)
    ):
        if used + reserved > nr:
            continue
        sysfs.node(0, nr=nr, free=nr - used)
        sysfs.pool(nr=nr, free=nr - used, resv=reserved)
        item = plan(sysfs, {0: wanted}, lenient=True).nodes[0]
        assert used + reserved <= item.target <= nr + 32 or item.target == nr
        assert bool(item.problem) == (item.target != wanted)
        assert item.predicted.persistent == item.target
        assert item.predicted.free - item.before.free == item.growth


# --- what is not there


def test_unknown_page_size(sysfs: Sysfs) -> None:
    with pytest.raises(Refused, match=r"no huge pages of 4M. Cause: Its kernel and processor offer 2M, 1G"):
        plan(sysfs, {0: 1}, size=4 * MIB)


def test_unknown_node(sysfs: Sysfs) -> None:
    with pytest.raises(Refused, match=r"no NUMA node 2, 7 with memory. Cause: .* are 0, 1"):
        plan(sysfs, {7: 1, 0: 1, 2: 1})


def test_a_kernel_without_huge_pages(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="offer none"):
        plan_pools(PoolWish(2 * MIB, {0: 1}), SeenPools(root=str(tmp_path)))
