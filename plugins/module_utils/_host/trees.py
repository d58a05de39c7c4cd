# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Directory trees of programs that are replaced as a whole while programs from the old one may still run."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Mapping

_CACHE = "__pycache__"


def tree_digest(files: Mapping[str, bytes]) -> str:
    """12 hexadecimal digits for paths and contents."""
    digest = hashlib.sha256()
    for path, content in sorted(files.items()):
        digest.update(f"{path}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:12]


def read_tree(directory: str) -> dict[str, bytes]:
    """Every file by its relative path, without what Python compiled there; empty when there is no such directory."""
    found = {}
    for where, directories, names in os.walk(directory):
        if _CACHE in directories:
            directories.remove(_CACHE)
        for name in names:
            path = os.path.join(where, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, directory)] = file.read()
    return found


def write_tree(directory: str, files: Mapping[str, bytes]) -> None:
    """Make the directory, which must not exist, with these files; those under bin/ can be executed. All of it is on disk afterwards."""
    os.mkdir(directory, 0o755)
    for path, content in sorted(files.items()):
        target = os.path.join(directory, path)
        _make_parents(directory, os.path.dirname(path))
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            # Whatever the caller's umask: an unprivileged user runs the programs.
            os.fchmod(file.fileno(), 0o755 if path.startswith("bin/") else 0o644)
            file.flush()
            os.fsync(file.fileno())
    os.chmod(directory, 0o755)


def _make_parents(directory: str, relative: str) -> None:
    where = directory
    for part in [part for part in relative.split("/") if part]:
        where = os.path.join(where, part)
        if not os.path.isdir(where):
            os.mkdir(where)
            os.chmod(where, 0o755)


def in_use(directory: str) -> bool:
    """True while a program holds the tree by a shared flock(2) on its directory."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def remove_tree(directory: str) -> bool:
    """Remove a tree unless a program holds it; False when it stays.

    A program that starts from it meanwhile waits for the lock, then sees that its tree is gone and starts again from the new one.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        doomed = os.path.join(os.path.dirname(directory), f".{os.path.basename(directory)}.old")
        shutil.rmtree(doomed, ignore_errors=True)  # of a removal that was cut off
        os.rename(directory, doomed)
        shutil.rmtree(doomed)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
