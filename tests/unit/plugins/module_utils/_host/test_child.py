# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What kills a child that reads, and what it tells."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.child import number_from_child


@pytest.mark.parametrize("number", [None, 0, 1 << 50])
def test_a_number_comes_back(number: int | None) -> None:
    assert number_from_child(lambda: number) == number


def test_memory_that_cannot_be_read_kills_only_the_child(tmp_path: Path) -> None:
    """SIGBUS, here for pages that a file has lost."""
    path = tmp_path / "memory"
    path.write_bytes(bytes(8192))
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 8192) as mapped:
        os.truncate(path, 4096)
        assert number_from_child(lambda: mapped[0]) == 0
        with pytest.raises(OSError, match="SIGBUS") as caught:
            number_from_child(lambda: mapped[4096])
    assert caught.value.errno == errno.EIO


def test_an_error_comes_back(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        number_from_child(lambda: os.open(tmp_path / "none", os.O_RDONLY))
    with pytest.raises(OSError, match="ZeroDivisionError"):
        number_from_child(lambda: 1 // 0)
