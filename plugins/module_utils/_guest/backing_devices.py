# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Device-DAX under guest RAM: the device is QEMU's user's, large enough, used by nobody else, and empty when the definition says so."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .._host.devdax import DaxDevice, clear, dax_device, holds_data
from .._host.files import set_owner_and_mode
from .._host.processes import processes_mapping_part
from .._host.users import User
from .backing_state import Access, access_of, file_access
from .errors import Refused
from .layout import PlacedBlock
from .sizes import format_size


@dataclass(frozen=True)
class DevicePlan:
    """What has to happen to one device; ``reset`` drops what the block's part of it holds."""

    placed: PlacedBlock
    before: Access
    after: Access
    reset: bool

    @property
    def changed(self) -> bool:
        return self.reset or self.before != self.after

    def sides(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Before and after, for --diff."""
        before, after = self.before.as_dict(), self.after.as_dict()
        return ({**before, "content": "kept"}, {**after, "content": "zero"}) if self.reset else (before, after)


def plan_device(placed: PlacedBlock, user: User, fresh: bool, given: bool) -> DevicePlan:
    """Look at the device and say what would happen.

    :param fresh: for a cold start: with mode=create the old content must not be seen by the guest.
    :param given: this part of the device is the guest's already, or its content is to be dropped: what it holds goes. Another part must
        be empty, and all of it is read.
    :raises Refused: there is no such device, or it is too small, in use, or holds somebody's data.
    """
    device = _device(placed)
    _check_fits(placed, device)
    created = fresh and placed.block.mode == "create"
    if fresh:
        _check_unused(placed)
    if created and not given and holds_data(device.path, placed.block.offset or 0, placed.block.size):
        raise Refused(
            f"{device.path} holds data where block {placed.block.id} would lie, which is not known to be this guest's memory.",
            cause="With mode create it would be lost.",
            cure="Use mode open to keep it, or make the namespace anew (hostmem.qemu.pmem_namespace with destroy_data)."
            " What another guest left there is cleared by its next start, or when it is undefined.",
        )
    return DevicePlan(placed, access_of(os.stat(device.path)), file_access(user), created and given)


def plan_device_absent(placed: PlacedBlock) -> DevicePlan:
    """What taking a guest's memory off the device would do: its content goes.

    :raises Refused: a process maps it.
    """
    device = _device(placed)
    _check_unused(placed)
    present = access_of(os.stat(device.path))
    return DevicePlan(placed, present, present, reset=True)


@dataclass(frozen=True)
class DevicePart:
    """Bytes of a device, which is known by the UUID of its namespace, or by its path where it has none."""

    device: str
    start: int
    length: int

    @classmethod
    def parse(cls, text: str) -> DevicePart:
        """What ``part_of_device`` has written."""
        device, start, length = text.rsplit("+", 2)
        return cls(device, int(start, 16), int(length, 16))

    def meets(self, other: DevicePart) -> bool:
        """Whether the two share a byte."""
        apart = self.start >= other.start + other.length or other.start >= self.start + self.length
        return self.device == other.device and not apart


def part_of_device(path: str, offset: int, size: int) -> str:
    """A name for a part of a device, for the record of what a guest was given; the same after the next boot. Bytes."""
    found = device_at(path)
    return f"{found.uuid if found and found.uuid else path}+{offset:#x}+{size:#x}"


def apply_devices(plans: Sequence[DevicePlan]) -> None:
    """Carry the plans out.

    :raises OSError: the kernel refused.
    """
    for plan in plans:
        hand_over(plan.placed.block.device, plan.after)
        if plan.reset:
            clear(plan.placed.block.device, plan.placed.block.offset or 0, plan.placed.block.size)


def hand_over(path: str, access: Access) -> None:
    """Make the device somebody's.

    :raises OSError: the kernel refused.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        set_owner_and_mode(descriptor, access.mode, access.uid, access.gid)
    finally:
        os.close(descriptor)


def device_at(path: str) -> DaxDevice | None:
    """The device-DAX device of this path; None when there is none that can be mapped."""
    found = dax_device(path)
    return found if found and os.path.exists(path) and stat.S_ISCHR(os.lstat(path).st_mode) else None


def _device(placed: PlacedBlock) -> DaxDevice:
    found = device_at(placed.block.device)
    if found is None:
        raise Refused(
            f"Memory block {placed.block.id}: {placed.block.device} is no device-DAX device.",
            cause="The kernel has none of this name with the driver device_dax.",
            cure="Make one with hostmem.qemu.pmem_namespace (mode devdax), or with daxctl reconfigure-device.",
        )
    return found


def _check_fits(placed: PlacedBlock, device: DaxDevice) -> None:
    block = placed.block
    if (block.offset or 0) + block.size > device.size:
        raise Refused(
            f"Memory block {block.id}: {device.path} has {format_size(device.size)},"
            f" too few for {format_size(block.size)} at {format_size(block.offset or 0)}.",
            cure="Use a smaller block, or a larger device.",
        )
    if (block.align or 0) % device.align:
        raise Refused(
            f"Memory block {block.id}: {device.path} can be mapped only in multiples of {format_size(device.align)}.",
            cure=f"Set align to {format_size(device.align)}.",
        )


def _check_unused(placed: PlacedBlock) -> None:
    block = placed.block
    refuse_mapped(block.device, block.offset or 0, block.size, f"block {block.id} would lie")


def refuse_mapped(path: str, offset: int, size: int, what: str) -> None:
    """A part of a device that is to be changed; bytes.

    :param what: says what is there, for the error.
    :raises Refused: a process maps it.
    """
    users = processes_mapping_part(path, offset, size)
    if users:
        raise Refused(
            f"{path} is mapped by process {', '.join(map(str, users))} where {what}.",
            cause="Mapped memory is a guest's, or another program's.",
            cure="Stop it first, or use another offset.",
        )
