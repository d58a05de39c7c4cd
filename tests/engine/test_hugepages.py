# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pools of huge pages on the real kernel."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.hugetlb_cgroups import hugetlb_hierarchy
from ansible_collections.hostmem.qemu.plugins.module_utils._host.numa import node_memory
from support.engine import EngineHost
from support.huge_page_pool import PAGE, RECORD, HugePagePool, failed_allocation, fill, huge_page_pool, reserved
from support.modules import foretold, refused, run_module
from support.sound import assert_alive

GIB = 1 << 30
SYSTEMD = os.path.isdir("/run/systemd/system")
TMPFILES = Path("/etc/tmpfiles.d/hostmem-hugepages.conf")


@pytest.fixture(name="pool")
def fixture_pool() -> Iterator[HugePagePool]:
    with huge_page_pool() as pool:
        yield pool


def numbers(pool: HugePagePool) -> tuple[int, int, int]:
    """Pages, surplus pages, and the limit of these."""
    return pool.pages(), pool.pages("surplus_hugepages"), pool.whole("nr_overcommit_hugepages")


def test_pages_are_got_and_given_back(pool: HugePagePool) -> None:
    before = RECORD.exists()
    made = foretold("hugepages", **pool.with_more(8))
    assert made["changed"]
    node = made["nodes"][0]
    assert (node["node"], node["wanted"], node["granted"]) == (0, pool.start + 8, 8)
    assert (node["before"]["nr"], node["after"]["nr"]) == (pool.start, pool.pages())
    assert pool.pages() == pool.start + 8
    assert made["pool"]["after"]["nr"] - made["pool"]["before"]["nr"] == 8
    (path,) = made["diff"]["after"]
    assert (made["diff"]["before"][path], made["diff"]["after"][path]) == (pool.start, pool.start + 8)
    less = foretold("hugepages", **pool.with_more(3))
    assert less["nodes"][0]["granted"] == -5
    gone = foretold("hugepages", state="absent")
    assert gone["nodes"][0]["granted"] == -3
    assert pool.pages() == pool.start
    assert RECORD.exists() == before


def test_what_was_there_before_stays(pool: HugePagePool) -> None:
    """Somebody else's pages are neither shrunk by at_least nor given back."""
    pool.add(4)
    saved = RECORD.read_text()
    RECORD.unlink()  # so they are somebody else's
    try:
        assert not foretold("hugepages", **pool.with_more(2, policy="at_least"))["changed"]
        assert foretold("hugepages", **pool.with_more(6, policy="at_least"))["nodes"][0]["granted"] == 2
        assert foretold("hugepages", state="absent", node=0)["nodes"][0]["granted"] == -2
        assert pool.pages() == pool.start + 4
    finally:
        RECORD.write_text(saved)


def test_surplus(pool: HugePagePool) -> None:
    """Pages beyond the pool come with a mapping and go with it; the limit that was there before comes back."""
    limit = pool.whole("nr_overcommit_hugepages")
    pool.add(1)
    free = pool.whole("free_hugepages") - pool.whole("resv_hugepages")
    made = foretold("hugepages", **pool.with_more(1, surplus=limit + 2))
    assert made["pool"]["after"]["overcommit"] == limit + 2
    place = pool.mount()
    with reserved(place / "file", free + 2):
        assert pool.pages("surplus_hugepages") == 2
    (place / "file").unlink()
    assert pool.pages("surplus_hugepages") == 0
    assert foretold("hugepages", state="absent")["pool"]["after"]["overcommit"] == limit


@pytest.mark.parametrize("how", ["file", "failed allocation", "reservation"])
def test_pages_in_use_stay(pool: HugePagePool, how: str) -> None:
    """The kernel would make them surplus pages without a word."""
    pool.add(6)
    # Another test's free pages could be taken for ours: all that are free are used here.
    everything = pool.whole("free_hugepages") - pool.whole("resv_hugepages")
    place = pool.mount()
    before = numbers(pool)
    with contextlib.ExitStack() as stack:
        if how == "reservation":
            stack.enter_context(reserved(place / "held", everything))
        elif how == "file":
            fill(place / "held", everything)
        else:
            failed_allocation(place / "held", everything + 1)
        text = refused("hugepages", **pool.with_more(0))
        assert f"Node 0 keeps {pool.start + 6} huge pages of 2M instead of {pool.start}" in text
        if how != "reservation":
            assert f"{place}/held ({everything * 2048} KiB, mapped by no process)" in text
        assert "Node 0 keeps" in refused("hugepages", state="absent")
        assert numbers(pool) == before
        if how == "file":
            os.truncate(place / "held", (everything - 2) * PAGE)
            warned = foretold("hugepages", **pool.with_more(0, shortfall="warn"))
            assert warned["nodes"][0]["granted"] == -2
            assert f"instead of {pool.start}" in warned["warnings"][0]
            assert pool.pages("surplus_hugepages") == before[1]
    (place / "held").unlink()
    foretold("hugepages", **pool.with_more(0))
    assert pool.pages() == pool.start


