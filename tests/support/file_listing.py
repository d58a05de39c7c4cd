# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All files in some directories with owner, mode and content, for a comparison before and after. It runs as root on any Python >= 3.9."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from glob import glob


def listing(patterns: Iterable[str]) -> dict[str, str]:
    """Whatever lies at or below the paths that match, by path: owner, group, type and mode, and a digest of a file's content or a link's target."""
    return {path: _state(path) for pattern in patterns for start in glob(pattern) for path in _below(start)}


def _below(start: str) -> Iterator[str]:
    yield start
    if os.path.islink(start):
        return
    for directory, directories, files in os.walk(start):
        for name in (*directories, *files):
            yield os.path.join(directory, name)


def _state(path: str) -> str:
    found = os.lstat(path)
    content = ""
    if stat.S_ISLNK(found.st_mode):
        content = os.readlink(path)
    elif stat.S_ISREG(found.st_mode):
        with open(path, "rb") as file:
            content = hashlib.sha256(file.read()).hexdigest()
    return f"{found.st_uid}:{found.st_gid} {stat.filemode(found.st_mode)} {content}".rstrip()
