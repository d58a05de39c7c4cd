# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pools of huge pages of which the real kernel gives less than was asked for, or nothing, or takes back less: told, and as before."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.errors import HostmemError
from ansible_collections.hostmem.qemu.plugins.module_utils._host.numa import SYS, node_memory
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.pool_changes import apply_pools, foreseen
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.pools import PoolPlan, PoolWish, plan_pools
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.reserve import Reserve
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.seen_pools import SeenPools
from support.huge_page_pool import PAGE, RECORD, HugePagePool, fill, huge_page_pool
from support.modules import run_module
from support.short_grants import requests, run_interrupted

GIB = 1 << 30
GRANT = re.compile(
    r"Node 0 gave (\d+) huge pages of (\S+) instead of (\d+) \(it had (\d+) before, and has \d+ MiB free now\)\."
)


@pytest.fixture(name="pool")
def fixture_pool() -> Iterator[HugePagePool]:
    with huge_page_pool() as pool:
        yield pool


def much(pool: HugePagePool, **arguments: Any) -> dict[str, Any]:
    """Arguments for more pages than come between two signals, and not more than there is memory for."""
    return pool.with_more(min(2048, node_memory(0).available // PAGE // 2), reserve="0", **arguments)


def state(pool: HugePagePool) -> tuple[int, int, int, str]:
    """Pages, surplus pages, the limit of these, and what is noted as ours."""
    noted = RECORD.read_text() if RECORD.exists() else ""
    return pool.pages(), pool.pages("surplus_hugepages"), pool.whole("nr_overcommit_hugepages"), noted


@pytest.mark.parametrize(
    ("tries", "compact", "asked", "compacted"), [(1, True, 1, 0), (3, True, 3, 2), (3, False, 3, 0)]
)
def test_a_short_grant_is_an_error_with_the_numbers_and_is_given_back(
    pool: HugePagePool, tries: int, compact: bool, asked: int, compacted: int
) -> None:
    """After so many tries, with a compaction between two of them, unless that was not wanted."""
    before = state(pool)
    arguments = much(pool, tries=tries, compact=compact, surplus=before[2] + 2)
    with requests(PAGE) as seen:
        result = run_interrupted("hugepages", **arguments)
    assert result["failed"]
    gave, size, wanted, had = GRANT.fullmatch(result["error"]["message"]).groups()  # type: ignore[union-attr]
    assert (size, int(wanted), int(had)) == ("2M", arguments["count"], pool.start)
    assert pool.start < int(gave) < arguments["count"]
    assert "not in pieces large enough" in result["error"]["cause"]
    assert "persist: boot" in result["error"]["cure"]
    assert (seen["nr_hugepages"], seen["compact"]) == (asked + 1, compacted)  # the last gives back
    assert state(pool) == before


def test_nobody_is_asked_again_who_gave_all(pool: HugePagePool) -> None:
    with requests(PAGE) as seen:
        assert run_module("hugepages", **pool.with_more(3, tries=9))["changed"]
    assert (seen["nr_hugepages"], seen["compact"]) == (1, 0)


def test_a_short_grant_is_kept_where_it_may_be(pool: HugePagePool) -> None:
    """What came is what the result says, and is ours to give back."""
    arguments = much(pool, shortfall="warn", tries=1)
    result = run_interrupted("hugepages", **arguments)
    now = pool.pages()
    assert pool.start < now < arguments["count"]
    assert result["changed"]
    node = result["nodes"][0]
    assert (node["wanted"], node["granted"], node["after"]["nr"]) == (arguments["count"], now - pool.start, now)
    (path,) = result["diff"]["after"]
    assert result["diff"]["after"][path] == now
    (warning,) = [text for text in result["warnings"] if "gave" in text]
    assert GRANT.match(warning).group(1, 3) == (str(now), str(arguments["count"]))  # type: ignore[union-attr]
    assert run_module("hugepages", state="absent")["nodes"][0]["granted"] == pool.start - now


def test_pages_of_1_gib_that_fall_short(pool: HugePagePool) -> None:
    """One signal, and the kernel looks for no second one; whether it finds the first depends on the machine."""
    if not Path("/sys/kernel/mm/hugepages/hugepages-1048576kB").exists():
        text = run_module("hugepages", page_size="1G", node=0, count=1, persist="none")["msg"]
        assert "no huge pages of 1G" in text
        return
    before = pool.pages(size=GIB)
    arguments = {"page_size": "1G", "node": 0, "count": before + 2, "persist": "none", "tries": 1, "reserve": "0"}
    try:
        result = run_interrupted("hugepages", **arguments)
        gave, size, wanted, had = GRANT.fullmatch(result["error"]["message"]).groups()  # type: ignore[union-attr]
        assert (size, int(wanted), int(had)) == ("1G", before + 2, before)
        assert int(gave) in (before, before + 1)
        assert pool.pages(size=GIB) == before
    finally:
        run_module("hugepages", page_size="1G", state="absent")


# --- the kernel says no, or somebody was faster


def test_pages_that_are_taken_meanwhile_stay(pool: HugePagePool) -> None:
    """Between the plan and the change: they are no surplus pages afterwards, which would go with their user."""
    pool.add(6)
    place = pool.mount()
    plan = plan_pools(PoolWish(PAGE, {0: pool.start}))
    before = state(pool)
    everything = pool.whole("free_hugepages") - pool.whole("resv_hugepages")
    fill(place / "held", everything)
    with pytest.raises(HostmemError, match="were taken into use meanwhile") as caught:
        apply_pools(plan, 1, True, keep=False)
    assert f"Node 0 cannot be left with {pool.start} huge pages of 2M" in caught.value.message
    assert state(pool) == before


def test_an_overcommit_is_taken_back_when_the_pool_cannot_be_set(pool: HugePagePool) -> None:
    """In a container, /sys can be read-only in parts."""
    before = state(pool)
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    node = f"{SYS}/devices/system/node/node0/hugepages"
    result = run_module(
        "hugepages",
        before=["unshare", "--mount", "sh", "-c", script, node],
        **pool.with_more(2, surplus=before[2] + 5),
    )
    assert "does not let the huge pages of 2M on node 0 be set. Cause: It said: Read-only file system" in result["msg"]
    assert state(pool) == before


@pytest.fixture(name="second")
def fixture_second(tmp_path: Path) -> str:
    """A directory in the place of /sys: the kernel's own node 0, and a node 1 whose pool it does not let be set, for this machine has none."""
    (tmp_path / "kernel").symlink_to(f"{SYS}/kernel")
    nodes = tmp_path / "devices/system/node"
    one = nodes / f"node1/hugepages/hugepages-{PAGE // 1024}kB"
    one.mkdir(parents=True)
    (nodes / "has_memory").write_text("0-1\n")
    (nodes / "node0").symlink_to(f"{SYS}/devices/system/node/node0")
    text = (nodes / "node0/meminfo").read_text()
    (nodes / "node1/meminfo").write_text(text.replace("Node 0", "Node 1"))
    for name in ("nr", "free", "surplus"):
        (one / f"{name}_hugepages").write_text("0\n")
    (one / "nr_hugepages").unlink()
    (one / "nr_hugepages").symlink_to("/proc/sys/kernel/ngroups_max")  # a number that not even root can set
    return str(tmp_path)


def two_nodes(pool: HugePagePool, root: str, **changes: Any) -> PoolPlan:
    there = int(Path("/proc/sys/kernel/ngroups_max").read_text())
    counts = {0: pool.start + 3, 1: there + 1}
    return plan_pools(PoolWish(PAGE, counts, reserve=Reserve(size=0), **changes), SeenPools(root=root))


def test_a_node_that_gave_gets_it_back_when_the_next_one_refuses(pool: HugePagePool, second: str) -> None:
    before = state(pool)
    plan = two_nodes(pool, second, overcommit=before[2] + 5)
    with pytest.raises(HostmemError, match="on node 1 be set"):
        apply_pools(plan, 1, False, keep=False)
    assert state(pool) == before


def test_pages_that_come_at_the_next_boot_need_no_kernel_that_gives_them_now(pool: HugePagePool, second: str) -> None:
    """Such as one without CONFIG_CONTIG_ALLOC, for pages of 1 GiB."""
    plan = two_nodes(pool, second, later=True)
    after = apply_pools(plan, 2, False, keep=True)
    assert pool.pages() == pool.start + 3
    assert after.short(plan) == {1: 1}
    assert foreseen(plan).short(plan) == {}
    pool.add(0)
