# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who uses a mounted file system: processes by way of /proc, and what the kernel itself uses."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass

from .mounts import Mount, mounts
from .processes import processes_mapping_files_of
from .swaps import swaps


@dataclass(frozen=True)
class MountUser:
    """``how``: ``maps FILE``, ``open FILE``, ``working directory``, ``root directory``, ``nested mount``, ``swap`` or ``loop device``.

    The last three have PID 0, and the place in ``command``.
    """

    pid: int
    command: str
    how: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command}): {self.how}" if self.pid else f"{self.how}: {self.command}"


def users_of(mount: Mount) -> list[MountUser]:
    """Everything that uses the file system, by whatever mount of it: processes in containers have others than we.

    Processes are seen as far as /proc shows them: as root, all.
    """
    found = list(dict.fromkeys(_processes(mount.device)))
    found += [MountUser(0, item.point, "nested mount") for item in mounts() if item.parent == mount.id]
    files = [swap.path for swap in swaps() if swap.kind == "file"]
    found += [MountUser(0, path, "swap") for path in files if _lies_on(path, mount.device)]
    found += [MountUser(0, name, "loop device") for name, path in _loop_devices() if _lies_on(path, mount.device)]
    return found


def _processes(device: int) -> Iterator[MountUser]:
    for pid, path in processes_mapping_files_of(device):
        yield MountUser(pid, _command(pid), f"maps {path}")
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            for how in _held(int(entry), device):
                yield MountUser(int(entry), _command(int(entry)), how)


def _held(pid: int, device: int) -> Iterator[str]:
    """What a process has of the file system apart from mappings; nothing when it is gone or not ours to look at."""
    base = f"/proc/{pid}"
    for name, how in (("cwd", "working directory"), ("root", "root directory")):
        if _lies_on(f"{base}/{name}", device):
            yield how
    try:
        descriptors = os.listdir(f"{base}/fd")
    except OSError:
        return
    for descriptor in descriptors:
        if _lies_on(f"{base}/fd/{descriptor}", device):
            yield f"open {_link(f'{base}/fd/{descriptor}')}"


def _lies_on(path: str, device: int) -> bool:
    try:
        return os.stat(path).st_dev == device
    except OSError:
        return False


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return "?"


def _command(pid: int) -> str:
    """The command line, cut, or the name of a process that shows none."""
    for name in ("cmdline", "comm"):
        try:
            with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as file:
                text = file.read().replace("\0", " ").strip()
        except OSError:
            return "?"
        if text:
            return text if len(text) <= 120 else text[:117] + "..."
    return "?"


def _loop_devices() -> Iterator[tuple[str, str]]:
    """Loop devices and the files behind them."""
    for place in glob.glob("/sys/block/loop*/loop/backing_file"):
        try:
            with open(place, encoding="utf-8", errors="surrogateescape") as file:
                yield f"/dev/{place.split('/')[3]}", file.read().rstrip("\n")
        except OSError:
            continue
