# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a file is, in words that are still true after a reboot. Device numbers are not: they change with the order of discovery."""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress
from dataclasses import dataclass

from .boot_id import boot_id
from .mounts import mount_of

# _IOR(0x15, 0, struct fsuuid2), include/uapi/linux/fs.h, Linux 6.9: a byte with the length and 16 with the UUID.
_FS_IOC_GETFSUUID = 0x80111500
# _IOR('v', 1, long): the inode's generation, which tells it from an earlier file that had its number (ext4, xfs, btrfs).
_FS_IOC_GETVERSION = 0x80087601
_BY_UUID = "/dev/disk/by-uuid"


@dataclass(frozen=True)
class FileIdentity:
    """``file_system`` names the file system, or its one mount where it has no name; ``generation`` is None where inodes have none."""

    file_system: str
    inode: int
    generation: int | None
    size: int


def file_identity(path: str) -> FileIdentity:
    """Look at a plain file.

    :raises OSError: it cannot be opened for reading, or is a link.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        return FileIdentity(_file_system(descriptor, path), found.st_ino, _generation(descriptor), found.st_size)
    finally:
        os.close(descriptor)


def _file_system(descriptor: int, path: str) -> str:
    """Its UUID by the kernel (in hexadecimal), by udev, or what names it until the next boot (tmpfs before Linux 6.9, hugetlbfs)."""
    answer = bytearray(17)
    with suppress(OSError):
        fcntl.ioctl(descriptor, _FS_IOC_GETFSUUID, answer)
    if any(answer[1:]):  # a file system can be without one
        return answer[1:].hex()
    mount = mount_of(path)
    source = mount.source if mount else ""
    by_udev = _uuid_by_udev(source)
    return by_udev or f"{source or 'none'} in boot {boot_id()}, device {os.fstat(descriptor).st_dev:#x}"


def _uuid_by_udev(source: str) -> str:
    """The UUID that a link to the block device is named by; empty without one."""
    try:
        wanted = os.stat(source).st_rdev if source.startswith("/dev/") else 0
        names = os.listdir(_BY_UUID) if wanted else []
    except OSError:
        return ""
    for name in sorted(names):
        try:
            if os.stat(f"{_BY_UUID}/{name}").st_rdev == wanted:
                return name.lower().replace("-", "")
        except OSError:
            continue
    return ""


def _generation(descriptor: int) -> int | None:
    answer = bytearray(8)
    try:
        fcntl.ioctl(descriptor, _FS_IOC_GETVERSION, answer)
    except OSError:
        return None
    return int(struct.unpack("=I", answer[:4])[0])  # file systems write an int, whatever the number says
