# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who uses a device itself, a block device or a device-DAX one: mounts, swap, device-mapper, and processes by way of /proc."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from .mounts import mounts
from .processes import command_lines, mappings
from .swaps import swaps

# It looks at a device for a moment, whenever somebody has written to it.
_UDEV = ("(udev-worker)", "systemd-udevd")


def device_users(path: str) -> list[str]:
    """Everything that uses the device (a block device's partitions too), in words; empty when it is free.

    :raises OSError: there is no such device.
    """
    found = []
    for node in [path, *(f"/dev/{name}" for name in partitions(path))]:
        state = os.stat(node)
        named = [*_mounted(node, state), *_processes(node, state)]
        if not named and stat.S_ISBLK(state.st_mode) and _claimed(node):
            named = [f"{node} is claimed by the kernel, perhaps by a mount in a container"]
        found += named
    return found


def partitions(path: str) -> list[str]:
    """Names of a block device's partitions, such as ``pmem0p1``."""
    directory = f"/sys/class/block/{os.path.basename(os.path.realpath(path))}"
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return []
    return [name for name in names if os.path.exists(f"{directory}/{name}/partition")]


def _mounted(node: str, state: os.stat_result) -> Iterator[str]:
    if not stat.S_ISBLK(state.st_mode):
        return
    for mount in mounts():
        if mount.device == state.st_rdev:
            yield f"{node} is mounted at {mount.point}"
    for holder in _names(f"/sys/class/block/{os.path.basename(os.path.realpath(node))}/holders"):
        yield f"{node} is part of {holder}"
    if any(os.path.realpath(swap.path) == os.path.realpath(node) for swap in swaps()):
        yield f"{node} is swap space"


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _processes(node: str, state: os.stat_result) -> Iterator[str]:
    """Processes that have the device open or mapped, by whatever node."""
    name = os.path.basename(os.path.realpath(node))
    for pid, words in command_lines():
        if pid == os.getpid() or os.path.basename(words[0]) in _UDEV:
            continue
        if any(_is(f"/proc/{pid}/fd/{entry}", state) for entry in _names(f"/proc/{pid}/fd")):
            yield f"process {pid} ({words[0]}) has {node} open"
        elif any(
            name in item.path and _is(f"/proc/{pid}/map_files/{item.start:x}-{item.end:x}", state)
            for item in mappings(pid)
        ):
            yield f"process {pid} ({words[0]}) maps {node}"


def _is(path: str, state: os.stat_result) -> bool:
    try:
        found = os.stat(path)
    except OSError:
        return False
    return (stat.S_IFMT(found.st_mode), found.st_rdev) == (stat.S_IFMT(state.st_mode), state.st_rdev)


def _claimed(node: str) -> bool:
    """The kernel itself has the block device (O_EXCL, open(2)): also for what this mount namespace does not show."""
    try:
        os.close(os.open(node, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        return error.errno == errno.EBUSY
    return False
