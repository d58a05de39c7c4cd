# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Carrying out plans for DAX mounts; what fails half-way is taken back."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace

from .._host.block_devices import BlockDevice, stable_path
from .._host.dax_probe import Probe
from .._host.errors import HostmemError
from .._host.filesystem_tools import make_file_system, wait_for_udev
from .._host.kernel_log import KernelLog
from .._host.mount_points import guard, unguard
from .._host.mounts import Mount, attach, detach, mount_at
from .._host.unit_files import remove_unit
from .dax_checks import cure_for
from .dax_mount_plans import Plan
from .dax_mount_units import apply_units
from .dax_proof import proved
from .dax_wish import Wish
from .mount_units import apply_unit


def apply_mount(plan: Plan) -> Plan:
    """Carry a plan out; the plan again, with what a file was found to be.

    :raises HostmemError: something failed. A mount whose files are not what was asked for is taken back.
    """
    wish, device = plan.wish, plan.device
    if wish is None or device is None:
        _unmount(plan)
        return plan
    if plan.detach:
        detach(plan.point)
    if plan.make:
        make_file_system(device.path, wish.type, plan.uuid, wish.reflink)
    found = plan.found
    if plan.guards:
        os.makedirs(plan.point, mode=0o755, exist_ok=True)
        guard(plan.point)
    if plan.attach:
        try:
            found = _attached(wish, device, plan.uuid)
        except HostmemError:
            _bring_back(plan)
            raise
    apply_units(plan, wish, device)
    return replace(plan, found=found)


def _attached(wish: Wish, device: BlockDevice, file_system_uuid: str) -> Probe:
    source = stable_path(file_system_uuid, device)
    if not wait_for_udev(source):
        source = device.path
    with KernelLog() as log:
        try:
            attach(source, wish.point, wish.type, wish.mount_options)
        except HostmemError as error:
            error.cure = cure_for(error.cause) or error.cure
            raise
        logged = log.lines(os.path.basename(device.path), "dax")
        return proved(wish, wish.point, [line for line in logged if "dax" in line.lower()])


def _bring_back(plan: Plan) -> None:
    """The mount as it was before a fresh one failed, or none, and the directory as it was. The first error says more than these could."""
    with contextlib.suppress(HostmemError, OSError):
        if mount_at(plan.point) is not None:
            detach(plan.point)
        if plan.present is not None and not plan.make:
            present = plan.present
            attach(present.source, plan.point, present.type, (*present.options, *_restorable(present)))
    if plan.guards and plan.present is None:
        with contextlib.suppress(OSError):
            unguard(plan.point, plan.directory.mode if plan.directory else 0o755)
            if plan.directory is None:
                os.rmdir(plan.point)


def _restorable(mount: Mount) -> tuple[str, ...]:
    """Options of the file system that mount(8) takes: xfs shows some that it sets by itself, and takes those, too."""
    return tuple(option for option in mount.super_options if option not in ("rw", "ro", "seclabel"))


def _unmount(plan: Plan) -> None:
    for item in plan.waiting:
        remove_unit(item.name)
    apply_unit(plan.unit, None)
    if plan.detach:
        detach(plan.point)
    if plan.directory_goes:
        unguard(plan.point)
        with contextlib.suppress(OSError):  # not empty
            os.rmdir(plan.point)
