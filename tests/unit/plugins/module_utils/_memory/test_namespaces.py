# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which namespace is meant, and which sizes can be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.errors import Refused
from ansible_collections.hostmem.qemu.plugins.module_utils._host.pmem import Namespace, Region
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.foreseen import Foreseen
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.namespace_checks import (
    check_region,
    check_size,
    gaps,
    is_named,
    next_sizes,
    step_of,
)
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.namespaces import (
    Wish,
    choose_region,
    find,
    plan_absent_without_data,
)

MIB, GIB = 1 << 20, 1 << 30
START = 0x100000000


def namespace(dev: str, start: int, size: int, mode: str = "fsdax", name: str = "") -> Namespace:
    return Namespace(
        dev=dev,
        region="region0",
        mode=mode,
        name=name,
        size=size,
        raw_size=size,
        align=2 * MIB,
        map="dev",
        sector_size=512,
        device="pmem0",
        enabled=True,
        numa_node=0,
        uuid="",
        start=start,
    )


def region(*namespaces: Namespace, **changes: Any) -> Region:
    values: dict[str, Any] = {
        "dev": "region0",
        "size": 512 * MIB,
        "align": 16 * MIB,
        "available": 0,
        "largest_available": 0,
        "start": START,
        "numa_node": 0,
        "persistence_domain": "unknown",
        "labels": True,
        "dimms": ("nmem0",),
        "labels_possible": True,
        "ways": 1,
        "enabled": True,
        "namespaces": namespaces,
    }
    return Region(**{**values, **changes})


def wish(**changes: Any) -> Wish:
    values: dict[str, Any] = {"name": "", "region": "", "mode": "fsdax", "align": 2 * MIB, "map": "dev", "size": None}
    return Wish(**{**values, "destroy": "", **changes})


FIRST = namespace("namespace0.0", START, 112 * MIB, name="ram0")
MIDDLE = namespace("namespace0.1", START + 240 * MIB, 64 * MIB, mode="devdax", name="dev0")


def test_free_stretches() -> None:
    whole = region()
    assert gaps(whole) == [(START, 512 * MIB)]
    assert gaps(region(FIRST, MIDDLE)) == [(START + 112 * MIB, 128 * MIB), (START + 304 * MIB, 208 * MIB)]
    assert gaps(region(FIRST, MIDDLE), MIDDLE) == [(START + 112 * MIB, 400 * MIB)]
    assert gaps(region(FIRST, start=None)) == []


@pytest.mark.parametrize(
    ("align", "ways", "region_align", "step"),
    [
        (2 * MIB, 1, 16 * MIB, 16 * MIB),
        (4096, 1, 16 * MIB, 16 * MIB),
        (GIB, 1, 16 * MIB, GIB),
        (2 * MIB, 6, 96 * MIB, 96 * MIB),
        (2 * MIB, 6, 16 * MIB, 48 * MIB),
        (2 * MIB, 1, 4096, 2 * MIB),
    ],
)
def test_step_of_sizes(align: int, ways: int, region_align: int, step: int) -> None:
    assert step_of(region(ways=ways, align=region_align), align) == step


@pytest.mark.parametrize(
    ("size", "step", "room", "text"),
    [
        (100 * MIB, 16 * MIB, 512 * MIB, "Sizes that fit: 96M, 112M."),
        (8 * MIB, 16 * MIB, 512 * MIB, "Sizes that fit: 16M."),
        (600 * MIB, 16 * MIB, 512 * MIB, "Sizes that fit: 512M."),
        (128 * MIB, GIB, 4 * GIB, "Sizes that fit: 1G."),
        (128 * MIB, GIB, 512 * MIB, "No size fits"),
    ],
)
def test_next_sizes(size: int, step: int, room: int, text: str) -> None:
    assert next_sizes(size, step, room).startswith(text)


@pytest.mark.parametrize(
    ("size", "align", "text"),
    [
        (100 * MIB, 2 * MIB, "region0: align setting is 0x1000000 size 0x6400000 is misaligned"),
        (8 * MIB, 2 * MIB, "at least 16M"),
        (512 * MIB, GIB, "multiples of 1G"),
        (528 * MIB, 2 * MIB, "no room"),
    ],
)
def test_size_that_cannot_be(size: int, align: int, text: str) -> None:
    with pytest.raises(Refused) as caught:
        check_size(region(), align, size, 512 * MIB)
    assert text.removeprefix("region0: ") in str(caught.value)


