# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Control groups: where a controller's hierarchy is mounted, and which groups are in it (Documentation/admin-guide/cgroup-v2.rst and cgroup-v1)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from .mounts import Mount, mounts
from .sysfs import text_in

UNLIMITED = 1 << 62
"""What v1 shows for no limit is not below this: PAGE_COUNTER_MAX in bytes, rounded down to pages of whatever size."""


def hierarchy(controller: str, found: list[Mount] | None = None) -> str | None:
    """Where the controller's groups are mounted; None where it is not to be had."""
    for mount in mounts() if found is None else found:
        if mount.type == "cgroup" and controller in mount.super_options:
            return mount.point
        if mount.type == "cgroup2" and controller in words(f"{mount.point}/cgroup.controllers"):
            return mount.point
    return None


def groups(root: str, prefixes: Sequence[str]) -> list[str]:
    """Directories of the groups whose names begin so, and of every group that they lie in, up to the root.

    :param prefixes: such as ``hostmem-guest@`` and ``machine.slice``.
    """
    found: set[str] = set()
    for directory, names, _files in os.walk(root):
        for name in names:
            above = f"{directory}/{name}"
            while name.startswith(tuple(prefixes)) and above.startswith(root):
                found.add(above)
                above = os.path.dirname(above)
    return sorted(found)


def own_groups(
    controller: str, path: str = "/proc/self/cgroup", found: list[Mount] | None = None
) -> tuple[str, list[str]]:
    """The hierarchy's root, and the directories of this process's group and of every group that it lies in; none without the controller."""
    root = hierarchy(controller, found)
    if root is None:
        return "", []
    names = {}
    with open(path, encoding="ascii", errors="surrogateescape") as file:
        for line in file:
            number, controllers, name = line.rstrip("\n").split(":", 2)
            names.update(dict.fromkeys(controllers.split(","), name) if number != "0" else {"": name})
    return root, group_and_above(root, names.get(controller, names.get("", "/")))


def in_same_groups(pid: int) -> bool:
    """Whether a process is in the groups of this one (proc_pid_cgroup(5)); not when it is gone."""
    try:
        return Path(f"/proc/{pid}/cgroup").read_bytes() == Path("/proc/self/cgroup").read_bytes()
    except OSError:
        return False


def group_and_above(root: str, name: str) -> list[str]:
    """Directories of a group and of every group that it lies in, as far as they are there.

    :param name: the group's path in its hierarchy, such as ``/machine.slice``.
    """
    directory = os.path.normpath(f"{root}/{name}")
    found = []
    while directory.startswith(root):
        found += [directory] if os.path.isdir(directory) else []
        directory = os.path.dirname(directory)
    return found


def group_name(root: str, directory: str) -> str:
    """The group's path in its hierarchy, such as ``/machine.slice``."""
    return "/" + os.path.relpath(directory, root).strip(".")


def limit_in(path: str) -> int | None:
    """The number in a file; None for no limit, and where there is no such file."""
    found = words(path)
    if not found or found[0] == "max" or int(found[0]) >= UNLIMITED:
        return None
    return int(found[0])


def words(path: str) -> list[str]:
    """The words in a file; none where there is no such file."""
    return text_in(path).split()
