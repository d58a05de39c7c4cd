# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""RAM files and their directories as they are, and as they have to be. Looks only, changes nothing."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import Any

from .._host.processes import processes_mapping_file
from .._host.users import User, group_name, user_name
from .errors import Refused


@dataclass(frozen=True)
class Access:
    """Permission bits and owner of a file or directory."""

    mode: int
    uid: int
    gid: int

    def as_dict(self) -> dict[str, Any]:
        """As Ansible's file module names them."""
        return {"mode": f"{self.mode:04o}", "owner": user_name(self.uid), "group": group_name(self.gid)}


@dataclass(frozen=True)
class FileState:
    """A RAM file; sizes in bytes, ``allocated`` is what it really occupies. ``access`` is None for a missing file."""

    access: Access | None = None
    size: int = 0
    allocated: int = 0
    device: int = 0
    inode: int = 0
    mapped_by: tuple[int, ...] = ()

    @property
    def exists(self) -> bool:
        return self.access is not None

    def as_dict(self) -> dict[str, Any]:
        """For --diff: what a user recognises."""
        if self.access is None:
            return {"state": "absent"}
        return {"state": "file", "size": self.size, **self.access.as_dict()}


def file_access(user: User) -> Access:
    """Whose RAM files are, and who may read them: QEMU's user alone."""
    return Access(0o600, user.uid, user.gid)


def directory_access(user: User) -> Access:
    """The same for the directory they are in."""
    return Access(0o700, user.uid, user.gid)


def access_of(found: os.stat_result) -> Access:
    """What stat(2) says."""
    return Access(stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)


def file_state(path: str) -> FileState:
    """Look at a RAM file.

    :raises Refused: there is something else than a plain file of one name.
    """
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return FileState()
    cure = "Remove it, or choose another directory."
    if not stat.S_ISREG(found.st_mode):
        raise Refused(f"{path} is not a plain file.", cause="A RAM file may be neither a link nor a device.", cure=cure)
    if found.st_nlink > 1:
        raise Refused(
            f"{path} has {found.st_nlink} names.", cause="A RAM file must not be reached by another name.", cure=cure
        )
    return FileState(
        access=access_of(found),
        size=found.st_size,
        allocated=found.st_blocks * 512,
        device=found.st_dev,
        inode=found.st_ino,
        mapped_by=tuple(processes_mapping_file(path)),
    )


def directory_state(path: str) -> Access | None:
    """Look at a directory of RAM files; None when there is nothing.

    :raises Refused: there is something else.
    """
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISDIR(found.st_mode):
        raise Refused(f"{path} is not a directory.", cure="Remove it, or choose another directory.")
    return access_of(found)
