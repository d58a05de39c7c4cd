# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""DAX mounts in results: what they are, what was presumed of them, and what is slower than it could be."""

from __future__ import annotations

from typing import Any

from .._host.filesystem_tools import super_block
from .._host.mount_points import directory_under
from .._host.mounts import mount_at
from .dax_checks import warnings_about
from .dax_mount_plans import Plan
from .devices_to_come import is_to_come
from .foreseen import Foreseen


def described(plan: Plan, check: bool) -> dict[str, Any]:
    """The mount for a result: as it is, or would be."""
    wish, device, found = plan.wish, plan.device, plan.found
    if wish is None or device is None:
        return {"path": plan.point, "state": "absent"}
    to_come = is_to_come(device)
    block = None if plan.make and check else super_block(device.path)
    mount = mount_at(plan.point)
    under = None if check else directory_under(plan.point)
    return {
        "path": plan.point,
        "state": "mounted",
        "device": None if to_come else device.path,
        "namespace": device.namespace or None,
        "align": device.align,
        "fstype": wish.type,
        "uuid": None if to_come else plan.uuid,
        "block_size": block.block_size if block else None,
        "dax": wish.dax,
        "options": None if mount is None else [*mount.options, *mount.super_options],
        "dax_files": found.dax if found else None,
        "map_sync": found.map_sync if found else None,
        "huge_page_share": found.huge_by_itself if found else None,
        "huge_page_share_aligned": found.huge_when_aligned if found else None,
        "guard": ("mode" if under.immutable is None else "immutable") if under and under.guarded else None,
        "unit": plan.unit.name if plan.unit.after is not None else None,
        "configured_by": plan.unit.provided_by or None,
    }


def presumptions(plan: Plan, foreseen: Foreseen) -> list[str]:
    """What was presumed for a plan, in sentences."""
    device, wish = plan.device, plan.wish
    found = []
    if wish is not None and device is not None and is_to_come(device):
        found.append(
            f"Presuming that there is the {device.path} by then, and that it is empty: its device and the UUID of its file system are not"
            " known yet."
        )
    if wish is not None and plan.make and foreseen.brings(f"mkfs.{wish.type}"):
        found.append(f"Presuming that mkfs.{wish.type} is installed by then.")
    return found


def warnings(plan: Plan) -> list[str]:
    """What is slower than it could be, in sentences."""
    if plan.found is None or not plan.found.dax:
        return []
    return warnings_about(plan.found.huge_by_itself, plan.found.huge_when_aligned)
