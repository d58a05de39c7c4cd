# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mounts of ext4 and xfs whose files are mapped straight from persistent memory, now and at each boot, and really.

The mount options are no proof: xfs mounts with ``dax=always`` where it has turned DAX off. A file in it is.
"""

from __future__ import annotations

import os
from dataclasses import replace

from .._host.block_devices import BlockDevice, stable_path, uuid_for
from .._host.cures import refused_by_kernel
from .._host.device_users import device_users
from .._host.errors import Refused
from .._host.filesystem_tools import SuperBlock, super_block
from .._host.mount_points import Directory, directory_under
from .._host.mount_users import users_of
from .._host.mounts import Mount, mount_at
from .._host.pmem import regions
from .._host.programs import required
from .dax_checks import check_device, check_empty, check_fit, file_system_on
from .dax_mount_options import differences, options_held_against
from .dax_mount_plans import Plan
from .dax_mount_units import no_waiting, with_units
from .dax_proof import proved
from .dax_wish import Wish
from .devices_to_come import device_to_come, is_to_come, namespace_to_come, words_for
from .foreseen import NOTHING, Foreseen
from .mount_point_checks import check_hidden, check_point, check_type, only_mount
from .mount_units import UnitPlan, plan_absence

TYPES = ("ext4", "xfs")


def device_of_namespace(name: str, foreseen: Foreseen = NOTHING) -> str:
    """Path of the block device of the namespace with this name; words in its place for one that tasks before would make.

    :raises Refused: there is no such namespace, or it has none.
    """
    if namespace_to_come(name, foreseen) is not None:
        return words_for(name)
    named = [item for region in regions() for item in region.namespaces if item.name == name]
    if len(named) != 1:
        known = (
            ", ".join(sorted(item.name for region in regions() for item in region.namespaces if item.name)) or "none"
        )
        raise Refused(
            f"There is {'no' if not named else 'more than one'} namespace named {name}.",
            cause=f"Names of namespaces on this host: {known}.",
            cure="Make it first (module pmem_namespace), or name the device.",
        )
    if not named[0].device:
        raise Refused(
            f"The namespace {name} ({named[0].dev}) is disabled.", cure=f"ndctl enable-namespace {named[0].dev}"
        )
    return f"/dev/{named[0].device}"


def plan_mount(wish: Wish, foreseen: Foreseen = NOTHING) -> Plan:
    """Check everything and say what would happen.

    :raises HostmemError: with the reason; nothing was changed.
    """
    _check_wish(wish)
    device = device_to_come(wish.device, foreseen)
    block, make = None, True
    if device is None:
        device = check_device(wish.device, wish.dax)
        block, make = _file_system(wish, device)
    present = _present(wish.point, device)
    attach_it = make or present is None or differences(present, wish) != ""
    plan = Plan(
        point=wish.point,
        wish=wish,
        device=device,
        block=block,
        present=present,
        make=make,
        attach=attach_it,
        detach=attach_it and present is not None,
        directory=_directory_at(wish.point),
        unit=UnitPlan("", None, False, None),
        uuid=_new_uuid(device) if make or block is None else block.uuid,
        options=tuple(options_held_against(present, wish)) if present is not None else (),
    )
    plan = with_units(plan, wish, device)
    if plan.detach:
        _check_unused(plan, "cannot be mounted afresh")
    if plan.attach:
        if not is_to_come(device):
            _check_elsewhere(plan, device)
        check_hidden(wish.point, present)
    elif wish.dax != "never" or present is not None:
        plan = replace(plan, found=proved(wish, wish.point, []))
    _require_programs(plan, device, foreseen)
    if make and not is_to_come(device) and not _given_up(wish, device):
        check_empty(device)  # last, as it can take minutes
    return plan


def _given_up(wish: Wish, device: BlockDevice) -> bool:
    """The data on the device may be lost."""
    return wish.destroy != "" and os.path.realpath(wish.destroy) == device.path


def _new_uuid(device: BlockDevice) -> str:
    """Of the file system that is made; text in its place as long as there is no device to make it of."""
    return "(new)" if is_to_come(device) else uuid_for(device)


def _require_programs(plan: Plan, device: BlockDevice, foreseen: Foreseen) -> None:
    """What the plan runs is installed: an old mount must not go for one that cannot be made.

    :raises HostmemError: it is not; with the package.
    """
    programs = []
    if plan.make and plan.wish is not None:
        programs += [f"mkfs.{plan.wish.type}", "wipefs"]
    if plan.attach:
        programs += ["mount", "umount"] + (["udevadm"] if stable_path(plan.uuid, device) != device.path else [])
    for program in programs:
        if not foreseen.brings(program):
            required(program)


def _check_wish(wish: Wish) -> None:
    check_point(wish.point)
    bad = [option for option in wish.options if option == "dax" or option.startswith("dax=") or option == "ro"]
    if bad:
        raise Refused(
            f"{bad[0]} does not belong in options.",
            cause="dax= has an option of its own, and RAM files are written to.",
            cure="Leave it out.",
        )


def _file_system(wish: Wish, device: BlockDevice) -> tuple[SuperBlock | None, bool]:
    """What is on the device, and whether a file system is made on it."""
    try:
        block = file_system_on(device)
        if block is None:
            return None, True
        if block.type != wish.type:
            raise Refused(
                f"{device.path} holds {block.type}, not {wish.type}, and stays as it is.",
                cure=f"Set fstype to {block.type}; or if the data may be lost, set destroy_data to {wish.device}.",
            )
        if wish.dax != "never":
            check_fit(block, device, wish.options)
    except Refused:
        if _given_up(wish, device):
            return super_block(device.path), True
        raise
    except OSError as error:
        raise refused_by_kernel(f"{device.path} cannot be read.", error) from error
    return block, False


def _present(point: str, device: BlockDevice) -> Mount | None:
    """The mount that is there, when it is one of this device."""
    present = only_mount(point)
    if present is not None and present.device != device.device:
        raise Refused(
            f"{point} is not touched: {present.source} ({present.type}) is mounted there.",
            cause=f"Wanted is {device.path}.",
            cure="Choose another mount point, or unmount it.",
        )
    return present


def _directory_at(point: str) -> Directory | None:
    try:
        return directory_under(point)
    except OSError as error:
        raise refused_by_kernel(f"The directory {point} cannot be looked at.", error) from error


def _check_unused(plan: Plan, problem: str) -> None:
    users = users_of(plan.present) if plan.present else []
    if not users:
        return
    reason = ""
    if plan.wish is not None and plan.present is not None:
        reason = "A file system would be made. " if plan.make else f"{differences(plan.present, plan.wish)} "
    raise Refused(
        f"{plan.point} {problem}: it is in use.",
        cause=f"{reason}Users: {'; '.join(map(str, users[:10]))}.",
        cure="Stop them first, for guests by hostmem stop.",
    )


def _check_elsewhere(plan: Plan, device: BlockDevice) -> None:
    """A second mount of the same file system shares the options of the first, and its super block."""
    users = [text for text in device_users(device.path) if not text.endswith(f" is mounted at {plan.point}")]
    if users:
        raise Refused(
            f"{device.path} cannot be {'made anew' if plan.make else 'mounted'}: it is in use.",
            cause="; ".join(users) + ". A second mount of a file system has the options of the first.",
            cure="Unmount it there, or end what uses it.",
        )


def plan_unmount(point: str) -> Plan:
    """What it takes that nothing of ours is mounted there, now or at boot; the file system on the device stays.

    :raises HostmemError: it is in use, is another kind of mount, or is configured by somebody else.
    """
    present = mount_at(point)
    check_type(present, TYPES)
    unit = plan_absence(point)
    plan = Plan(
        point=point,
        wish=None,
        device=None,
        block=None,
        present=present,
        make=False,
        attach=False,
        detach=present is not None,
        directory=_directory_at(point),
        unit=unit,
        waiting=no_waiting(unit),
    )
    _check_unused(plan, "cannot be unmounted")
    if plan.detach:
        required("umount")  # before the unit goes
    return plan
