# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files that guest RAM lives in: 0600 in a 0700 directory of QEMU's user, with space really there. Changes nothing a process maps."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .._host.dax import let_new_files_ask
from .._host.files import make_directory, open_directory, overwrite, set_owner_and_mode
from .._host.filesystems import FileSystem, file_system
from .._host.users import User
from .backing_checks import check_directory, check_file_system, check_open, check_readable
from .backing_devices import DevicePlan, apply_devices, part_of_device, plan_device, plan_device_absent
from .backing_pages import fill_file, lay_out
from .backing_pools import check_nodes, check_pools, page_demand
from .backing_space import Demand, check_space
from .backing_state import Access, FileState, directory_access, directory_state, file_access, file_state
from .checkpoint_store import saved_in
from .errors import Refused
from .layout import PlacedBlock
from .sizes import round_up


@dataclass(frozen=True)
class FilePlan:
    """What has to happen to one RAM file; ``reset`` drops its content, ``fill`` gives it all its pages."""

    placed: PlacedBlock
    before: FileState
    after: FileState
    reset: bool = False
    fill: bool = False
    page_size: int = 4096

    @property
    def changed(self) -> bool:
        return self.reset or self.fill or self.before.as_dict() != self.after.as_dict()

    @property
    def predicted(self) -> FileState:
        """The file as it will be, with what the plan leaves as it is."""
        allocated = self.after.size if self.fill or self.placed.block.filesystem == "dax" else 0
        if self.reset or not (self.before.exists and self.after.exists):
            return replace(self.after, allocated=allocated)
        return replace(self.before, access=self.after.access, allocated=max(allocated, self.before.allocated))

    def sides(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Before and after, for --diff."""
        before, after = self.before.as_dict(), self.after.as_dict()
        if self.reset or self.fill:
            return {**before, "allocated": self.before.allocated}, {**after, "allocated": self.predicted.allocated}
        return before, after


@dataclass(frozen=True)
class DirectoryPlan:
    """What has to happen to a directory of RAM files; None: it is not there."""

    path: str
    before: Access | None
    after: Access | None

    @property
    def changed(self) -> bool:
        return self.before != self.after

    def sides(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Before and after, for --diff."""
        return _directory_side(self.before), _directory_side(self.after)


def _directory_side(access: Access | None) -> dict[str, Any]:
    return {"state": "directory", **access.as_dict()} if access else {"state": "absent"}


@dataclass(frozen=True)
class Plan:
    """What has to happen to the files of some blocks, to their directories, and to devices in the place of files."""

    files: list[FilePlan] = field(default_factory=list)
    directories: list[DirectoryPlan] = field(default_factory=list)
    devices: list[DevicePlan] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return (
            any(item.changed for item in self.files)
            or any(item.changed for item in self.directories)
            or any(item.changed for item in self.devices)
        )

    def diff(self) -> dict[str, dict[str, Any]]:
        """Before and after by path."""
        sides = {place.path: place.sides() for place in self.directories}
        sides.update((item.placed.path, item.sides()) for item in self.files)
        sides.update((device.placed.place, device.sides()) for device in self.devices)
        return {
            "before": {path: before for path, (before, _after) in sides.items()},
            "after": {path: after for path, (_before, after) in sides.items()},
        }


def plan_present(blocks: Sequence[PlacedBlock], user: User, fresh: bool, given: Collection[str] | None = None) -> Plan:
    """Check everything and say what would happen. A memfd has no file; its huge pages have to be free.

    :param fresh: for a cold start: with mode=create the old content must not be seen by the guest.
    :param given: parts of devices whose content may go (``part_of_device``); None for all.
    :raises Refused: a file cannot or must not be made.
    """
    plan = Plan(
        devices=[
            plan_device(placed, user, fresh, given is None or _part(placed) in given)
            for placed in blocks
            if placed.block.device
        ]
    )
    check_nodes([placed.block for placed in blocks])
    demands = []
    for placed in [placed for placed in blocks if placed.block.directory]:
        system = check_file_system(placed)
        if placed.block.read_only:
            check_readable(placed, system, user)
            continue
        check_directory(placed.block.directory, user)
        item = _plan_file(placed, user, system, fresh)
        demands.append(Demand(placed, item.before, system, item.reset))
        if placed.path:  # QEMU makes and unlinks the file of mode=temp itself, which needs space all the same
            plan.files.append(item)
    check_space(demands)
    check_pools(
        [demand.of_pool() for demand in demands if demand.system.type == "hugetlbfs"]
        + [page_demand(placed.block) for placed in blocks if placed.block.backing == "memfd" and placed.block.page_size]
    )
    for path in dict.fromkeys(demand.placed.block.directory for demand in demands):
        plan.directories.append(DirectoryPlan(path, directory_state(path), directory_access(user)))
    return plan


def _part(placed: PlacedBlock) -> str:
    return part_of_device(placed.block.device, placed.block.offset or 0, placed.block.size)


def _plan_file(placed: PlacedBlock, user: User, system: FileSystem, fresh: bool) -> FilePlan:
    before = file_state(placed.path) if placed.path else FileState()
    check_open(placed, before, system)
    after = FileState(file_access(user), round_up(placed.block.size, system.page_size))
    wrong_size = before.exists and before.size != after.size
    reset = before.exists and placed.block.mode == "create" and fresh and (wrong_size or before.allocated > 0)
    # A cold start is alone on shared memory; whoever maps the file is another guest, perhaps one that has not touched it yet.
    if before.mapped_by and (reset or wrong_size or (fresh and placed.block.mmap == "shared")):
        raise _mapped(placed.path, before)
    if reset or wrong_size or (before.exists and fresh and placed.block.mmap == "shared"):
        _refuse_saved(placed.path)
    if wrong_size and not reset:
        raise Refused(
            f"{placed.path} is {before.size} bytes long instead of {after.size}.",
            cause="Its length does not fit its name; another length would lose or invent memory.",
            cure="Drop its content (content: zero), or remove the file.",
        )
    # Blocks on DAX can be allocated and not written.
    dax = placed.block.filesystem == "dax" and fresh
    fill = placed.block.prealloc and (reset or dax or before.allocated < after.size)
    return FilePlan(placed, before, after, reset, fill, system.page_size)


def apply_present(plan: Plan, user: User) -> None:
    """Carry a plan out.

    :raises OSError: the kernel refused.
    :raises Refused: a file did not become what it has to be; it is not left.
    """
    for item in plan.directories:
        make_directory(item.path, 0o700, user.uid, user.gid)
    for file in plan.files:
        if file.changed:
            _make_file(file, user)
    apply_devices(plan.devices)


def _make_file(plan: FilePlan, user: User) -> None:
    with _directory_of(plan) as directory:
        if plan.reset:
            # Unlinked, not cut: hugetlbfs keeps pages of a failed fallocate in a file of size 0.
            _remove(plan, directory)
        new = plan.reset or not plan.before.exists
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if new else 0)
        if plan.placed.block.filesystem == "dax":
            let_new_files_ask(directory)
        descriptor = os.open(plan.placed.file_name, flags, 0o600, dir_fd=directory)
        try:
            if not new:
                _check_same(plan, descriptor)
            if new:
                lay_out(plan.placed, descriptor, plan.after.size)
            set_owner_and_mode(descriptor, 0o600, user.uid, user.gid)
            if plan.fill:
                fill_file(plan.placed, descriptor, plan.after.size, plan.page_size)
        except BaseException:
            if new:  # with the pages that it got
                os.unlink(plan.placed.file_name, dir_fd=directory)
            raise
        finally:
            os.close(descriptor)