def test_a_node_never_runs_out_of_memory(pool: HugePagePool) -> None:
    text = refused("hugepages", **pool.with_more(10_000_000))
    assert f"Node 0 is not asked for {pool.start + 10_000_000} huge pages of 2M" in text
    assert "MiB free" in text
    assert "Set shortfall to warn" in text
    assert pool.pages() == pool.start
    spare = 256 * PAGE
    keep = node_memory(0).available - spare
    warned = run_module("hugepages", **pool.with_more(1_000_000, shortfall="warn", reserve=str(keep)))
    text = warned["warnings"][0]
    found = re.search(r"it has (\d+) MiB free and (\d+) MiB that can be reclaimed, of which (\d+) MiB are kept", text)
    assert found, text
    free, reclaimable, kept = map(int, found.groups())
    assert kept == keep >> 20
    # Each number is rounded down to MiB; what others on this machine take or leave meanwhile is in them.
    possible = (free + reclaimable - keep / 2**20) / 2
    assert max(0, possible - 1) <= warned["nodes"][0]["granted"] <= max(0, possible + 1)
    assert pool.pages() == pool.start + warned["nodes"][0]["granted"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            {"page_size": "3M", "count": 1},
            "This host has no huge pages of 3M. Cause: Its kernel and processor offer 2M",
        ),
        ({"page_size": "x", "count": 1}, "page_size: 'x' is not a size"),
        ({"reserve": "200%", "count": 1}, "more than 100%"),
        ({"node": 77, "count": 1}, "This host has no NUMA node 77 with memory. Cause: Its nodes with memory are 0"),
        ({"nodes": [{"node": 0}, {"node": 0}]}, "named twice"),
        ({}, "policy: exact needs count or nodes"),
        ({"count": -1}, "count: -1 is below 0. Cure: Give a number of pages, 0 or more."),
        ({"surplus": -1, "count": 1}, "surplus: -1 is below 0"),
        ({"nodes": [{"node": 0, "count": -2}]}, "count: -2 is below 0"),
        ({"count": 1, "tries": 0}, "tries: 0 is below 1. Cure: Give a number, 1 or more."),
        ({"policy": "needed", "config": "/nonexistent"}, "/nonexistent is missing"),
    ],
)
def test_what_is_wrong_is_refused(pool: HugePagePool, arguments: dict[str, Any], text: str) -> None:
    assert text in refused("hugepages", **{"persist": "none", **arguments})
    assert pool.pages() == pool.start


def test_surplus_pages_of_1_gib(pool: HugePagePool) -> None:
    """Kernels differ in whether they have them: the module says what this one says."""
    directory = Path("/sys/kernel/mm/hugepages/hugepages-1048576kB")
    arguments = {"page_size": "1G", "node": 0, "persist": "none"}
    if not directory.exists():
        assert "no huge pages of 1G" in refused("hugepages", count=0, surplus=1, **arguments)
        return
    limit = pool.whole("nr_overcommit_hugepages", GIB)
    wanted: dict[str, Any] = {**arguments, "count": pool.pages(size=GIB), "surplus": limit + 1}
    problem = ""
    try:
        (directory / "nr_overcommit_hugepages").write_text(f"{limit + 1}\n")
    except OSError as error:
        problem = error.strerror or ""
    else:
        (directory / "nr_overcommit_hugepages").write_text(f"{limit}\n")
    if problem:
        text = run_module("hugepages", **wanted)["msg"]
        assert f"Surplus pages of 1G cannot be allowed. Cause: The kernel said: {problem}" in text
    else:
        assert foretold("hugepages", **wanted)["pool"]["after"]["overcommit"] == limit + 1
        foretold("hugepages", page_size="1G", state="absent")
    assert pool.whole("nr_overcommit_hugepages", GIB) == limit


def test_the_need_of_guests(pool: HugePagePool, host: EngineHost) -> None:
    """Those that are defined, running or not; and nothing is kept when they are forgotten."""
    block = host.block("g1", backing="hugetlbfs", page_size="2M", directory=str(pool.directory / "g1"))
    wanted = {"policy": "needed", "persist": "none", "config": str(host.config), "node": 0, "count": pool.start}
    assert not foretold("hugepages", **wanted)["changed"]
    host.define(host.heartbeat("g1", memory={"blocks": [block]}))
    host.define(
        host.heartbeat("g2", memory={"blocks": [{**block, "id": "ram0", "backing": "memfd", "directory": None}]})
    )
    assert foretold("hugepages", **wanted)["nodes"][0]["wanted"] == pool.start + 64
    host.one("undefine", "g2")
    assert foretold("hugepages", **wanted)["nodes"][0]["granted"] == -32
    assert pool.pages() == pool.start + 32


