# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Arguments of modules that are not what they must be: what each of them takes."""

from __future__ import annotations

from .._host.errors import Refused

_SIZE = "a number of bytes, or one with a unit of 1024, such as 512M or 4G"
_LIMIT = f"{_SIZE}, or a share such as 50%"
_TAKEN = {
    "count": "a number of pages, 0 or more",
    "surplus": "a number of pages, 0 or more",
    "tries": "a number, 1 or more",
    "page_size": "a size of huge pages that the host has, such as 2M or 1G",
    "reserve": _LIMIT,
    "size": _SIZE,
    "limit": _LIMIT,
    "mode": "an octal number from 0 to 1777, such as 0755",
    "nr_inodes": "a number, 1 or more: the root directory is one",
}


def wrong_argument(name: str, problem: str, kind: str = "", cause: str = "") -> Refused:
    """The error of an argument.

    :param problem: what is wrong with it, without a full stop.
    :param kind: what it is, where its name does not say it.
    """
    return Refused(f"{name}: {problem}.", cause=cause, cure=f"Give {_TAKEN[kind or name]}.")
