# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a device holds anything, where no signature says so: a look at pieces spread over all of it."""

from __future__ import annotations

import mmap
import os
from typing import Protocol

from .devdax import DaxDevice

_PIECE = 256 << 10
_PIECES = 256


class Pieces(Protocol):
    """Bytes that can be read piece by piece."""

    def __getitem__(self, piece: slice, /) -> bytes: ...


class _BlockDevice:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __getitem__(self, piece: slice) -> bytes:
        return os.pread(self._descriptor, piece.stop - piece.start, piece.start)


def content_of_block_device(path: str) -> int | None:
    """Position in bytes of something in the device that is not zero; None when only zeros were found. See first_nonzero().

    :raises OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return first_nonzero(_BlockDevice(descriptor), os.lseek(descriptor, 0, os.SEEK_END))
    finally:
        os.close(descriptor)


def content_of_dax_device(device: DaxDevice) -> int | None:
    """The same of a device-DAX device, which can only be mapped.

    :raises OSError: it cannot be opened or mapped.
    """
    descriptor = os.open(device.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        with mmap.mmap(descriptor, device.size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE) as mapped:
            return first_nonzero(mapped, device.size)
    finally:
        os.close(descriptor)


def first_nonzero(data: Pieces, size: int, piece: int = _PIECE, pieces: int = _PIECES) -> int | None:
    """Position of a byte that is not zero, in evenly spread pieces of the data, the first and the last among them.

    A guest's RAM is hardly ever zero in all of them, and reading a terabyte would take too long.
    """
    last = max(0, size - piece)
    count = min(pieces, -(-size // piece))
    for number in range(count):
        start = last * number // max(1, count - 1)
        found = data[start : start + piece]
        rest = found.lstrip(b"\0")
        if rest:
            return start + len(found) - len(rest)
    return None
