# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The directory under a mount, guarded: while the mount is missing nothing can be made in it, not even by root.

A guest that is started then would otherwise get an empty RAM file on the root disk, which the later mount hides.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass

# linux/fs.h: chattr(1) +i
_FS_IOC_GETFLAGS = 0x80086601
_FS_IOC_SETFLAGS = 0x40086602
_FS_IMMUTABLE_FL = 0x10
# linux/mount.h; the number of the call is the same on all architectures
_OPEN_TREE = 428
_OPEN_TREE_CLONE = 1
_AT_FDCWD = -100

_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Directory:
    """A mount point as it is when nothing is mounted there. ``immutable`` is None where the file system has no such flag."""

    mode: int
    immutable: bool | None

    @property
    def guarded(self) -> bool:
        return self.mode == 0 and self.immutable is not False


@contextlib.contextmanager
def _under(point: str) -> Iterator[int]:
    """A descriptor of the directory itself, whatever is mounted on it: by a copy of the mount that it lies in, without those in it.

    :raises OSError: there is no such directory, or the kernel has no open_tree() (before Linux 5.2).
    """
    parent, name = os.path.split(point)
    tree = _LIBC.syscall(_OPEN_TREE, _AT_FDCWD, os.fsencode(parent), _OPEN_TREE_CLONE | os.O_CLOEXEC)
    if tree < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), parent)
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=tree)
    finally:
        os.close(tree)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def directory_under(point: str) -> Directory | None:
    """The directory that a mount hides, or that is there without one; None when there is none.

    :raises OSError: it cannot be looked at.
    """
    try:
        with _under(point) as descriptor:
            flags = _flags(descriptor)
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            return Directory(mode, None if flags is None else bool(flags & _FS_IMMUTABLE_FL))
    except FileNotFoundError:
        return None


def guard(point: str) -> Directory:
    """Let nothing be made in the directory, nor the directory itself be changed; mounting on it stays possible.

    :raises OSError: it cannot be changed.
    """
    with _under(point) as descriptor:
        flags = _flags(descriptor)
        if flags is not None and flags & _FS_IMMUTABLE_FL:
            _set_flags(descriptor, flags & ~_FS_IMMUTABLE_FL)  # else its mode could not be set
        os.fchmod(descriptor, 0)
        if flags is not None:
            _set_flags(descriptor, flags | _FS_IMMUTABLE_FL)
    return directory_under(point) or Directory(0, None)


def unguard(point: str, mode: int = 0o755) -> None:
    """Make the directory an ordinary one again.

    :raises OSError: it cannot be changed.
    """
    with _under(point) as descriptor:
        flags = _flags(descriptor)
        if flags is not None and flags & _FS_IMMUTABLE_FL:
            _set_flags(descriptor, flags & ~_FS_IMMUTABLE_FL)
        os.fchmod(descriptor, mode)


def _flags(descriptor: int) -> int | None:
    """None where the file system has none (tmpfs before Linux 6.6, overlayfs)."""
    try:
        (flags,) = struct.unpack("=i", fcntl.ioctl(descriptor, _FS_IOC_GETFLAGS, bytes(4)))
    except OSError:
        return None
    return int(flags)


def _set_flags(descriptor: int, flags: int) -> None:
    fcntl.ioctl(descriptor, _FS_IOC_SETFLAGS, struct.pack("=i", flags))
