# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pools of huge pages of a host with two NUMA nodes, under guests that are bound to one of them and have not touched all their memory."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.vm_runtime import VmRuntime

PAGES = 32
GUEST = 64 << 20
POOL = "/sys/devices/system/node/node{node}/hugepages/hugepages-2048kB/{name}"
BLOCK = {"size": GUEST, "page_size": "2M", "policy": "bind", "host_nodes": [0]}
# On the host, a thread of whose first CPU would take pages from node 0.
FILL = """
import json, os, sys
sys.path[:0] = ["/srv"]
from held_calls import held_calls
from module_utils._host.prealloc import fill
file = os.open("/dev/hugepages/filled", os.O_RDWR | os.O_CREAT)
os.ftruncate(file, {size})
calls = held_calls(lambda: fill(file, {size}, 2 << 20, 2, [0], {policy!r}, {nodes}), populates={populates})
print(json.dumps(sorted({{call.name for call in calls}})))
"""
# On the host: what the module hugepages would ask of the kernel.
PLAN = """
import json, sys
sys.path[:0] = ["/srv"]
from module_utils._host.errors import Refused
from module_utils._memory.pools import PoolWish, plan_pools
try:
    plan = plan_pools(PoolWish(2 << 20, {counts}), promised={promised})
    print(json.dumps({{item.node: item.target for item in plan.nodes}}))
except Refused as error:
    print(json.dumps(str(error)))
"""


def pool(vm: VmRuntime, node: int, name: str = "free_hugepages") -> int:
    return int(vm.host.run(f"cat {POOL.format(node=node, name=name)}"))


def planned(vm: VmRuntime, counts: dict[int, int], promised: str = "None") -> Any:
    return json.loads(vm.python(PLAN.format(counts=counts, promised=promised)))


def start(vm: VmRuntime) -> None:
    """Until the guest has touched all that it touches at its start."""
    vm.host.run("rm -f /var/log/hostmem/g/console-c0.log")
    vm.one("start", "g")
    deadline = time.monotonic() + 180
    while not vm.host.run("grep -c ^T /var/log/hostmem/g/console-c0.log", check=False).strip("0"):
        assert time.monotonic() < deadline
        time.sleep(1)


@pytest.fixture(scope="module", name="modules", autouse=True)
def fixture_modules(vm: VmRuntime) -> None:
    root = Path(__file__).resolve().parents[2]
    vm.host.push([str(root / "plugins" / "module_utils"), str(root / "tests" / "support" / "held_calls.py")], "/srv")


@pytest.fixture(name="pools", autouse=True)
def fixture_pools(vm: VmRuntime) -> None:
    for node in (0, 1):
        vm.host.run(f"echo {PAGES} >{POOL.format(node=node, name='nr_hugepages')}")
    vm.host.run("mkdir -p /dev/hugepages; mountpoint -q /dev/hugepages || mount -t hugetlbfs hugetlbfs /dev/hugepages")


@pytest.fixture(name="guest")
def fixture_guest(vm: VmRuntime) -> Iterator[None]:
    """The test defines it."""
    yield
    vm.one("stop", "--timeout", "0", "g")
    vm.one("undefine", "g")


@pytest.mark.usefixtures("guest")
@pytest.mark.parametrize("backing", ["hugetlbfs", "memfd"])
def test_a_node_keeps_what_a_guest_bound_to_it_has_not_touched(vm: VmRuntime, backing: str) -> None:
    vm.define("g", {**BLOCK, "backing": backing})
    start(vm)
    free = pool(vm, 0)
    assert 0 < PAGES - free < PAGES  # touched some, and not all
    refused = planned(vm, {0: PAGES - free})
    assert f"Node 0 keeps {PAGES} huge pages of 2M" in refused
    assert (
        f"guest g (process {vm.host.run('cat /run/hostmem/g/pid')}), which may still take {free} from node 0 only"
        in refused
    )
    # The kernel's count of promised pages has no node: it would let them go.
    assert planned(vm, {0: PAGES - free}, "[]") == {"0": PAGES - free}
    # The other node's pages are nobody's.
    assert planned(vm, {1: 0}) == {"1": 0}


@pytest.mark.usefixtures("guest")
def test_a_guest_that_is_not_bound_takes_its_pages_from_any_node(vm: VmRuntime) -> None:
    vm.define("g", {"size": GUEST, "page_size": "2M", "backing": "hugetlbfs"})
    start(vm)
    free = pool(vm, 0) + pool(vm, 1)
    untouched = GUEST // (2 << 20) - (2 * PAGES - free)
    assert untouched > 0
    keep = PAGES - pool(vm, 0)
    assert planned(vm, {0: keep}) == {"0": keep}


@pytest.mark.usefixtures("guest")
@pytest.mark.parametrize("backing", ["hugetlbfs", "memfd"])
def test_a_node_with_too_few_pages_is_refused(vm: VmRuntime, backing: str) -> None:
    """The host has enough of them."""
    vm.define("g", {**BLOCK, "backing": backing, "size": "96M"})
    for words in (("start", "--check", "g"), ("start", "g")):
        refused = vm.verb(*words)["error"]
        assert "not enough huge pages of 2M on the NUMA nodes 0" in refused["message"]
        assert refused["cause"] == "96M are needed, 64M are free there."
    assert (pool(vm, 0), pool(vm, 1)) == (PAGES, PAGES)


@pytest.mark.parametrize(
    ("populates", "calls"), [(True, ["madvise"]), (False, ["fallocate", "madvise"])], ids=["populate", "fallocate"]
)
@pytest.mark.parametrize(
    ("policy", "nodes", "taken"),
    [("bind", [1], (0, 16)), ("preferred", [1], (0, 16)), ("interleave", [0, 1], (8, 8)), ("default", [], (16, 0))],
    ids=["bind", "preferred", "interleave", "default"],
)
def test_pages_are_where_they_are_wanted(
    vm: VmRuntime, policy: str, nodes: list[int], taken: tuple[int, int], populates: bool, calls: list[str]
) -> None:
    """Also with a kernel that does not know MADV_POPULATE_WRITE, where fallocate takes the pages: by the thread's policy."""
    program = FILL.format(size=32 << 20, policy=policy, nodes=nodes, populates=populates)
    try:
        assert json.loads(vm.python(program)) == calls
        assert (PAGES - pool(vm, 0), PAGES - pool(vm, 1)) == taken
    finally:
        vm.host.run("rm -f /dev/hugepages/filled")