def test_misaligned_region() -> None:
    with pytest.raises(Refused, match="misaligned") as caught:
        check_region(region(start=0x60100000, dimms=(), labels=False), 2 * MIB)
    assert "start 0x60100000 misaligned to 0x200000" in caught.value.cause
    assert "memmap" in caught.value.cure
    assert "0x61000000" in caught.value.cure
    check_region(region(), 2 * MIB)
    check_region(region(start=None), 2 * MIB)
    with pytest.raises(Refused, match="disabled"):
        check_region(region(enabled=False), 2 * MIB)


def test_stretch_that_begins_amiss() -> None:
    odd = namespace("namespace0.0", START, 17 * MIB)
    with pytest.raises(Refused, match="no multiple of 2M") as caught:
        check_region(region(odd, align=4096), 2 * MIB)
    assert "/sys/bus/nd/devices/region0/align" in caught.value.cure


def test_namespace_that_is_meant() -> None:
    found = [region(FIRST, MIDDLE), region(dev="region1")]
    assert find(wish(name="dev0"), found) == MIDDLE
    assert find(wish(), found) == FIRST
    assert find(wish(mode="devdax", region="region0"), found) == MIDDLE
    assert find(wish(region="region1"), found) is None
    with pytest.raises(Refused, match="several namespaces of mode fsdax"):
        find(wish(), [region(FIRST, namespace("namespace0.2", START + 400 * MIB, 16 * MIB))])


def test_region_that_is_meant() -> None:
    one, two = region(), region(dev="region1")
    assert choose_region(wish(), [one]) == one
    assert choose_region(wish(region="region1"), [one, two]) == two
    for found, name, text in (
        ([], "", "no region of"),
        ([one, two], "", "not clear"),
        ([one], "region7", "no region region7"),
    ):
        with pytest.raises(Refused, match=text):
            choose_region(wish(region=name), found)


def test_word_that_allows_to_destroy() -> None:
    assert is_named(FIRST, "ram0")
    assert is_named(FIRST, "namespace0.0")
    for told in ("", "ram1", "pmem0", "/dev/pmem0", "namespace0.1"):
        assert not is_named(FIRST, told)
    assert not is_named(namespace("namespace0.0", START, MIB), "")


@pytest.mark.parametrize(
    ("count", "changes", "why"),
    [
        (1, {}, "neither name nor region"),
        (2, {}, "several namespaces of mode fsdax"),
        (2, {"region": "region0"}, "several namespaces of mode fsdax"),
        (2, {"name": "same"}, "several namespaces named same"),
        (0, {}, ""),
    ],
)
def test_it_stays_where_it_is_not_clear_which_one_is_meant(count: int, changes: dict[str, str], why: str) -> None:
    """Without a look at what they hold: their device is none of this host's."""
    found = [
        namespace(f"namespace0.{number}", START + number * 64 * MIB, 64 * MIB, name="same") for number in range(count)
    ]
    plan = plan_absent_without_data(wish(**changes), Foreseen(regions=(region(*found),)))
    assert plan.action == "none"
    assert why in plan.kept
    assert bool(plan.kept) == bool(why)


@pytest.mark.parametrize("undefined", [(), ("db",)])
def test_it_stays_as_long_as_a_guest_counts_on_it(tmp_path: Path, undefined: tuple[str, ...]) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"definitions": str(tmp_path), "state": str(tmp_path / "state")}))
    (tmp_path / "db.json").write_text(json.dumps({"definition": {"namespace": "ram"}}))
    found = replace(namespace("namespace0.0", START, 64 * MIB, name="ram"), device="")
    foreseen = Foreseen(regions=(region(found),), undefined=undefined)
    plan = plan_absent_without_data(wish(name="ram"), foreseen, str(config))
    assert plan.action == "none"
    assert ("guest db" in plan.kept) == (not undefined)
    assert ("its content cannot be seen" in plan.kept) == bool(undefined)
    assert plan.forgotten == undefined
