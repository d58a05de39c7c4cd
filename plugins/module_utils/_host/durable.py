# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Changes to files that a power cut must not take back: each is on its device when the function returns (fsync(2)), except for write_new."""

from __future__ import annotations

import hashlib
import os

_PIECE = 1 << 20


def sync_file(path: str) -> None:
    """:raises OSError: the device could not take it; what it holds is not known then."""
    _sync(path, os.O_RDONLY | os.O_NOFOLLOW)


def sync_directory(path: str) -> None:
    """Makes, removals and renames of names in it.

    :raises OSError: the device could not take them.
    """
    _sync(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def _sync(path: str, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_new(path: str, data: bytes) -> None:
    """A new file, 0600; it and its name still have to be brought to their device.

    :raises OSError: there is one, or no space.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def rename_durably(old: str, new: str) -> None:
    """Within one directory.

    :raises OSError: it has its old name, or its new one is not known to last.
    """
    os.rename(old, new)
    sync_directory(os.path.dirname(new))


def remove_durably(path: str) -> None:
    """A file that may be gone already."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    sync_directory(os.path.dirname(path))


def sha256_of(path: str) -> tuple[int, str]:
    """Length in bytes and digest of a file.

    :raises OSError: it cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
            size += len(piece)
    return size, digest.hexdigest()
