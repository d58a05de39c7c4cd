# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kinds of memory, from what Linux 6.18 showed of a QEMU with one backend of each kind; smaller, and with a DAX file added."""

from __future__ import annotations

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.numa_maps import parse_numa_maps
from ansible_collections.hostmem.qemu.plugins.module_utils._host.processes import Mapping
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.mapping_kinds import holdings

MIB = 1 << 20
TYPES = {(0xFE, 0): "ext4", (0, 0x1B): "tmpfs", (0, 0x6E): "hugetlbfs", (0x103, 1): "xfs"}


def mapping(text: str) -> Mapping:
    """A line of maps."""
    span, permissions, offset, device, inode, *path = text.split(maxsplit=5)
    start, end = (int(part, 16) for part in span.split("-"))
    major, minor = (int(part, 16) for part in device.split(":"))
    return Mapping(start, end, permissions, int(offset, 16), (major, minor), int(inode), path[0] if path else "")


# Each with its line of numa_maps behind the policy, and the kind, page size, size and present bytes that it adds.
LINES = [
    ("556aa799c000-556aa8015000 r-xp 00497000 fe:00 2170886 /usr/bin/qemu-system-x86_64", "mapped=1 N0=1 kernelpagesize_kB=4", None),
    ("556aa8f60000-556aa9061000 rw-p 01a5a000 fe:00 2170886 /usr/bin/qemu-system-x86_64", "anon=256 N0=256 kernelpagesize_kB=4", None),
    ("556ac2ce7000-556ac3024000 rw-p 00000000 00:00 0 [heap]", "heap anon=885 N0=885 kernelpagesize_kB=4",
     ("anonymous", 4096, 0x33D000, 885 * 4096)),
    ("7f8946200000-7f8947200000 rw-p 00000000 00:00 0", "", ("anonymous", 4096, 16 * MIB, 0)),
    ("7f8947200000-7f8947201000 ---p 00000000 00:00 0", "", None),
    ("7f89475ff000-7f89479ff000 rw-s 00000000 fe:00 15343617 /var/tmp/ram", "file=/var/tmp/ram N0=2 kernelpagesize_kB=4",
     ("file", 4096, 4 * MIB, 8192)),
    ("7f8947a00000-7f8947e00000 rw-s 00000000 00:11 2544829 /memfd:memory-backend-memfd (deleted)", "huge",
     ("memfd", 2 * MIB, 4 * MIB, 0)),
    ("7f894c1ff000-7f894c5ff000 rw-s 00000000 00:01 44567 /memfd:memory-backend-memfd (deleted)", "dirty=3 N0=3 kernelpagesize_kB=4",
     ("memfd", 4096, 4 * MIB, 12288)),
    ("7f894cdff000-7f894d1ff000 rw-s 00000000 00:1b 31326 /dev/shm/ram", "dirty=1024 N0=1024 kernelpagesize_kB=4",
     ("tmpfs", 4096, 4 * MIB, 4 * MIB)),
    ("7f894d200000-7f894da00000 rw-s 00000000 00:6e 2544815 /mnt/huge/ram h", "huge dirty=4 N0=4 kernelpagesize_kB=2048",
     ("hugetlbfs", 2 * MIB, 8 * MIB, 8 * MIB)),
    ("7f894dc00000-7f894e3ff000 rwxp 00000000 00:00 0", "anon=1 N0=1 kernelpagesize_kB=4", ("anonymous", 4096, 0x7FF000, 4096)),
    ("7f894f000000-7f894f200000 rw-p 00000000 00:11 77 /anon_hugepage (deleted)", "huge anon=1 N0=1 kernelpagesize_kB=2048",
     ("anonymous", 2 * MIB, 2 * MIB, 2 * MIB)),
    ("7f8951000000-7f8951400000 rw-s 00000000 00:01 99 /dev/zero (deleted)", "dirty=1 N0=1 kernelpagesize_kB=4",
     ("anonymous", 4096, 4 * MIB, 4096)),
    ("7f8952000000-7f8956000000 rw-s 00000000 103:01 12 /pm/g.ram", "", ("dax", 4096, 64 * MIB, None)),
    ("7f8957000000-7f8957200000 rw-s 00000000 00:06 12 /dev/dax0.0", "", ("dax", 4096, 2 * MIB, None)),
    ("7f8958000000-7f8958001000 rw-s 00000000 00:0f 13 anon_inode:kvm-vcpu:0", "", None),
    ("7f8958002000-7f8958003000 rw-s 00000000 00:06 14 /dev/vfio/12", "", None),
    ("7f8958010000-7f8958020000 r--p 00000000 fe:00 3 /usr/lib/locale/C.utf8/LC_CTYPE", "", None),
    ("7f8950e37000-7f8950e3b000 r--p 00000000 00:00 0 [vvar]", "", None),
]  # fmt: skip


