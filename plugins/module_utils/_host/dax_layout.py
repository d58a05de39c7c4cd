# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a file's blocks lie, and by how large pages they can be mapped on DAX (FIEMAP, libnvdimm in sysfs); files laid out for 2 MiB."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .dax import PathOrDescriptor, opened
from .sysfs import number_in

HUGE = 2 << 20
"""Bytes that one entry of the page middle directory maps on x86-64; the size of the kernel's huge DAX faults."""

# linux/fs.h, linux/fiemap.h
_FS_IOC_FIEMAP = 0xC020660B
_EXTENT_LAST = 0x1
_EXTENTS_AT_ONCE = 128
# linux/falloc.h
_FALLOC_FL_COLLAPSE_RANGE = 0x08

_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Extent:
    """A run of a file's blocks; ``physical`` counts from the start of the block device. All in bytes."""

    logical: int
    physical: int
    length: int


@dataclass(frozen=True)
class Allocation:
    """What a file got: bytes, those of them that lie so that 2 MiB are mapped at once, and how often blocks were moved for that."""

    size: int
    huge: int
    tries: int

    @property
    def share(self) -> float:
        return self.huge / self.size if self.size else 0.0


def extents(target: PathOrDescriptor) -> list[Extent]:
    """Where the file's blocks lie on its device (FS_IOC_FIEMAP); holes are left out.

    :raises OSError: the file system cannot tell (EOPNOTSUPP, such as tmpfs).
    """
    found: list[Extent] = []
    with opened(target, os.O_RDONLY) as descriptor:
        start = 0
        while True:
            rows = _fiemap(descriptor, start)
            found += [Extent(logical, physical, length) for logical, physical, length, _flags in rows]
            if not rows or rows[-1][3] & _EXTENT_LAST:
                return found
            start = rows[-1][0] + rows[-1][2]


def _fiemap(descriptor: int, start: int) -> list[tuple[int, int, int, int]]:
    """The next extents from a byte of the file on: logical, physical, length, flags (struct fiemap_extent)."""
    header = struct.pack("=QQIIII", start, (1 << 64) - 1 - start, 0, 0, _EXTENTS_AT_ONCE, 0)
    buffer = bytearray(header + bytes(56 * _EXTENTS_AT_ONCE))
    fcntl.ioctl(descriptor, _FS_IOC_FIEMAP, buffer)
    (count,) = struct.unpack_from("=I", buffer, 20)
    return [struct.unpack_from("=QQQ16xI", buffer, 32 + 56 * number) for number in range(count)]


def device_start(device: int) -> int:
    """Physical address of a block device's first byte, as far as it matters here: modulo 2 MiB.

    A partition adds its offset in the whole device, and a namespace of persistent memory lies where libnvdimm says
    (``resource`` of its pfn device, which leaves the page map out). Device-mapper and others are taken to begin aligned.

    :param device: as in st_dev.
    """
    directory = f"/sys/dev/block/{os.major(device)}:{os.minor(device)}"
    start = 0
    if os.path.exists(f"{directory}/partition"):
        start = (
            number_in(f"{directory}/start") or 0
        ) * 512  # sectors, whatever the device's own block size (Documentation/ABI)
        directory = f"{directory}/.."
    return (start + (number_in(f"{directory}/device/resource") or 0)) % HUGE


def huge_bytes(rows: Sequence[Extent], size: int, start: int) -> int:
    """Bytes of a file that can be mapped by 2 MiB at once.

    Such a piece begins at a multiple of 2 MiB of the file, is whole within the file and within one extent, and lies at a multiple of
    2 MiB of the host's physical memory (dax_iomap_pmd_fault(), fs/dax.c); all others are mapped in pages of 4 KiB.

    :param size: length of the file, in bytes.
    :param start: what device_start() says.
    """
    total = 0
    for row in rows:
        if (start + row.physical - row.logical) % HUGE:
            continue
        first = -(-row.logical // HUGE) * HUGE
        last = min(row.logical + row.length, size) // HUGE * HUGE
        total += max(0, last - first)
    return total


def huge_page_share(target: PathOrDescriptor) -> float:
    """The part of a file on DAX, 0 to 1, that is mapped by 2 MiB at once if the mapping itself begins at a multiple of 2 MiB (QEMU's do).

    Holes count as not mapped so: where their blocks will lie is not known.

    :raises OSError: the file system cannot tell where the blocks are.
    """
    with opened(target, os.O_RDONLY) as descriptor:
        state = os.fstat(descriptor)
        if not state.st_size:
            return 0.0
        return huge_bytes(extents(descriptor), state.st_size, device_start(state.st_dev)) / state.st_size


def allocate_aligned(target: PathOrDescriptor, size: int, tries: int = 16) -> Allocation:
    """Give a file all its blocks, so that as much as possible of it is mapped by 2 MiB at once.

    Where the file system's blocks do not lie so by themselves (xfs without a stripe unit, ext4 in fragments), some more are taken and
    those before the next multiple of 2 MiB are cut out of the file (FALLOC_FL_COLLAPSE_RANGE), which for a moment takes up to 2 MiB more.
    The content, if any, stays only in a file that needs none of this: call it on an empty file.

    :param target: a path, made if missing (0600), or a descriptor open for writing.
    :param tries: how many runs of blocks are moved at most.
    :raises OSError: no space left (ENOSPC), and the file is as long as it was; or the file system cannot do it (EOPNOTSUPP).
    """
    with _opened_to_write(target) as descriptor:
        before = os.fstat(descriptor).st_size
        start = device_start(os.fstat(descriptor).st_dev)
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError:
            os.ftruncate(descriptor, before)  # gives back what it got
            raise
        moved = 0
        if not before and huge_bytes(extents(descriptor), size, start) < size // HUGE * HUGE:
            _take_more(descriptor, size)
            while moved < tries and _move_first_misplaced(descriptor, size, start):
                moved += 1
        os.ftruncate(descriptor, size)
        return Allocation(size, huge_bytes(extents(descriptor), size, start), moved)


def _take_more(descriptor: int, size: int) -> None:
    """Allocate anew with room to move in one go: what is added later often lies elsewhere, and the piece between is lost."""
    os.ftruncate(descriptor, 0)
    try:
        os.posix_fallocate(descriptor, 0, size + HUGE)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        os.ftruncate(descriptor, 0)
        os.posix_fallocate(descriptor, 0, size)


@contextlib.contextmanager
def _opened_to_write(target: PathOrDescriptor) -> Iterator[int]:
    if isinstance(target, int):
        yield target
        return
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _move_first_misplaced(descriptor: int, size: int, start: int) -> bool:
    """Cut out of the file what keeps its first misplaced extent from lying at 2 MiB; False when nothing more can be gained."""
    for row in extents(descriptor):
        excess = (row.logical - row.physical - start) % HUGE
        # Worth it only where whole pieces of 2 MiB remain of the extent.
        if row.logical >= size or not excess or row.length < excess + HUGE:
            continue
        try:
            os.posix_fallocate(descriptor, 0, size + excess)  # a part of it may be there already
            _collapse(descriptor, row.logical, excess)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EOPNOTSUPP, errno.EINVAL):
                return False
            raise
        return True
    return False


def _collapse(descriptor: int, offset: int, length: int) -> None:
    """Take bytes out of a file's middle; what follows moves down without being copied (fallocate(2))."""
    call = _LIBC.fallocate64 if hasattr(_LIBC, "fallocate64") else _LIBC.fallocate
    call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    if call(descriptor, _FALLOC_FL_COLLAPSE_RANGE, offset, length) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
