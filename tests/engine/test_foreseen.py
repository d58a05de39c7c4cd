# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check mode of modules that rest upon each other: what is handed on from one to the next, on the real kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.huge_page_pool import PAGE, HugePagePool, fill, huge_page_pool
from support.modules import run_module, without


@pytest.fixture(name="pool")
def fixture_pool() -> Iterator[HugePagePool]:
    with huge_page_pool() as pool:
        yield pool


def checked(name: str, foreseen: dict[str, Any] | None = None, **arguments: Any) -> dict[str, Any]:
    """What a module foretells with the words of one before it."""
    more: dict[str, Any] = {} if foreseen is None else {"foreseen": foreseen}
    return run_module(name, check=True, **arguments, **more)


def mount(pool: HugePagePool, name: str, **arguments: Any) -> dict[str, Any]:
    return {"path": str(pool.directory / name), "persistent": False, **arguments}


def done(name: str, **arguments: Any) -> dict[str, Any]:
    result = run_module(name, **arguments)
    assert "failed" not in result, result
    return result


def test_mounts_rest_upon_a_pool(pool: HugePagePool) -> None:
    """Two reservations of a pool that is to come: one after the other, and no more than there will be."""
    free = pool.whole("free_hugepages") - pool.whole("resv_hugepages")
    half = str((free + 8) // 2 * PAGE)
    alone = checked("hugetlbfs_mount", **mount(pool, "one", min_size=str((free + 8) * PAGE)))
    assert "cannot have" in alone["msg"]
    bigger = checked("hugepages", **pool.with_more(8))
    assert bigger["warnings"] == []
    one = checked("hugetlbfs_mount", bigger["foreseen"], **mount(pool, "one", min_size=half))
    assert one["changed"]
    assert any(f"Presuming that the host has {pool.start + 8} huge pages" in text for text in one["warnings"])
    two = checked("hugetlbfs_mount", one["foreseen"], **mount(pool, "two", min_size=half))
    assert two["changed"]
    three = checked("hugetlbfs_mount", two["foreseen"], **mount(pool, "three", min_size=str(2 * PAGE)))
    assert "cannot have 4M" in three["msg"]
    # And it is so.
    pool.add(8)
    for name, found in (("one", one), ("two", two)):
        made = done("hugetlbfs_mount", **mount(pool, name, min_size=half), foreseen=bigger["foreseen"])
        assert made["mount"] == found["mount"]
        assert made["warnings"] == []
    refused = run_module("hugetlbfs_mount", **mount(pool, "three", min_size=str(2 * PAGE)))
    assert refused["error"]["message"] == three["error"]["message"]
    for name in ("one", "two"):
        done("hugetlbfs_mount", **mount(pool, name), state="absent")


def test_only_a_check_presumes(pool: HugePagePool) -> None:
    """What is handed over to a real run is not believed."""
    foreseen = checked("hugepages", **pool.with_more(8))["foreseen"]
    wanted = mount(pool, "one", min_size=str((pool.whole("free_hugepages") + 8) * PAGE))
    assert "cannot have" in run_module("hugetlbfs_mount", **wanted, foreseen=foreseen)["msg"]
    unknown = mount(pool, "one", gid="nobody-has-it")
    assert "no group nobody-has-it" in checked("hugetlbfs_mount", **unknown)["msg"]
    assert (
        "no group nobody-has-it"
        in run_module("hugetlbfs_mount", **unknown, foreseen={"groups": ["nobody-has-it"]})["msg"]
    )
    told = checked("hugetlbfs_mount", {"groups": ["nobody-has-it"]}, **unknown)
    assert told["changed"]
    assert told["mount"]["gid"] is None
    assert any("Presuming that there is the group nobody-has-it" in text for text in told["warnings"])
    assert not (pool.directory / "one").exists()
    assert not done("hugepages", **pool.with_more(0), foreseen=foreseen)["changed"]


def test_a_pool_is_given_back_after_its_mounts(pool: HugePagePool) -> None:
    """What mounts reserve, and what files in them hold, is free once they are gone."""
    pool.add(8)
    done("hugetlbfs_mount", **mount(pool, "one", min_size=str(3 * PAGE)))
    done("hugetlbfs_mount", **mount(pool, "two"))
    fill(pool.directory / "two" / "file", pool.whole("free_hugepages") - pool.whole("resv_hugepages"))
    assert "keeps" in checked("hugepages", state="absent")["msg"]
    first = checked("hugetlbfs_mount", **mount(pool, "one"), state="absent")
    second = checked("hugetlbfs_mount", first["foreseen"], **mount(pool, "two"), state="absent", discard_files=True)
    foretold = checked("hugepages", second["foreseen"], state="absent")
    assert foretold["changed"]
    assert any("Presuming that the host has" in text for text in foretold["warnings"])
    for name in ("one", "two"):
        done("hugetlbfs_mount", **mount(pool, name), state="absent", discard_files=True)
    given = done("hugepages", state="absent")
    assert given["nodes"] == foretold["nodes"]
    assert given["diff"] == foretold["diff"]


def test_what_guests_need_of_a_host_without_any(pool: HugePagePool) -> None:
    """The configuration is to come, and with it the guests."""
    config = str(pool.directory / "config.json")
    wanted = {**pool.with_more(2), "policy": "needed", "config": config}
    assert "config.json is missing" in checked("hugepages", **wanted)["msg"]
    told = checked("hugepages", {"files": [config]}, **wanted)
    assert told["nodes"][0]["wanted"] == pool.start + 2
    assert any("Presuming that no guests are defined" in text for text in told["warnings"])


def without_ndctl(module: str, check: bool, **arguments: Any) -> dict[str, Any]:
    """A module where ndctl cannot be executed."""
    return run_module(module, check, before=without("ndctl"), **arguments)


def test_a_tool_that_a_package_brings(tmp_path: Path) -> None:
    """Without ndctl there is nothing to be seen of namespaces: that one is missing is presumed, and said."""
    one: dict[str, Any] = {"name": "one", "region": "region9", "size": "64M"}
    packages = {"packages": ["ndctl"]}
    for check, foreseen in ((True, {}), (False, packages)):
        assert "ndctl is not installed" in without_ndctl("pmem_namespace", check, **one, foreseen=foreseen)["msg"]
    first = without_ndctl("pmem_namespace", True, **one, foreseen=packages)
    assert first["changed"]
    assert first["diff"]["after"]["size"] == 64 << 20
    assert first["warnings"] == [
        "Presuming that there is no namespace one yet: only ndctl can tell, which is installed by then."
    ]
    second = without_ndctl("pmem_namespace", True, **{**one, "name": "two"}, foreseen=first["foreseen"])
    for name in ("one", "two"):
        wanted = {"path": str(tmp_path / name), "namespace": name, "persistent": False}
        mounted = without_ndctl("dax_mount", True, **wanted, foreseen=second["foreseen"])
        assert mounted["changed"]
        assert (mounted["mount"]["device"], mounted["mount"]["uuid"]) == (None, None)
        assert [text.split(":")[0] for text in mounted["warnings"]] == [
            f"Presuming that there is the namespace {name} by then, and that it is empty"
        ]
        assert (
            "ndctl is not installed" in without_ndctl("dax_mount", False, **wanted, foreseen=second["foreseen"])["msg"]
        )
        assert not (tmp_path / name).exists()
    regions = {"regions": first["foreseen"]["regions"]}
    assert not without_ndctl("pmem_namespace", True, **one, foreseen=regions)["changed"]
    assert "ndctl is not installed" in without_ndctl("pmem_namespace", False, **one, foreseen=regions)["msg"]
    gone = without_ndctl("pmem_namespace", True, **one, state="absent", foreseen=packages)
    assert not gone["changed"]
    assert len(gone["warnings"]) == 1


@pytest.mark.parametrize("check", [True, False])
def test_without_ndctl_there_is_nothing_to_take_back(check: bool) -> None:
    """The role's way back of a host that nothing was installed on."""
    one: dict[str, Any] = {"name": "one", "state": "absent"}
    assert "ndctl is not installed" in without_ndctl("pmem_namespace", check, **one)["msg"]
    left = without_ndctl("pmem_namespace", check, **one, keep_data=True)
    assert not left["changed"]
    assert left["kept"] == "ndctl is not installed: namespaces are not looked at."
    assert left["warnings"] == [left["kept"]]


def test_words_of_somebody_else() -> None:
    assert "foreseen" in checked("hugepages", {"pages": 3}, node=0, count=0)["msg"]
