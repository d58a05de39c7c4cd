# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A DAX mount at each boot: its unit, and the drop-in that says how long the boot waits for its device."""

from __future__ import annotations

import os
from dataclasses import replace

from .._host.block_devices import BlockDevice, stable_path
from .._host.mount_configuration import ConfiguredMount
from .._host.unit_files import read_unit, remove_unit, systemd_escape_path, with_header, write_unit
from .dax_mount_plans import DropIn, Plan
from .dax_wish import Wish
from .mount_units import MountUnit, UnitPlan, apply_unit, plan_removal, plan_unit

_DROP_IN = "hostmem.conf"


def mount_unit(wish: Wish, device: BlockDevice, file_system_uuid: str) -> MountUnit:
    """The unit of a mount. ``nofail``: the host boots without the device; guests wait for the mount by RequiresMountsFor."""
    return MountUnit(
        where=wish.point,
        what=stable_path(file_system_uuid, device),
        type=wish.type,
        options=(*wish.mount_options, "nofail"),
        description=f"Guests' memory on persistent memory at {wish.point}",
    )


def with_units(plan: Plan, wish: Wish, device: BlockDevice) -> Plan:
    """With the plans for the unit of the mount, and for the time that the boot waits for its device."""
    if not wish.persistent:
        unit = plan_removal(wish.point)
        return replace(plan, unit=unit, waiting=no_waiting(unit))
    wanted = mount_unit(wish, device, plan.uuid)
    unit = plan_unit(wanted, lambda other: says_the_same(other, wish, plan.uuid))
    if unit.provided_by:
        return replace(plan, unit=unit)
    name = _drop_in(wanted.what)
    # x-systemd.device-timeout= counts in fstab only (systemd.mount(5)); this is what it is made into.
    text = with_header(f"[Unit]\nJobRunningTimeoutSec={wish.device_timeout}\n")
    left = [item for item in no_waiting(unit) if item.name != name]
    return replace(plan, unit=unit, waiting=(DropIn(name, read_unit(name), text), *left))


def _drop_in(what: str) -> str:
    return f"{systemd_escape_path(what)}.device.d/{_DROP_IN}"


def no_waiting(unit: UnitPlan) -> tuple[DropIn, ...]:
    """The drop-in of a unit of ours as it was, which goes."""
    what = next(
        (line[5:] for line in (unit.before or "").split("\n") if line.startswith("What=")),
        "",
    )
    name = _drop_in(what.replace("%%", "%")) if what else ""
    return (DropIn(name, read_unit(name), None),) if name else ()


def says_the_same(other: ConfiguredMount, wish: Wish, file_system_uuid: str) -> bool:
    """Configuration of others mounts the same device with the same options, however it names them."""
    source = other.source
    if source.startswith("UUID="):
        same_device = source[5:].strip('"').lower() == file_system_uuid
    else:
        same_device = os.path.realpath(source) == os.path.realpath(wish.device)
    options = {"dax=always" if option == "dax" else option for option in other.options}
    wanted = set(wish.mount_options)
    more = {option for option in options - wanted if not option.startswith("x-")}
    return (
        same_device
        and other.type in (wish.type, "auto")
        and wanted <= options
        and more <= {"defaults", "auto", "nofail", "rw"}
    )


def apply_units(plan: Plan, wish: Wish, device: BlockDevice) -> None:
    """Carry out what a plan says of units; systemd learns of it.

    :raises OSError: they cannot be written.
    """
    for item in plan.waiting:
        if item.after is None:
            remove_unit(item.name)
        elif item.before != item.after:
            write_unit(item.name, item.after.partition("\n")[2])  # it adds the header
    apply_unit(plan.unit, mount_unit(wish, device, plan.uuid) if wish.persistent else None)
