# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Creating and reading files without following symbolic links that somebody else may have planted."""

from __future__ import annotations

import errno
import json
import os
import stat
from typing import Any

from .service_manager import still_at_work


def open_directory(path: str) -> int:
    """A descriptor of an absolute directory path, no component below the first untrusted one being a symbolic link.

    Components owned by root are followed as they are; from the first component on that another user owns, links are refused.

    :raises OSError: missing, not a directory, or a link in an untrusted place.
    """
    current = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    trusted = True
    try:
        for part in [part for part in path.split("/") if part]:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if trusted else os.O_NOFOLLOW)
            following = os.open(part, flags, dir_fd=current)
            os.close(current)
            current = following
            found = os.fstat(current)
            trusted = trusted and found.st_uid == 0 and not found.st_mode & 0o022
    except OSError:
        os.close(current)
        raise
    return current


def existing_components(path: str) -> list[tuple[str, os.stat_result]]:
    """The root, and every existing directory from it to the path, each with what it really is (links followed)."""
    found = []
    current = "/"
    for part in ["", *[part for part in path.split("/") if part]]:
        current = os.path.join(current, part)
        try:
            found.append((current, os.stat(current)))
        except FileNotFoundError:
            break
    return found


def existing_parent(path: str) -> str:
    """The path itself, or its nearest parent that exists."""
    while not os.path.lexists(path) and path != "/":
        path = os.path.dirname(path)
    return path


def overwrite(descriptor: int) -> None:
    """Write zeros over whatever the file holds, down to the device (where the file system writes in place; btrfs does not)."""
    zeros = memoryview(bytes(1 << 20))
    position, size = 0, os.fstat(descriptor).st_size
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break  # nothing but a hole from here on
            raise
        position, end = start, os.lseek(descriptor, start, os.SEEK_HOLE)
        while position < end:
            position += os.pwrite(descriptor, zeros[: end - position], position)
            still_at_work()
    os.fdatasync(descriptor)


def make_directory(path: str, mode: int, uid: int, gid: int) -> bool:
    """Make a directory with exactly this mode and owner, and its missing parents (0755, of the caller); True when something changed.

    :raises OSError: a part of the path is a link in an untrusted place, or is no directory.
    """
    parent, name = os.path.split(path)
    if not os.path.isdir(parent):
        make_directory(parent, 0o755, os.geteuid(), os.getegid())
    above = open_directory(parent)
    try:
        changed = False
        try:
            os.mkdir(name, 0o700, dir_fd=above)
            changed = True
        except FileExistsError:
            pass
        directory = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    finally:
        os.close(above)
    try:
        return set_owner_and_mode(directory, mode, uid, gid) or changed
    finally:
        os.close(directory)


def set_owner_and_mode(descriptor: int, mode: int, uid: int, gid: int) -> bool:
    """Bring an open file or directory to this owner and mode; True when something changed."""
    found = os.fstat(descriptor)
    changed = False
    if (found.st_uid, found.st_gid) != (uid, gid):
        os.fchown(descriptor, uid, gid)
        changed = True
    if stat.S_IMODE(found.st_mode) != mode:
        os.fchmod(descriptor, mode)
        changed = True
    return changed


def write_json(path: str, data: Any, mode: int = 0o600) -> None:
    """Replace a file by new content at once: a reader sees the old or the new whole."""
    write_text(path, json.dumps(data, indent=1, sort_keys=True) + "\n", mode)


def write_text(path: str, text: str, mode: int = 0o600) -> None:
    """Replace a file by new content at once: a reader sees the old or the new whole."""
    temporary = f"{path}.{os.getpid()}.new"  # unfinished.py knows this name
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
        os.rename(temporary, path)
    except OSError:
        remove_file(temporary)
        raise


def read_json(path: str) -> Any | None:
    """The content; None when there is no such file.

    :raises ValueError: it is not JSON.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return None


def read_plain(path: str, limit: int = 16 << 20) -> bytes:
    """The content of a plain file in a directory that others may write to: no link is followed, no pipe waited for.

    :raises FileNotFoundError: there is none.
    :raises ValueError: it is something else, or longer than ``limit`` bytes.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ValueError(f"{path} is a symbolic link") from error
        raise
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > limit:
            raise ValueError(f"{path} is not a plain file of at most {limit} bytes")
        return file.read(limit)


def remove_file(path: str) -> bool:
    """Remove a file; True when it was there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def identity(path: str) -> tuple[int, int] | None:
    """Device and inode of what the path leads to; None when there is nothing."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def tail(path: str, size: int = 2000) -> str:
    """The last bytes of a log, as text; empty when there is none."""
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - size))
            return file.read().decode("utf-8", "replace").strip()
    except OSError:
        return ""