def _check_same(plan: FilePlan, descriptor: int) -> None:
    """The directory is the unprivileged user's: another file may have been put there since the plan was made.

    :raises Refused: so it is.
    """
    found = os.fstat(descriptor)
    same = (found.st_dev, found.st_ino) == (plan.before.device, plan.before.inode)
    if not same or not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise Refused(f"{plan.placed.path} was exchanged meanwhile.", cure="Find out by whom, and try again.")


def plan_absent(blocks: Sequence[PlacedBlock]) -> Plan:
    """What removing the files, and the content of devices, would do; a directory goes with the last file in it.

    :raises Refused: a process maps one.
    """
    plan = Plan(
        files=[FilePlan(placed, file_state(placed.path), FileState()) for placed in blocks if placed.path],
        devices=[plan_device_absent(placed) for placed in blocks if placed.block.device],
    )
    for item in plan.files:
        if item.before.mapped_by:
            raise _mapped(item.placed.path, item.before)
        _refuse_saved(item.placed.path)
    going = {item.placed.path for item in plan.files if item.before.exists}
    for path in dict.fromkeys(os.path.dirname(path) for path in going):
        present = directory_state(path)
        stays = os.path.ismount(path) or any(f"{path}/{name}" not in going for name in os.listdir(path))
        plan.directories.append(DirectoryPlan(path, present, present if stays else None))
    return plan


def _refuse_saved(path: str) -> None:
    """:raises Refused: the file is the memory of a saved guest, which nobody maps."""
    guest = saved_in(path)
    if guest:
        raise Refused(
            f"{path} is the memory of the saved guest {guest}.",
            cause="Its state would not fit what the file becomes.",
            cure=f"Restore the guest first (hostmem restore {guest}), or give it up (hostmem discard {guest}).",
        )


def apply_absent(plan: Plan) -> None:
    """Remove the files, and their directories when they are empty then."""
    for item in plan.files:
        if item.before.exists:
            with _directory_of(item) as directory:
                _remove(item, directory)
    apply_devices(plan.devices)
    for place in plan.directories:
        if place.after is None:
            with contextlib.suppress(OSError):  # another file came in between
                os.rmdir(place.path)


@contextlib.contextmanager
def _directory_of(plan: FilePlan) -> Iterator[int]:
    descriptor = open_directory(plan.placed.block.directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _remove(plan: FilePlan, directory: int) -> None:
    """Unlink a RAM file; on a persistent store the guest's memory is overwritten first, as its blocks will be others' blocks.

    :raises Refused: a process has come to map it since the plan was made.
    """
    now = file_state(plan.placed.path)
    if now.mapped_by:
        raise _mapped(plan.placed.path, now)
    if not file_system(plan.placed.block.directory).volatile:
        descriptor = os.open(plan.placed.file_name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            overwrite(descriptor)
        finally:
            os.close(descriptor)
    os.unlink(plan.placed.file_name, dir_fd=directory)


def _mapped(path: str, state: FileState) -> Refused:
    pids = ", ".join(str(pid) for pid in state.mapped_by)
    return Refused(
        f"{path} is mapped by process {pids}.",
        cause="A mapped RAM file is a guest's memory.",
        cure="Stop the guest first.",
    )
