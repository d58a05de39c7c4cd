# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files that guest RAM lives in: 0600 in a 0700 directory of QEMU's user, with space really there. Changes nothing a process maps."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from .._host.files import make_directory, open_directory, set_owner_and_mode
from .._host.filesystems import FileSystem, file_system, free_space
from .._host.processes import processes_mapping
from .._host.users import User
from .errors import Refused
from .layout import FILE_PREFIX, PlacedBlock, parse_file_name
from .sizes import format_size, round_up


@dataclass(frozen=True)
class FileState:
    """A RAM file as it is; sizes in bytes, ``allocated`` is what it really occupies."""

    exists: bool
    size: int = 0
    allocated: int = 0
    mode: int = 0
    uid: int = -1
    gid: int = -1
    device: int = 0
    inode: int = 0
    mapped_by: tuple[int, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For --diff: what a user recognises."""
        if not self.exists:
            return {"state": "absent"}
        return {"state": "present", "size": self.size, "mode": f"{self.mode:04o}", "uid": self.uid, "gid": self.gid}


def file_state(path: str) -> FileState:
    """Look at a RAM file.

    :raises Refused: there is something else than a plain file.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return FileState(False)
    if not stat.S_ISREG(found.st_mode):
        raise Refused(
            f"{path} is not a plain file.",
            cause="A RAM file may be neither a link nor a device.",
            cure="Remove it, or choose another directory.",
        )
    return FileState(
        exists=True,
        size=found.st_size,
        allocated=found.st_blocks * 512,
        mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
        device=found.st_dev,
        inode=found.st_ino,
        mapped_by=tuple(processes_mapping(found.st_dev, found.st_ino)),
    )


def wanted_state(placed: PlacedBlock, user: User, system: FileSystem) -> FileState:
    """The RAM file as it has to be: its size rounded up to the file system's page size."""
    return FileState(True, round_up(placed.block.size, system.page_size), 0, 0o600, user.uid, user.gid)


def check_file_system(placed: PlacedBlock) -> FileSystem:
    """The file system under the block's directory, when it is what the definition demands.

    :raises Refused: another type or page size, or no file system at all.
    """
    block = placed.block
    try:
        found = file_system(block.directory)
    except OSError as error:
        raise Refused(f"Memory block {block.id}: {block.directory} cannot be looked at.", cause=str(error)) from error
    if block.filesystem not in ("any", found.type):
        raise Refused(
            f"Memory block {block.id}: {block.directory} lies on {found.type}, the definition demands {block.filesystem}.",
            cause=f"The file system at {found.mount_point} is {found.type} ({found.source}).",
            cure=f"Mount a {block.filesystem} there, or correct directory or filesystem in the definition.",
        )
    if block.page_size is not None and found.page_size != block.page_size:
        raise Refused(
            f"Memory block {block.id}: {found.mount_point} has pages of {format_size(found.page_size)}, the definition demands {format_size(block.page_size)}.",
            cure=f"Use a mount with pagesize={format_size(block.page_size)}.",
        )
    if found.type == "hugetlbfs" and block.size % found.page_size:
        raise Refused(
            f"Memory block {block.id}: its size is not a multiple of the page size {format_size(found.page_size)}."
        )
    return found


def check_open(placed: PlacedBlock, state: FileState, system: FileSystem) -> None:
    """mode=open: the file is there with exactly this offset, size and name.

    :raises Refused: it is not; near misses are listed.
    """
    if placed.block.mode != "open":
        return
    size = round_up(placed.block.size, system.page_size)
    if state.exists and state.size == size:
        return
    problem = f"is {state.size} bytes long instead of {size}" if state.exists else "does not exist"
    near = near_misses(placed)
    raise Refused(
        f"Memory block {placed.block.id}: mode open demands {placed.path}, which {problem}.",
        cause="Near misses: " + ("; ".join(near) if near else "none in this directory") + ".",
        cure="Correct size, order or id of the blocks, or use mode create for a new file.",
    )


def near_misses(placed: PlacedBlock) -> list[str]:
    """RAM files in the same directory, each with what is different about it."""
    try:
        names = sorted(os.listdir(placed.block.directory))
    except OSError:
        return []
    found = []
    for name in names:
        parsed = parse_file_name(name)
        if parsed is None:
            continue
        wanted = {"offset": placed.offset, "size": placed.block.size, "name": placed.block.id}
        other = [key for key, value in zip(("offset", "size", "name"), parsed) if value != wanted[key]]
        length = os.stat(f"{placed.block.directory}/{name}").st_size
        found.append(f"{name} ({'other ' + ', '.join(other) if other else f'length {length}'})")
    return found


def check_space(placed: PlacedBlock, state: FileState, system: FileSystem, fresh: bool) -> None:
    """Refuse a file that the file system could not fill: a short tmpfs kills the guest with SIGBUS when it touches the memory, without a message.

    What other RAM files beside this one may still grow by is counted as taken.

    :param fresh: the present content will be dropped first.
    :raises Refused: with the numbers.
    """
    size = round_up(placed.block.size, system.page_size)
    need = size if fresh else max(0, size - state.allocated)
    free = free_space(placed.block.directory) + (state.allocated if fresh else 0)
    # hugetlbfs reserves at mmap, so what running guests may still touch is not free any more.
    promised = 0 if system.type == "hugetlbfs" else _promised(placed)
    if need > free - promised:
        what = "huge pages" if system.type == "hugetlbfs" else "space"
        raise Refused(
            f"Memory block {placed.block.id}: not enough {what} in {system.mount_point} for {format_size(size)}.",
            cause=f"{format_size(need)} are needed, {format_size(free)} are free, of which {format_size(promised)} belong to other guests' memory that is not touched yet.",
            cure="Enlarge the pool or mount, or stop guests.",
        )


def _promised(placed: PlacedBlock) -> int:
    """Bytes by which the RAM files of the sibling directories can still grow."""
    total = 0
    parent = os.path.dirname(placed.block.directory)
    try:
        directories = [entry.path for entry in os.scandir(parent) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return 0
    for directory in directories:
        try:
            entries = [
                entry
                for entry in os.scandir(directory)
                if entry.name.startswith(FILE_PREFIX) and entry.path != placed.path
            ]
        except OSError:
            continue
        for entry in entries:
            found = entry.stat(follow_symlinks=False)
            total += max(0, found.st_size - found.st_blocks * 512)
    return total


@dataclass(frozen=True)
class FilePlan:
    """What has to happen to one RAM file; ``reset`` drops its content."""

    placed: PlacedBlock
    before: FileState
    after: FileState
    reset: bool

    @property
    def changed(self) -> bool:
        return self.reset or self.before.as_dict() != self.after.as_dict()


def plan_present(placed: PlacedBlock, user: User, fresh: bool) -> FilePlan:
    """Check everything and say what would happen.

    :param fresh: for a cold start: with mode=create the old content must not be seen by the guest.
    :raises Refused: the file cannot or must not be made.
    """
    system = check_file_system(placed)
    before = file_state(placed.path)
    check_open(placed, before, system)
    after = wanted_state(placed, user, system)
    # A new file has no content to drop; an old one is dropped also when its size is wrong, as cutting would keep a part.
    reset = (
        before.exists
        and placed.block.mode == "create"
        and (before.size != after.size or (fresh and before.allocated > 0))
    )
    if before.mapped_by and (reset or before.size != after.size):
        raise _mapped(placed.path, before)
    check_space(placed, before, system, reset)
    return FilePlan(placed, before, after, reset)


def apply_present(plan: FilePlan, user: User) -> None:
    """Carry a plan out.

    :raises OSError: the kernel refused.
    """
    block = plan.placed.block
    make_directory(block.directory, 0o700, user.uid, user.gid)
    directory = open_directory(block.directory)
    try:
        if plan.reset:
            # Unlinked, not cut: hugetlbfs keeps pages of a failed fallocate in a file of size 0.
            os.unlink(plan.placed.file_name, dir_fd=directory)
        new = plan.reset or not plan.before.exists
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if new else 0)
        descriptor = os.open(plan.placed.file_name, flags, 0o600, dir_fd=directory)
        try:
            if new:
                os.ftruncate(descriptor, plan.after.size)
            set_owner_and_mode(descriptor, plan.after.mode, user.uid, user.gid)
        finally:
            os.close(descriptor)
    finally:
        os.close(directory)


def plan_absent(placed: PlacedBlock) -> FilePlan:
    """What removing the file would do.

    :raises Refused: a process maps it.
    """
    before = file_state(placed.path)
    if before.mapped_by:
        raise _mapped(placed.path, before)
    return FilePlan(placed, before, FileState(False), False)


def apply_absent(plan: FilePlan) -> None:
    """Remove the file, and its directory when that is empty then."""
    directory = open_directory(plan.placed.block.directory)
    try:
        os.unlink(plan.placed.file_name, dir_fd=directory)
    finally:
        os.close(directory)
    with suppress(OSError):  # other blocks' files are still in it
        os.rmdir(plan.placed.block.directory)


def _mapped(path: str, state: FileState) -> Refused:
    pids = ", ".join(str(pid) for pid in state.mapped_by)
    return Refused(
        f"{path} is mapped by process {pids}.",
        cause="A mapped RAM file is a guest's memory.",
        cure="Stop the guest first.",
    )


def unlisted_files(directory: str, keep: set[str] | None = None) -> list[str]:
    """RAM files in a directory that no block of the definition is called by."""
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    return sorted(f"{directory}/{name}" for name in names if parse_file_name(name) and name not in (keep or set()))
