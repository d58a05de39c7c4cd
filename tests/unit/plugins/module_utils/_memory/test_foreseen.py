# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What tasks before would leave in check mode, and what later ones make of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.errors import Refused
from ansible_collections.hostmem.qemu.plugins.module_utils._host.hugepages import NodePool, Pool
from ansible_collections.hostmem.qemu.plugins.module_utils._host.hugetlbfs_files import HugeFile
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.devices_to_come import (
    device_to_come,
    is_to_come,
    namespace_to_come,
    words_for,
)
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.foreseen import Foreseen, foreseen_in
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.hugetlbfs_mounts import (
    MountPlan,
    pools_after,
    pools_without,
)
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.hugetlbfs_options import LiveOptions
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.namespaces import (
    plan_absent,
    plan_present,
    presumptions,
    regions_after,
)
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.pool_persistence import PersistentPools
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.pools import PoolWish, plan_pools
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.reserve import Reserve
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.seen_pools import ForeseenPool, SeenPools

from .sysfs import GIB, MIB, Sysfs
from .test_namespaces import START, namespace, region, wish

PAGE = 2 * MIB
UNLABELLED = region(replace(namespace("namespace0.0", START, 512 * MIB, mode="raw"), device=""), labels=False)


def pools(nr: int, free: int, reserved: int = 0, root: str = "/sys") -> SeenPools:
    """Pages of 2 MiB on node 0."""
    whole = Pool(nr, free, reserved, 0, 0)
    return SeenPools({PAGE: ForeseenPool(whole, {0: NodePool(0, nr, free, 0)})}, root)


def mount_plan(before: LiveOptions | None, after: LiveOptions | None, files: list[HugeFile]) -> MountPlan:
    return MountPlan("/mnt", None, None, before, after, None, None, files)


def least(pages: int) -> LiveOptions:
    return LiveOptions(PAGE, None, pages * PAGE, None)


def test_it_is_handed_on_as_json() -> None:
    found = Foreseen(
        users=("qemu",),
        groups=("hostmem",),
        files=("/etc/hostmem/config.json",),
        packages=("ndctl",),
        pools=pools(64, 60, 8),
        configured=PersistentPools({"/sys/nr": 3}, {GIB: {0: 1, 1: 2}, PAGE: {0: 4}}, "[Unit]\n"),
        regions=(region(namespace("", START, 64 * MIB, name="first")),),
        unmounted=("/srv/huge",),
    )
    assert foreseen_in(json.loads(json.dumps(found.as_dict()))) == found
    assert foreseen_in(None) == foreseen_in({}) == foreseen_in(Foreseen().as_dict()) == Foreseen()


@pytest.mark.parametrize(
    "data",
    [
        {"pages": 3},
        {"pools": [{"page_size": PAGE}]},
        {"pools": [{"page_size": PAGE, "pool": {"nr": 1}, "nodes": []}]},
        {"regions": [{"dev": "region0"}]},
        {"groups": 3},
    ],
)
def test_what_is_not_understood(data: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="foreseen"):
        foreseen_in(data)


def test_pools_of_another_size_take_memory(tmp_path: Path) -> None:
    sysfs = Sysfs(tmp_path)  # 3 GiB are free
    wanted = PoolWish(GIB, {0: 3}, reserve=Reserve(size=0))
    assert plan_pools(wanted, SeenPools(root=sysfs.root)).changed
    with pytest.raises(Refused, match="not asked for 3 huge pages of 1G"):
        plan_pools(wanted, pools(1, 1, root=sysfs.root))


def test_what_is_presumed_is_said(tmp_path: Path) -> None:
    sysfs = Sysfs(tmp_path)
    sysfs.pool(PAGE, nr=4, free=4)
    sysfs.node(0, nr=4, free=4)
    assert not pools(4, 4, root=sysfs.root).presumed(PAGE)
    assert not pools(64, 64, root=sysfs.root).presumed(GIB)
    text = pools(64, 64, 8, root=sysfs.root).presumed(PAGE)
    assert "has 64 huge pages of 2M (64 free, 8 of them reserved) by then" in text
    assert "now it has 4 huge pages" in text


def test_mounts_reserve_one_after_the_other() -> None:
    after = pools_after(mount_plan(None, least(40), []), pools(64, 64))
    assert after.pool(PAGE) == Pool(64, 64, 40, 0, 0)
    assert pools_after(mount_plan(least(40), least(40), []), after) == after
    moved = pools_after(mount_plan(least(40), least(50), []), after)
    assert moved.pool(PAGE).reserved == 50


def test_a_mount_gives_back_what_it_holds() -> None:
    """Of 20 pages for itself, 8 are in a file; and half of a file that is promised to it is not touched yet."""
    files = [HugeFile("/mnt/a", 8 * PAGE, 8 * PAGE, ())]
    after = pools_without(mount_plan(least(20), None, files), pools(64, 54, 12))
    assert after.pool(PAGE) == Pool(64, 62, 0, 0, 0)
    assert after.node_pool(PAGE, 0).free == 62
    half = [HugeFile("/mnt/a", 8 * PAGE, 4 * PAGE, ())]
    unlimited = LiveOptions(PAGE, None, None, None)
    assert pools_without(mount_plan(unlimited, None, half), pools(64, 60, 5)).pool(PAGE) == Pool(64, 64, 1, 0, 0)


def test_namespaces_are_made_one_after_the_other() -> None:
    first = wish(name="first", region="region0", size=320 * MIB)
    plan = plan_present(replace(first, destroy="namespace0.0"), Foreseen(regions=(UNLABELLED,)))
    assert (plan.action, plan.label) == ("create", True)
    after = Foreseen(regions=regions_after(plan, [UNLABELLED]))
    assert not plan_present(first, after).changed
    # What is left, without a size.
    second = plan_present(wish(name="second", region="region0"), after)
    made = second.predicted()
    assert made is not None
    assert (second.action, second.label, made.raw_size) == ("create", False, 192 * MIB)
    assert presumptions(second, after) == ["Presuming that by then region0 holds a new one named first (fsdax, 320M)."]
    full = Foreseen(regions=regions_after(second, after.regions or ()))
    with pytest.raises(Refused, match="region0 has no room"):
        plan_present(wish(name="third", region="region0"), full)
    # And the way back.
    gone = plan_absent(wish(name="second"), Foreseen(regions=(region(namespace("namespace0.1", START, 64 * MIB)),)))
    assert not gone.changed


def test_a_device_that_is_to_come() -> None:
    new = replace(namespace("", START, 64 * MIB, name="first"), device="")
    character = replace(new, name="second", mode="devdax")
    there = namespace("namespace0.2", START, 64 * MIB, name="third")
    foreseen = Foreseen(regions=(region(new, character, there),))
    device = device_to_come(words_for("first"), foreseen)
    assert device is not None
    assert is_to_come(device)
    assert device.dax
    assert namespace_to_come("third", foreseen) is None
    assert device_to_come("/dev/pmem0", foreseen) is None
    with pytest.raises(Refused, match="no block device"):
        device_to_come(words_for("second"), foreseen)
