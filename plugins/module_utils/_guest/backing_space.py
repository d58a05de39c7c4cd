# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the file system really has room for the memory of a guest.

A short tmpfs kills the guest with SIGBUS when it touches the memory, without a message.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from .._host.filesystems import (
    FileSystem,
    free_huge_pages,
    free_space,
    kept_for_mount,
    left_in_limit,
)
from .._host.processes import mapped_files
from .backing_pools import PageDemand, bound_to, free_for
from .backing_state import FileState
from .errors import Refused
from .layout import FILE_PREFIX, PlacedBlock
from .sizes import format_size, round_up


@dataclass(frozen=True)
class Demand:
    """One block, the file it has (if any) and where it lies; ``reset`` when the file's content will be dropped first."""

    placed: PlacedBlock
    state: FileState
    system: FileSystem
    reset: bool

    @property
    def size(self) -> int:
        return round_up(self.placed.block.size, self.system.page_size)

    @property
    def needed(self) -> int:
        """Bytes that the file may still grow by."""
        return self.size if self.reset else max(0, self.size - self.state.allocated)

    @property
    def gained(self) -> int:
        """Bytes that become free before."""
        return self.state.allocated if self.reset else 0

    @property
    def unfilled(self) -> int:
        """Bytes of the file as it is that have no page yet."""
        return max(0, self.state.size - self.state.allocated)

    def of_pool(self) -> PageDemand:
        """The same of a pool of huge pages."""
        block = self.placed.block
        promised = self.unfilled + min(self.needed, kept_for_mount(self.system))
        return PageDemand(block.id, self.system.page_size, bound_to(block), self.needed, self.gained, promised)


def check_space(demands: list[Demand]) -> None:
    """Refuse what does not fit, all blocks of a guest taken together.

    What other RAM files in the same file system may still grow by is counted as taken.

    :raises Refused: with the numbers.
    """
    for device in dict.fromkeys(demand.system.device for demand in demands):
        _check_system([demand for demand in demands if demand.system.device == device])


def _check_system(demands: list[Demand]) -> None:
    system = demands[0].system
    needed = sum(demand.needed for demand in demands)
    place = system.mount_point or demands[0].placed.block.directory
    gained, promised, limited = sum(demand.gained for demand in demands), 0, False
    if system.type == "hugetlbfs":
        free, limited = _free_huge_pages(demands, place)
        free += gained
    else:
        free = free_space(place) + gained
        promised = _promised(demands, system.device)
    if needed and needed > free - promised:
        names = ", ".join(demand.placed.block.id for demand in demands)
        what = "huge pages" if system.type == "hugetlbfs" else "space"
        raise Refused(
            f"Memory block {names}: not enough {what} in {system.mount_point} for {format_size(sum(d.size for d in demands))}.",
            cause=f"{format_size(needed)} are needed, {format_size(free)} are free{_why_not_more(system, limited, promised)}.",
            cure="Enlarge the pool or mount, or stop guests.",
        )


def _free_huge_pages(demands: list[Demand], place: str) -> tuple[int, bool]:
    """Bytes that there are for the files, and whether it is the mount's own limit that there are not more.

    hugetlbfs reserves when a file is mapped: what running guests may still touch is not free any more, and a file that was mapped once keeps
    its reservation. So does a mount with min_size.
    """
    system = demands[0].system
    unfilled = sum(demand.unfilled for demand in demands)
    free = free_for(system.page_size, unfilled + kept_for_mount(system))
    left = left_in_limit(place)
    if left is None or left + unfilled >= free:
        return free, False
    return left + unfilled, True


def _why_not_more(system: FileSystem, limited: bool, promised: int) -> str:
    if promised:
        return f", of which {format_size(promised)} belong to other guests' memory that is not touched yet"
    pool = format_size(free_huge_pages(system.page_size))
    return f" within the limit of the mount (its option size); the pool has {pool}" if limited else ""


def _promised(demands: list[Demand], device: int) -> int:
    """Bytes by which other RAM files of the file system can still grow: those beside ours, and those that processes map."""
    ours = {demand.state.inode for demand in demands if demand.state.exists}
    others: dict[int, int] = {}
    for demand in demands:
        for found in _files_beside(os.path.dirname(demand.placed.block.directory)):
            if found.st_dev == device:
                others[found.st_ino] = max(0, found.st_size - found.st_blocks * 512)
    for found in mapped_files(device, FILE_PREFIX):
        others[found.st_ino] = max(0, found.st_size - found.st_blocks * 512)
    return sum(growth for inode, growth in others.items() if inode not in ours)


def _files_beside(parent: str) -> Iterator[os.stat_result]:
    """The RAM files in the directories under ``parent``."""
    try:
        directories = [entry.path for entry in os.scandir(parent) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for directory in directories:
        try:
            entries = [entry for entry in os.scandir(directory) if entry.name.startswith(FILE_PREFIX)]
        except OSError:
            continue
        for entry in entries:
            try:
                yield entry.stat(follow_symlinks=False)
            except OSError:
                continue  # removed meanwhile
