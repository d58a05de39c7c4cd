# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Huge pages that guests need."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.definition import parse_definition
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.memory_block import MemoryBlock
from ansible_collections.hostmem.qemu.plugins.module_utils._host.errors import Refused
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.guest_needs import need, spread

MIB = 1 << 20


def blocks(*given: dict[str, Any]) -> list[MemoryBlock]:
    """Blocks of one guest; with a size of 64 MiB in pages of 2 MiB unless they say otherwise."""
    items = [
        {"id": f"ram{number}", "size": "64M", "backing": "hugetlbfs", "page_size": "2M", "numa_node": number, **block}
        for number, block in enumerate(given)
    ]
    definition = {
        "name": "g",
        "machine": "pc-q35-10.0",
        "accel": "tcg",
        "cpu": {"count": len(items)},
        "memory": {"blocks": items},
    }
    return parse_definition(definition).blocks


@pytest.mark.parametrize(
    ("given", "pages"),
    [
        ([{}], {0: 16, 1: 16}),
        ([{"size": "66M"}], {0: 17, 1: 16}),
        ([{"host_nodes": [1], "policy": "bind"}], {0: 0, 1: 32}),
        ([{"host_nodes": [1, 0], "policy": "interleave"}, {"host_nodes": [1], "policy": "preferred"}], {0: 16, 1: 48}),
        ([{"backing": "memfd"}], {0: 16, 1: 16}),
        ([{"backing": "tmpfs", "page_size": None}], {0: 0, 1: 0}),
        ([{"size": "1G", "page_size": "1G"}], {0: 0, 1: 0}),
    ],
)
def test_needs(given: list[dict[str, Any]], pages: dict[int, int]) -> None:
    given = [{key: value for key, value in block.items() if value is not None} for block in given]
    made = blocks(*given) if given[0].get("backing") != "tmpfs" else _tmpfs()
    assert need(made, 2 * MIB, [0, 1], [0, 1]) == pages


def _tmpfs() -> list[MemoryBlock]:
    definition = {
        "name": "g",
        "machine": "pc-q35-10.0",
        "accel": "tcg",
        "memory": {"blocks": [{"id": "ram0", "size": "64M", "backing": "tmpfs"}]},
    }
    return parse_definition(definition).blocks


def test_guests_without_nodes_lie_where_they_are_expected() -> None:
    assert need(blocks({}), 2 * MIB, [1], [0, 1]) == {1: 32}
    assert need(blocks({"host_nodes": [0], "policy": "bind"}), 2 * MIB, [1], [0, 1]) == {0: 32, 1: 0}


def test_a_node_that_the_host_lacks() -> None:
    with pytest.raises(Refused, match="block ram0 is to lie on NUMA node 3"):
        need(blocks({"host_nodes": [3], "policy": "bind"}), 2 * MIB, [0], [0])


@pytest.mark.parametrize("pages", [0, 1, 7, 1000])
@pytest.mark.parametrize("nodes", [[0], [0, 1], [2, 5, 9]])
def test_nothing_is_lost_when_it_is_spread(pages: int, nodes: list[int]) -> None:
    found = spread(pages, nodes)
    assert sum(found.values()) == pages
    assert max(found.values()) - min(found.values()) <= 1
