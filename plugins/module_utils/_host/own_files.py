# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of ours among others' configuration: they begin with a line that says so, and no other file is ever changed."""

from __future__ import annotations

from .errors import Refused

HEADER = "# Managed by hostmem.qemu"


def read_own(path: str) -> str | None:
    """The text of our file; None when there is no such file.

    :raises Refused: there is a file of that name which is not ours.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
    except FileNotFoundError:
        return None
    if not text.startswith(HEADER):
        raise Refused(
            f"{path} is not changed.",
            cause=f"It does not begin with {HEADER!r}: somebody else made it.",
            cure="Remove it, or leave this to its owner.",
        )
    return text
