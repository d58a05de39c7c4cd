# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounts that guests' memory can lie in, as they are now: tmpfs, hugetlbfs, and those with DAX."""

from __future__ import annotations

import os
from typing import Any

from .._host.block_devices import has_dax
from .._host.dax import is_dax_directory
from .._host.mounts import Mount, mount_id, mounts
from .left_out import LeftOut

_IN_MEMORY = ("tmpfs", "hugetlbfs")


def memory_mounts(left_out: LeftOut) -> list[dict[str, Any]]:
    """In the order of the kernel; sizes in bytes."""
    found = []
    for mount in mounts():
        if mount.type in _IN_MEMORY or dax_option(mount) is not None or has_dax(mount.device):
            found.append(_described(mount, left_out))
    return found


def dax_option(mount: Mount) -> str | None:
    """``always``, ``inode`` or ``never``, as the kernel shows it in the end; None when it shows nothing, which is ``inode`` where there is DAX."""
    for option in mount.super_options:
        if option == "dax":
            return "always"
        if option.startswith("dax="):
            return option.partition("=")[2]
    return None


def _described(mount: Mount, left_out: LeftOut) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "point": mount.point,
        "type": mount.type,
        "source": mount.source,
        "root": mount.root,
        "options": list(mount.options),
        "super_options": list(mount.super_options),
        "hidden": None,
    }
    with left_out.around(f"mounts: space of {mount.point}"):
        facts["hidden"] = _hidden(mount)
        facts.update({} if facts["hidden"] else _space(mount))
    return {**facts, **_dax(mount, facts["hidden"], left_out)}


def _hidden(mount: Mount) -> bool:
    """Another mount lies on it, or on a directory above: its path leads elsewhere."""
    try:
        return mount_id(mount.point) != mount.id
    except FileNotFoundError:
        return True


def _space(mount: Mount) -> dict[str, Any]:
    """Without a limit of its own, a mount has no size: then memory or the pool is the limit."""
    state = os.statvfs(mount.point)
    unit = state.f_bsize if mount.type == "hugetlbfs" else state.f_frsize
    limited = bool(state.f_blocks)
    return {
        "page_size": state.f_bsize if mount.type == "hugetlbfs" else os.sysconf("SC_PAGE_SIZE"),
        "size": state.f_blocks * unit if limited else None,
        "free": state.f_bfree * unit if limited else None,
        "available": state.f_bavail * unit if limited else None,
    }


def _dax(mount: Mount, hidden: bool | None, left_out: LeftOut) -> dict[str, Any]:
    """What the mount and its device say of DAX, and whether a new file really has it; nothing for what lies in memory."""
    if mount.type in _IN_MEMORY:
        return {}
    can_try = (
        hidden is False and "rw" in mount.options and "rw" in mount.super_options and os.access(mount.point, os.W_OK)
    )
    facts: dict[str, Any] = {"dax": dax_option(mount), "device_dax": has_dax(mount.device), "file_dax": None}
    if can_try:
        with left_out.around(f"mounts: DAX of files at {mount.point}"):
            facts["file_dax"] = is_dax_directory(mount.point)
    return facts
