# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""DAX as far as a machine without persistent memory can show it; what it is with some is shown on VMs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.dax import is_dax_file, map_sync_works
from ansible_collections.hostmem.qemu.plugins.module_utils._host.dax_layout import (
    HUGE,
    Extent,
    allocate_aligned,
    extents,
    huge_bytes,
    huge_page_share,
)

BLOCK = 4096


def in_memory(path: Path) -> bool:
    """Files of a tmpfs have no blocks on any device."""
    return os.major(path.stat().st_dev) == 0


def row(logical: int, physical: int, length: int) -> Extent:
    """An extent in blocks of 4 KiB, as filefrag(8) prints it."""
    return Extent(logical * BLOCK, physical * BLOCK, length * BLOCK)


@pytest.mark.parametrize(
    ("rows", "blocks", "start", "pieces"),
    [
        pytest.param([row(0, 33280, 24576)], 24576, 0, 48, id="aligned"),
        pytest.param([row(0, 24, 24576)], 24576, 0, 0, id="xfs begins at block 24"),
        pytest.param([row(0, 8142, 24576)], 24576, 0, 0, id="ext4 without a stripe"),
        pytest.param([row(0, 8192, 8192), row(8192, 33280, 16384)], 24576, 0, 48, id="two runs"),
        pytest.param([row(0, 512, 700), row(700, 1212, 324)], 1024, 0, 1, id="a piece in two extents is none"),
        pytest.param([row(0, 512, 700), row(700, 2000, 324)], 1024, 0, 1, id="the second run lies elsewhere"),
        pytest.param([row(512, 1024, 512)], 1536, 0, 1, id="holes around it"),
        pytest.param([row(0, 1024, 1024)], 700, 0, 1, id="only as far as the file goes"),
        pytest.param([row(0, 512, 512)], 512, 1 << 20, 0, id="partition at 1 MiB"),
        pytest.param([row(0, 256, 512)], 512, 1 << 20, 1, id="made good by the file system"),
        pytest.param([], 512, 0, 0, id="nothing allocated"),
    ],
)
def test_what_is_mapped_by_2_mib(rows: list[Extent], blocks: int, start: int, pieces: int) -> None:
    assert huge_bytes(rows, blocks * BLOCK, start) == pieces * HUGE


def test_ordinary_file_is_no_dax_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * BLOCK)
    assert not is_dax_file(str(path))
    assert not map_sync_works(str(path))
    with path.open("r+b") as file:
        assert not is_dax_file(file.fileno())
        assert not map_sync_works(file.fileno())
    assert path.read_bytes() == b"x" * BLOCK


def test_what_cannot_be_asked_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        is_dax_file(str(tmp_path / "missing"))
    empty = tmp_path / "empty"
    empty.touch()
    with pytest.raises(OSError, match="shorter"):
        map_sync_works(str(empty))
    assert huge_page_share(str(empty)) == 0.0


def test_extents_tell_where_the_blocks_lie(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.write(os.urandom(4 * BLOCK))
        file.seek(16 * BLOCK)
        file.write(os.urandom(4 * BLOCK))
        os.fsync(file.fileno())
    if in_memory(tmp_path):
        return
    found = extents(str(path))
    covered = {
        number for item in found for number in range(item.logical // BLOCK, (item.logical + item.length) // BLOCK)
    }
    assert {0, 3, 16, 19} <= covered
    assert not {8, 9} & covered


def test_allocated_file_is_whole_and_its_extents_count(tmp_path: Path) -> None:
    path = tmp_path / "ram"
    if in_memory(tmp_path):
        return
    got = allocate_aligned(str(path), 16 * HUGE)
    found = path.stat()
    assert (got.size, found.st_size) == (16 * HUGE, 16 * HUGE)
    assert found.st_blocks * 512 >= 16 * HUGE
    assert found.st_mode & 0o777 == 0o600
    assert got.share == huge_page_share(str(path))
    assert path.read_bytes() == bytes(16 * HUGE)
