# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is found in a device, for which a file with holes stands here: between the samples, at its end, and where nothing is."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.device_content import (
    content_of_block_device,
    first_nonzero_of_samples,
)

MIB = 1 << 20
SIZE = 160 * MIB


def device(path: Path, position: int | None, size: int = SIZE) -> str:
    with open(path, "wb") as file:
        file.truncate(size)
        if position is not None:
            file.seek(position)
            file.write(b"\1")
        os.fsync(file.fileno())
    return str(path)


@pytest.mark.parametrize("position", [0, 1, 16 * MIB - 1, 16 * MIB, 100 * MIB + 12345, SIZE - 1])
def test_every_byte_counts(tmp_path: Path, position: int) -> None:
    assert content_of_block_device(device(tmp_path / "device", position)) == position


def test_zeros_are_nothing(tmp_path: Path) -> None:
    assert content_of_block_device(device(tmp_path / "device", None)) is None


def test_a_byte_between_the_samples(tmp_path: Path) -> None:
    """The samples are 256 KiB each, some 640 KiB from one to the next."""
    position = (SIZE - (256 << 10)) * 100 // 255 + (300 << 10)
    path = device(tmp_path / "device", position)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), SIZE, access=mmap.ACCESS_READ) as data:
        assert first_nonzero_of_samples(data, SIZE) is None
    assert content_of_block_device(path) == position


def test_what_lies_behind_is_not_read(tmp_path: Path) -> None:
    path = device(tmp_path / "device", 300 << 10, 4096 * MIB)
    before = bytes_read()
    assert content_of_block_device(path) == 300 << 10
    assert bytes_read() - before < 2048 * MIB


def bytes_read() -> int:
    """By all threads of this process, holes too (rchar, proc_pid_io(5))."""
    return int(Path("/proc/self/io").read_text().split()[1])


def test_what_has_no_size_is_not_empty(tmp_path: Path) -> None:
    path = tmp_path / "device"
    path.touch()
    with pytest.raises(OSError, match="no size"):
        content_of_block_device(str(path))
