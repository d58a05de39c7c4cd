# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is refused about a mount point, whatever is to be mounted there."""

from __future__ import annotations

import os
from collections.abc import Sequence

from .._host.errors import Refused
from .._host.mounts import Mount, mount_at, mounts


def check_point(point: str) -> None:
    """The path is one that the kernel and systemd call so, too, and a directory where there is something.

    :raises Refused: it is not.
    """
    real = os.path.realpath(point)
    if point != real:
        raise Refused(
            f"{point} is not the real path of a mount point.",
            cause=f"Symbolic links lead to {real}, which is what the kernel and systemd call it.",
            cure=f"Name {real}.",
        )
    if point == "/" or (os.path.lexists(point) and not os.path.isdir(point)):
        what = "the root of everything" if point == "/" else "no directory"
        raise Refused(f"{point} is {what}.", cure="Choose another mount point.")


def only_mount(point: str) -> Mount | None:
    """What is mounted there.

    :raises Refused: several mounts, of which one hides the others.
    """
    if sum(mount.point == point for mount in mounts()) > 1:
        raise Refused(
            f"{point} is not touched: several mounts lie on each other there.",
            cause="Only the topmost one can be seen.",
            cure=f"Unmount what does not belong there (findmnt {point}).",
        )
    return mount_at(point)


def check_type(present: Mount | None, types: Sequence[str]) -> None:
    """What is mounted is of a type that is ours to mount and unmount.

    :raises Refused: it is not.
    """
    if present is not None and present.type not in types:
        raise Refused(
            f"{present.point} is not touched: {present.type} ({present.source}) is mounted there.",
            cause=f"Only {' and '.join(types)} {'is' if len(types) == 1 else 'are'} mounted and unmounted here.",
            cure="Choose another mount point, or unmount it.",
        )


def check_hidden(point: str, present: Mount | None) -> None:
    """A mount hides what lies in its directory: RAM files that were made while it was missing, for instance.

    :raises Refused: there is something.
    """
    if present is not None or not os.path.isdir(point):
        return
    names = sorted(os.listdir(point))
    if names:
        raise Refused(
            f"{point} is not mounted over: there is something in the directory.",
            cause=f"The mount would hide {', '.join(names[:5])}{' and more' if len(names) > 5 else ''}.",
            cure="Move it away, or choose another mount point.",
        )
