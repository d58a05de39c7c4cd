# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files in hugetlbfs mounts that hold huge pages: guests' memory, or left over by somebody who is gone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .mounts import Mount, mounts
from .processes import processes_mapping


@dataclass(frozen=True)
class HugeFile:
    """A file; sizes in bytes. Pages of a failed fallocate(2) stay in a file of size 0: ``allocated`` is what counts."""

    path: str
    size: int
    allocated: int
    mapped_by: tuple[int, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "size": self.size,
            "allocated": self.allocated,
            "mapped_by": list(self.mapped_by),
        }


def huge_files(point: str) -> list[HugeFile]:
    """All files below a mount point, with the processes that map them."""
    found = []
    for directory, _names, files in os.walk(point):
        for name in sorted(files):
            path = os.path.join(directory, name)
            try:
                state = os.lstat(path)
            except OSError:
                continue  # removed meanwhile
            users = tuple(processes_mapping(state.st_dev, state.st_ino)) if state.st_blocks else ()
            found.append(HugeFile(path, state.st_size, state.st_blocks * 512, users))
    return found


def holding_files(page_size: int, found: Sequence[Mount] | None = None) -> list[HugeFile]:
    """The files that hold pages of one size, in all hugetlbfs mounts that we see; each file system once."""
    result: list[HugeFile] = []
    seen = set()
    for mount in mounts() if found is None else found:
        if mount.type != "hugetlbfs" or mount.device in seen:
            continue
        try:
            if os.statvfs(mount.point).f_bsize != page_size or os.stat(mount.point).st_dev != mount.device:
                continue
        except OSError:
            continue
        seen.add(mount.device)
        result += [file for file in huge_files(mount.point) if file.allocated]
    return result


def describe_files(files: Sequence[HugeFile], most: int = 5) -> str:
    """The files in words, the largest first."""
    texts = []
    for file in sorted(files, key=lambda item: -item.allocated)[:most]:
        users = f"mapped by {', '.join(map(str, file.mapped_by))}" if file.mapped_by else "mapped by no process"
        texts.append(f"{file.path} ({file.allocated >> 10} KiB, {users})")
    if len(files) > most:
        texts.append(f"and {len(files) - most} more")
    return "; ".join(texts)