@pytest.mark.parametrize("line", LINES, ids=[line[0].split()[-1] for line in LINES])
def test_each(line: tuple[str, str, tuple[str, int, int, int | None] | None]) -> None:
    program = mapping(LINES[0][0])
    text, pages, wanted = line
    item = mapping(text)
    there = {found.start: found for found in parse_numa_maps([f"{item.start:x} default {pages}\n"])}
    sizes = {item.start: 2 * MIB if "huge" in pages else 4096}
    rows = holdings([program, item], TYPES, there, sizes, lambda found: found.device == (0x103, 1))
    assert [(row.kind, row.page_size, row.mapped, row.present) for row in rows] == ([wanted] if wanted else [])


def test_sums() -> None:
    items = [mapping(text) for text, _pages, _wanted in LINES]
    lines = [f"{item.start:x} default {pages}\n" for item, (_text, pages, _wanted) in zip(items, LINES)]
    there = {found.start: found for found in parse_numa_maps(lines)}
    sums: dict[tuple[str, int], list[int]] = {}
    for _text, _pages, wanted in LINES:
        if wanted:
            kind, page_size, mapped, present = wanted
            row = sums.setdefault((kind, page_size), [0, 0])
            row[0] += mapped
            row[1] += present or 0
    sizes = {
        item.start: 4096 if "huge" not in pages else 2 * MIB for item, (_text, pages, _wanted) in zip(items, LINES)
    }
    rows = holdings(items, TYPES, there, sizes, lambda found: found.device == (0x103, 1))
    assert {(row.kind, row.page_size): [row.mapped, row.present or 0] for row in rows} == sums
    assert [row.kind for row in rows] == [
        "hugetlbfs",
        "tmpfs",
        "memfd",
        "memfd",
        "dax",
        "file",
        "anonymous",
        "anonymous",
    ]


def test_nodes_are_summed() -> None:
    two = [
        "7f0000000000-7f0000400000 rw-s 00000000 00:1b 5 /dev/shm/a",
        "7f0000400000-7f0000800000 rw-s 00000000 00:1b 6 /dev/shm/b",
    ]
    lines = [
        "7f0000000000 default file=/dev/shm/a dirty=3 N0=1 N1=2 kernelpagesize_kB=4\n",
        "7f0000400000 default file=/dev/shm/b dirty=5 N1=5 kernelpagesize_kB=4\n",
    ]
    there = {found.start: found for found in parse_numa_maps(lines)}
    (row,) = holdings([mapping(text) for text in two], TYPES, there, {}, lambda _found: False)
    assert row.as_dict() == {
        "kind": "tmpfs",
        "page_size": 4096,
        "mapped": 8 * MIB,
        "present": 8 * 4096,
        "nodes": [{"node": 0, "present": 4096}, {"node": 1, "present": 7 * 4096}],
    }


def test_without_nodes() -> None:
    """A kernel without NUMA tells page sizes only."""
    item = mapping(LINES[9][0])
    (row,) = holdings([item], TYPES, {}, {item.start: 2 * MIB}, lambda _found: False)
    assert (row.kind, row.page_size, row.mapped, row.present) == ("hugetlbfs", 2 * MIB, 8 * MIB, None)
