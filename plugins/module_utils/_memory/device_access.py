# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What QEMU's user may open: /dev/kvm and /dev/userfaultfd. It is really opened, as that user; the unit's own limits are told beside it."""

from __future__ import annotations

from typing import Any

from .._host.device_nodes import device_node, opening_problem
from .._host.kvm import DEVICE as KVM
from .._host.kvm import GET_API_VERSION, api_version, nested
from .._host.memory_settings import unprivileged_userfaultfd
from .._host.users import User
from .left_out import LeftOut

USERFAULTFD = "/dev/userfaultfd"


def kvm(user: User | None, unit: dict[str, Any] | None, left_out: LeftOut) -> dict[str, Any]:
    """The device, what it answers, whether QEMU's user can use it, and whether guests may have KVM themselves."""
    found = _access(KVM, user, unit, left_out, "kvm", GET_API_VERSION)
    if found["present"]:
        with left_out.around("kvm"):
            found["api_version"] = api_version()
    return {**found, "nested": nested()}


def userfaultfd(user: User | None, unit: dict[str, Any] | None, left_out: LeftOut) -> dict[str, Any]:
    """The device (Linux 6.1), whether QEMU's user can open it, and whether any process may do without it."""
    found = _access(USERFAULTFD, user, unit, left_out, "userfaultfd")
    return {**found, "unprivileged": unprivileged_userfaultfd()}


def _access(
    path: str,
    user: User | None,
    unit: dict[str, Any] | None,
    left_out: LeftOut,
    subject: str,
    request: int | None = None,
) -> dict[str, Any]:
    node = device_node(path)
    if node is None:
        return {"path": path, "present": False}
    found: dict[str, Any] = {**node.as_dict(), "usable": None}
    if user is not None:
        found["user"] = user.name
        with left_out.around(f"{subject}: whether {user.name} can use it"):
            problem = opening_problem(path, user, request)
            found["usable"] = not problem
            found["problem"] = problem
    found["unit_allows"] = unit_allows(unit, path)
    return found


def unit_allows(unit: dict[str, Any] | None, path: str) -> bool | None:
    """Whether the guests' unit lets its processes open a node for reading and writing (systemd.resource-control(5)); None without a unit."""
    if unit is None:
        return None
    if unit["private_devices"]:
        return False
    if unit["device_policy"] == "auto" and not unit["device_allow"]:
        return True
    return any(item["path"] == path and {"r", "w"} <= set(item["access"]) for item in unit["device_allow"])