def test_the_pages_of_a_running_guest(pool: HugePagePool, host: EngineHost) -> None:
    """They are not taken, and its mount is neither unmounted nor made anew; the guest notices nothing."""
    pool.add(40)
    place = str(pool.directory / "guests")
    mount = {"path": place, "persistent": False, "size": "80M"}
    foretold("hugetlbfs_mount", **mount)
    block = host.block("g", backing="hugetlbfs", page_size="2M", directory=f"{place}/g", prealloc=True)
    page = host.boot("g", memory={"blocks": [block]})
    pid = host.only_qemu("g")
    before = numbers(pool)
    text = refused("hugepages", **pool.with_more(0))
    users = sorted([pid, os.getpid()])  # this process looks at the guest's memory
    assert f"{place}/g/qemu_back_mem.0+4000000.ram0 (65536 KiB, mapped by {users[0]}, {users[1]})" in text
    for arguments in ({**mount, "state": "absent", "discard_files": True}, {**mount, "size": "82M"}):
        text = refused("hugetlbfs_mount", **arguments)
        assert "it is in use" in text
        assert f"process {pid} ({host.qemu}" in text
        assert f"maps {place}/g/qemu_back_mem.0+4000000.ram0" in text
    assert foretold("hugetlbfs_mount", **mount)["mount"]["files"][0]["mapped_by"] == users
    assert numbers(pool) == before
    assert_alive(page)
    page.close()
    host.one("stop", "g")
    foretold("hugetlbfs_mount", **{**mount, "state": "absent"})
    foretold("hugepages", **pool.with_more(0))


# --- at boot


def test_others_configuration_is_named_and_stays_byte_for_byte(pool: HugePagePool) -> None:
    files = {
        Path("/etc/sysctl.d/zz-hostmem-test.conf"): "# x\nvm.nr_hugepages=5\n",
        Path(
            "/etc/tmpfiles.d/zz-hostmem-test.conf"
        ): "w /sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages - - - - 5\n",
        Path(
            "/etc/tmpfiles.d/zz-hostmem-other.conf"
        ): "w /sys/devices/system/node/node9/hugepages/hugepages-2048kB/nr_hugepages - - - - 5\n",
    }
    for path, text in files.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    try:
        found = foretold("hugepages", **pool.with_more(2))
        named = [f"{item['file']}:{item['line']}" for item in found["conflicts"] if "zz-hostmem" in item["file"]]
        assert named == ["/etc/sysctl.d/zz-hostmem-test.conf:2", "/etc/tmpfiles.d/zz-hostmem-test.conf:1"]
        for place in named:
            assert any(text.startswith(f"{place} sets the same pool") for text in found["warnings"])
        foretold("hugepages", state="absent")
        assert {path: path.read_text() for path in files} == files
    finally:
        for path in files:
            path.unlink()


def test_pools_come_back_at_boot_only_by_what_is_there(pool: HugePagePool) -> None:
    """systemd-tmpfiles where systemd runs; elsewhere that is an error before anything changes."""
    arguments = pool.with_more(2, persist="auto")
    if SYSTEMD:
        assert foretold("hugepages", **arguments)["persist"] == "tmpfiles"
        assert f"nr_hugepages - - - - {pool.start + 2}\n" in TMPFILES.read_text()
        foretold("hugepages", state="absent")
        assert not TMPFILES.exists()
    else:
        assert "needs systemd, which does not run on this host" in refused("hugepages", **arguments)
        assert pool.pages() == pool.start


# --- control groups


@contextlib.contextmanager
def limited_group(pool: HugePagePool, name: str) -> Iterator[Path]:
    """A group of this name, as of a guest's unit, with a limit of one page, in the machine's own hierarchy."""
    root = hugetlb_hierarchy()
    if root is None:  # the controller is not in version 2, or it is not mounted
        root = str(pool.directory / "cgroup")
        os.mkdir(root)
        subprocess.run(["mount", "-t", "cgroup", "-o", "hugetlb", "none", root], check=True)
    elif Path(f"{root}/cgroup.subtree_control").exists():
        Path(f"{root}/cgroup.subtree_control").write_text("+hugetlb")
    group = Path(root) / name
    group.mkdir()
    try:
        limit = "rsvd.max" if (group / "hugetlb.2MB.rsvd.max").exists() else "rsvd.limit_in_bytes"
        (group / f"hugetlb.2MB.{limit}").write_text(str(PAGE))
        yield group
    finally:
        group.rmdir()


@pytest.mark.parametrize("name", ["hostmem-guest@test.service", r"machine-qemu\x2d1\x2dhostmemtest.scope"])
def test_limits_of_control_groups_are_reported(pool: HugePagePool, name: str) -> None:
    """Of our guests' units, and of those that libvirt makes."""
    with limited_group(pool, name) as group:
        found = foretold("hugepages", **pool.with_more(4))
        (limit,) = [item for item in found["cgroup_limits"] if item["file"].startswith(str(group))]
        assert (limit["cgroup"], limit["limit"], limit["usage"]) == (f"/{name}", PAGE, 0)
        assert any(f"lets the guests in /{name} reserve 2 MiB" in text for text in found["warnings"])
