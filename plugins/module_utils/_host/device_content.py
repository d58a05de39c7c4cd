# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a device holds anything, where no signature says so: all of it is read, pieces spread over it first."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from queue import SimpleQueue
from typing import Protocol

from .child import number_from_child
from .devdax import DaxDevice, first_data
from .zeros import THREADS, first_found, first_nonzero_at

_SAMPLE = 256 << 10
_SAMPLES = 256
_PIECE = 16 << 20


class Pieces(Protocol):
    """Bytes that can be read piece by piece."""

    def __getitem__(self, piece: slice, /) -> bytes: ...


class _BlockDevice:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __getitem__(self, piece: slice) -> bytes:
        return os.pread(self._descriptor, piece.stop - piece.start, piece.start)


def content_of_block_device(path: str) -> int | None:
    """Position in bytes of something in the device that is not zero; None when every byte was read and is zero.

    That takes seconds for each few GiB, and 64 MiB of memory.

    :raises OSError: a part of it cannot be read, or it has no size.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = first_nonzero_of_samples(_BlockDevice(descriptor), os.lseek(descriptor, 0, os.SEEK_END))
    finally:
        os.close(descriptor)
    if found is not None:
        return found
    # Not by the page cache, which a terabyte of zeros would fill.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
    try:
        return _first_nonzero_of_all(descriptor, os.lseek(descriptor, 0, os.SEEK_END))
    finally:
        os.close(descriptor)


def content_of_dax_device(device: DaxDevice) -> int | None:
    """The same of a device-DAX device, which can only be mapped. It is read by a child process, which damaged memory may kill.

    :raises OSError: it cannot be opened, mapped or read.
    """
    return number_from_child(lambda: _content_of_dax_device(device))


def _content_of_dax_device(device: DaxDevice) -> int | None:
    descriptor = os.open(device.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        with mmap.mmap(descriptor, device.size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE) as mapped:
            found = first_nonzero_of_samples(mapped, device.size)
    finally:
        os.close(descriptor)
    return first_data(device.path, 0, device.size) if found is None else found


def _first_nonzero_of_all(descriptor: int, size: int) -> int | None:
    if not size:
        raise OSError(errno.EIO, "it has no size")
    # Aligned to pages, as O_DIRECT demands (open(2)).
    buffers: SimpleQueue[mmap.mmap] = SimpleQueue()
    for _number in range(THREADS):
        buffers.put(mmap.mmap(-1, _PIECE))

    def first_in(start: int) -> int | None:
        buffer = buffers.get()
        try:
            length = min(_PIECE, size - start)
            _fill(buffer, length, descriptor, start)
            position = first_nonzero_at(ctypes.addressof(ctypes.c_char.from_buffer(buffer)), length)
            return None if position is None else start + position
        finally:
            buffers.put(buffer)

    return first_found(first_in, range(0, size, _PIECE))


def _fill(buffer: mmap.mmap, length: int, descriptor: int, start: int) -> None:
    with memoryview(buffer) as whole:
        done = 0
        while done < length:
            with whole[done:length] as rest:
                got = os.preadv(descriptor, [rest], start + done)
            if not got:
                raise OSError(errno.EIO, f"it ends at {start + done:#x}, before its size")
            done += got


def first_nonzero_of_samples(data: Pieces, size: int) -> int | None:
    """Position of a byte that is not zero, in evenly spread pieces of the data, the first and the last among them.

    They are looked at first: a guest's RAM is hardly ever zero in all of them, and reading a terabyte takes minutes.
    """
    last = max(0, size - _SAMPLE)
    count = min(_SAMPLES, -(-size // _SAMPLE))
    for number in range(count):
        start = last * number // max(1, count - 1)
        found = data[start : start + _SAMPLE]
        rest = found.lstrip(b"\0")
        if rest:
            return start + len(found) - len(rest)
    return None
