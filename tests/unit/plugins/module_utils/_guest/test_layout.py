# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Offsets, sizes and names of the files that guest RAM lies in."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.definition import parse_definition
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.layout import file_name, layout, parse_file_name

from .definitions import memory

MIB = 1 << 20


def placed(*blocks: dict[str, Any]) -> list[tuple[int, str]]:
    """Offset and path of each block."""
    numbered = [{"id": f"ram{number}", "numa_node": number, **block} for number, block in enumerate(blocks)]
    return [(block.offset, block.path) for block in layout(parse_definition(memory(*numbered)))]


def test_one_block() -> None:
    assert placed({}) == [(0, "/dev/shm/hostmem/web1/qemu_back_mem.0+10000000.ram0")]


def test_blocks_follow_each_other() -> None:
    assert placed({}, {"size": "1G"}, {"size": "64M", "backing": "file", "directory": "/srv/ram"}) == [
        (0, "/dev/shm/hostmem/web1/qemu_back_mem.0+10000000.ram0"),
        (256 * MIB, "/dev/shm/hostmem/web1/qemu_back_mem.10000000+40000000.ram1"),
        (1280 * MIB, "/srv/ram/qemu_back_mem.50000000+4000000.ram2"),
    ]


def test_offsets_are_multiples_of_256_kib() -> None:
    assert [offset for offset, _path in placed({"size": "4K"}, {"size": "260K"}, {"size": "256K"}, {})] == [
        0,
        256 << 10,
        768 << 10,
        1 << 20,
    ]


def test_blocks_without_a_named_file_take_their_place() -> None:
    assert placed({"backing": "memfd"}, {"mode": "temp"}, {}) == [
        (0, ""),
        (256 * MIB, ""),
        (512 * MIB, "/dev/shm/hostmem/web1/qemu_back_mem.20000000+10000000.ram2"),
    ]


def test_the_same_definition_gives_the_same_layout() -> None:
    data = memory({"numa_node": 0}, {"id": "ram1", "numa_node": 1})
    assert layout(parse_definition(data)) == layout(parse_definition(data))


def test_what_a_module_shows_of_a_block() -> None:
    (block,) = layout(parse_definition(memory({})))
    shown = block.as_dict()
    assert (shown["offset"], shown["size"], shown["id"]) == (0, 256 * MIB, "ram0")
    assert shown["path"] == f"{shown['directory']}/{shown['file_name']}"


@pytest.mark.parametrize(
    ("offset", "size", "name"),
    [(0, 0x10000000, "ram0"), (0x10000000, 4096, "a"), (0xABCDEF000, 1 << 40, "ram.1+2")],
)
def test_a_file_name_is_read_back(offset: int, size: int, name: str) -> None:
    text = file_name(offset, size, name)
    assert text == f"qemu_back_mem.{offset:x}+{size:x}.{name}"
    assert parse_file_name(text) == (offset, size, name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ram0",
        "qemu_back_mem.0+10000000",
        "qemu_back_mem.0+10000000.",
        "qemu_back_mem.0x0+0x10000000.ram0",
        "qemu_back_mem.0-10000000.ram0",
        "qemu_back_mem.A+1000.ram0",
        "qemu_back_mem.+1000.ram0",
        "xqemu_back_mem.0+1000.ram0",
        "qemu_back_mem.pc.ram.Ab3xYz",
    ],
)
def test_other_file_names_are_not_ours(text: str) -> None:
    assert parse_file_name(text) is None
