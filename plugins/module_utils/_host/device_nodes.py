# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nodes in /dev: whose they are, and whether a user can open them (stat(2), open(2))."""

from __future__ import annotations

import fcntl
import os
import stat
from dataclasses import dataclass
from typing import Any

from .users import User, group_name, run_as, user_name


@dataclass(frozen=True)
class DeviceNode:
    """``mode`` in octal, without the kind of file."""

    path: str
    owner: str
    group: str
    mode: str

    def as_dict(self) -> dict[str, Any]:
        return {"path": self.path, "present": True, "owner": self.owner, "group": self.group, "mode": self.mode}


def device_node(path: str) -> DeviceNode | None:
    """The node; None when there is none, or it is no character device."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISCHR(found.st_mode):
        return None
    mode = f"{stat.S_IMODE(found.st_mode):04o}"
    return DeviceNode(path, user_name(found.st_uid), group_name(found.st_gid), mode)


def opening_problem(path: str, user: User, request: int | None = None) -> str:
    """Why a user cannot open a node for reading and writing, with its groups and whatever else decides; empty when it can.

    It is really done, as that user.

    :param request: an ioctl(2) without an argument that must work then.
    :raises PermissionError: only root can try that for another user.
    """
    if os.geteuid() not in (0, user.uid):
        raise PermissionError(f"only root or the user {user.name} itself can try that")
    return str(run_as(user, lambda: _problem(path, request)))


def _problem(path: str, request: int | None) -> str:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return error.strerror or str(error)
    try:
        if request is not None:
            fcntl.ioctl(descriptor, request, 0)
    except OSError as error:
        return error.strerror or str(error)
    finally:
        os.close(descriptor)
    return ""
