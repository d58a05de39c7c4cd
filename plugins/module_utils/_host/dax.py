# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a file is really mapped without the page cache (statx(2), mmap(2)).

Neither the mount options nor FS_XFLAG_DAX tell: xfs mounts with ``dax=always`` on a device that has no DAX, and with ``dax=inode``
each file has a state of its own. Only the file itself can be asked.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import struct
import tempfile
from collections.abc import Iterator
from typing import Union

from .errors import HostmemError
from .sysfs import number_in

PathOrDescriptor = Union[int, str]

# linux/stat.h
_STATX_ALL = 0x7FF
_STATX_ATTR_DAX = 0x00200000
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
# linux/mman.h; Python's mmap module has neither
_MAP_SHARED_VALIDATE = 3
_MAP_SYNC = 0x80000
# linux/fs.h
_FS_IOC_FSGETXATTR = 0x801C581F
_FS_IOC_FSSETXATTR = 0x401C5820
_FS_XFLAG_DAX = 0x8000

# What says nothing of DAX.
_CURES = {
    errno.ENOSPC: "Make room in the file system: it has no free block or inode.",
    errno.EDQUOT: "Raise the quota, or make room.",
    errno.EROFS: "Mount it for writing. The kernel makes a file system read-only after errors, which its log tells (dmesg).",
    errno.EACCES: "Run as root, or as a user who can write in the directory.",
}

_LIBC = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def opened(target: PathOrDescriptor, flags: int) -> Iterator[int]:
    """The descriptor itself, or one of the path while it is needed.

    :raises OSError: it cannot be opened, or is a symbolic link.
    """
    if isinstance(target, int):
        yield target
        return
    descriptor = os.open(target, flags | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def is_dax_file(target: PathOrDescriptor) -> bool:
    """True when the kernel maps this file, of a path or descriptor, straight from the device (STATX_ATTR_DAX, statx(2), Linux 5.8).

    A directory or mount point is never one, also under ``dax=always``.

    :raises OSError: there is no such file, or (ENOSYS) the C library has no statx.
    """
    if isinstance(target, int):
        where, path, flags = target, b"", _AT_EMPTY_PATH
    else:
        where, path, flags = _AT_FDCWD, os.fsencode(target), 0
    try:
        statx = _LIBC.statx
    except AttributeError as error:
        raise OSError(errno.ENOSYS, "the C library has no statx") from error
    found = ctypes.create_string_buffer(256)  # os.statx() is there from Python 3.15 on
    if statx(where, path, flags, _STATX_ALL, found) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target if isinstance(target, str) else None)
    (attributes,) = struct.unpack_from("<Q", found, 8)  # stx_attributes
    return bool(attributes & _STATX_ATTR_DAX)


def is_dax_directory(path: str) -> bool:
    """True when a new file in the directory can be one: asked of a file without a name, which leaves nothing (O_TMPFILE).

    False where the file system has no such files, as it has no DAX then either.

    :raises HostmemError: no file can be made there now, so that nothing can be told: it is full, read-only, or not to be written by this user.
    """
    try:
        with new_unnamed_file(path, ask=_device_has_dax(os.stat(path).st_dev)) as descriptor:
            return is_dax_file(descriptor)
    except OSError as error:
        cure = _CURES.get(error.errno or 0)
        if cure is None:
            return False
        raise HostmemError(
            f"Whether files in {path} can be mapped directly (DAX) cannot be told: no file can be made there.",
            cause=f"The kernel said: {error.strerror}.",
            cure=cure,
        ) from error


@contextlib.contextmanager
def new_unnamed_file(directory: str, ask: bool) -> Iterator[int]:
    """A descriptor of a new file that has no name, while it is needed.

    :param ask: where it is none by itself, one that has asked for DAX from its birth: from a directory with the flag, gone again at once.
    :raises OSError: no file can be made there.
    """
    flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
    descriptor = os.open(directory, flags, 0o600)
    try:
        if ask and not is_dax_file(descriptor):
            with contextlib.suppress(OSError), _flagged_directory(directory) as flagged:
                other = os.open(flagged, flags, 0o600)
                os.close(descriptor)
                descriptor = other
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _flagged_directory(parent: str) -> Iterator[str]:
    path = tempfile.mkdtemp(prefix=".hostmem-", dir=parent)
    try:
        ask_for_dax(path)
        yield path
    finally:
        os.rmdir(path)


def _device_has_dax(device: int) -> bool:
    """The block device could carry DAX; a partition says so by the whole device."""
    directory = f"/sys/dev/block/{os.major(device)}:{os.minor(device)}"
    return any(number_in(f"{directory}/{place}/dax") for place in ("queue", "../queue"))


def map_sync_works(target: PathOrDescriptor, length: int = mmap.PAGESIZE) -> bool:
    """True when the file, of a path or a descriptor open for writing, can be mapped with MAP_SYNC, as QEMU does for ``pmem=on``.

    The kernel grants that on DAX alone (EOPNOTSUPP elsewhere, mmap(2), Linux 4.15). Nothing is written.

    :param length: bytes to map, at least one page of the file; of a device-DAX character device a multiple of its alignment.
    :raises OSError: the file cannot be opened for writing, or is empty (EINVAL).
    """
    with opened(target, os.O_RDWR) as descriptor:
        try:
            mapped = mmap.mmap(
                descriptor, length, flags=_MAP_SHARED_VALIDATE | _MAP_SYNC, prot=mmap.PROT_READ | mmap.PROT_WRITE
            )
        except ValueError as error:  # Python's own check: the file is shorter
            raise OSError(errno.EINVAL, "the file is shorter than what is to be mapped") from error
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return False
            raise
        mapped.close()
        return True


def ask_for_dax(target: PathOrDescriptor, wanted: bool = True) -> None:
    """Set or clear FS_XFLAG_DAX, the wish that ``dax=inode`` goes by.

    New files and directories in a directory that has it get it, and follow it from their birth. A file itself follows it only once nobody
    has it open any more, and it is opened anew. It is no more than a wish: is_dax_file() says what came of it.

    :raises OSError: the file system has no such flag.
    """
    with opened(target, os.O_RDONLY) as descriptor:
        attributes = bytearray(fcntl.ioctl(descriptor, _FS_IOC_FSGETXATTR, bytes(28)))
        (flags,) = struct.unpack_from("=I", attributes, 0)  # struct fsxattr
        changed = flags | _FS_XFLAG_DAX if wanted else flags & ~_FS_XFLAG_DAX
        if changed != flags:
            struct.pack_into("=I", attributes, 0, changed)
            fcntl.ioctl(descriptor, _FS_IOC_FSSETXATTR, bytes(attributes))


def let_new_files_ask(directory: int) -> None:
    """Let files that are made in the directory, a descriptor, be on DAX with ``dax=inode``, too; where there is no such flag, nothing is done."""
    with contextlib.suppress(OSError):
        ask_for_dax(directory)
