# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Running a function as an unprivileged user, in a child process."""

from __future__ import annotations

import grp
import json
import os
import pwd
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .forked import text_from_child


@dataclass(frozen=True)
class User:
    """A user and the group its files get."""

    name: str
    uid: int
    gid: int
    group: str


def find_user(name: str, group: str) -> User:
    """Look a user and group up.

    :raises KeyError: one of them does not exist.
    """
    return User(name, pwd.getpwnam(name).pw_uid, grp.getgrnam(group).gr_gid, group)


def user_name(uid: int) -> str:
    """The user's name, or the number when there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """The group's name, or the number when there is none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def run_as(user: User, function: Callable[[], Any], meanwhile: Callable[[], None] = lambda: None) -> Any:
    """Call the function in a child process that has become the user for good; its result comes back as JSON.

    Called as that user already, no child is made.

    :param meanwhile: called about each second until then, by this process.
    :raises RuntimeError: the child ended without a result.
    """
    if os.geteuid() != 0 or user.uid == 0:
        return function()

    def work() -> str:
        _become(user)
        return json.dumps(function())

    text, status = text_from_child(work, meanwhile)
    if not text:
        raise RuntimeError(f"the part run as user {user.name} ended without a result (wait status {status})")
    return json.loads(text)


def _become(user: User) -> None:
    os.setgroups(os.getgrouplist(user.name, user.gid))
    os.setgid(user.gid)
    os.setuid(user.uid)
    os.chdir("/")
