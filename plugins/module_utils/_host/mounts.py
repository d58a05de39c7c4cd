# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mounts as the kernel shows them (/proc/self/mountinfo, proc_pid_mountinfo(5)), made and taken away by mount(8) and umount(8)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from .kernel_log import KernelLog
from .program_failures import program_failed
from .programs import required, run

_MOUNTINFO = "/proc/self/mountinfo"


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo. ``options`` are those of the mount, ``super_options`` those of the file system in it.

    ``device`` is what st_dev says of its files (not on btrfs and overlayfs). ``parent`` is the ``id`` of the mount that it lies in or on.
    """

    point: str
    type: str
    source: str
    root: str
    options: tuple[str, ...]
    super_options: tuple[str, ...]
    device: int
    id: int
    parent: int

    @property
    def read_only(self) -> bool:
        """Nothing can be written by way of this mount: it says so itself, or the file system in it does for all its mounts."""
        return "ro" in self.options or "ro" in self.super_options


def mounts(path: str = _MOUNTINFO) -> list[Mount]:
    """All mounts of this mount namespace, in the order of the kernel.

    :param path: the mountinfo of another process.
    """
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return [parse_mount(line) for line in file]


def parse_mount(line: str) -> Mount:
    """A line such as ``36 35 98:0 / /mnt rw,noatime shared:1 - ext4 /dev/root rw,errors=continue``.

    Between the options and the hyphen there are any number of tags. A field can be empty: a source that somebody gave as "".
    """
    fields = line.rstrip("\n").split(" ")
    separator = fields.index("-", 6)
    major, minor = fields[2].split(":")
    return Mount(
        point=unescape(fields[4]),
        type=fields[separator + 1],
        source=unescape(fields[separator + 2]),
        root=unescape(fields[3]),
        options=tuple(unescape(fields[5]).split(",")),
        super_options=tuple(unescape(fields[separator + 3]).split(",")) if len(fields) > separator + 3 else (),
        device=os.makedev(int(major), int(minor)),
        id=int(fields[0]),
        parent=int(fields[1]),
    )


def unescape(text: str) -> str:
    """The text of a field in mountinfo or fstab, where blank, tab, newline, backslash and # are written in octal."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\043", "#"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


def mount_of(path: str) -> Mount | None:
    """The mount that a path leads into now, whatever lies hidden under it; None in a chroot below a mount's root.

    :raises OSError: there is no such path.
    """
    number = mount_id(path)
    return next((mount for mount in mounts() if mount.id == number), None)


def mount_id(path: str) -> int:
    """The ``id`` of the mount that a path leads into now.

    :raises OSError: there is no such path.
    """
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("mnt_id:"))
    finally:
        os.close(descriptor)


def mount_at(point: str) -> Mount | None:
    """The topmost mount exactly at this path; None when nothing is mounted there, or when another mount hides it."""
    try:
        found = mount_of(point)
    except OSError:
        return None
    return found if found and found.point == os.path.realpath(point) else None


def attach(source: str, point: str, kind: str, options: Sequence[str] = ()) -> None:
    """Mount ``source`` at the directory ``point``.

    :param kind: file-system type.
    :raises HostmemError: with mount's own text and what the kernel logged, which is where the reason often is.
    """
    words = [required("mount"), "-t", kind]
    if options:
        words += ["-o", ",".join(options)]
    _run(
        [*words, "--", source, point],
        f"{source} cannot be mounted at {point} as {kind}.",
        (kind, os.path.basename(source)),
    )


def make_writable(mount: Mount) -> None:
    """Remount a mount and the file system in it with ``rw``; its other options stay, and users of it are not disturbed.

    :raises HostmemError: with mount's own text.
    """
    kept = [
        option for option in mount.options if option not in ("ro", "rw")
    ]  # a remount would drop those that are not said again
    # With source and directory, mount(8) adds nothing from fstab.
    words = [required("mount"), "-t", mount.type, "-o", ",".join(["remount", "rw", *kept])]
    _run([*words, "--", mount.source, mount.point], f"{mount.point} cannot be made writable.", (mount.type,))


def detach(point: str) -> None:
    """Unmount the topmost mount at ``point``.

    :raises HostmemError: with umount's own text, for instance while it is in use (see users_of() in mount_users.py).
    """
    _run([required("umount"), "--", point], f"{point} cannot be unmounted.", (point,))


def _run(words: Sequence[str], problem: str, logged: Sequence[str]) -> None:
    with KernelLog() as log:
        done = run(words)
        if not done.returncode:
            return
        said = "\n".join(line for line in done.stderr.split("\n") if "dmesg(1)" not in line)
        lines = log.lines(*logged)
    raise program_failed(problem, os.path.basename(words[0]), said, lines)
