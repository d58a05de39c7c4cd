# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A mark that a guest goes, or went, to another host. It outlives this one: a start here, after a power cut, could be a second guest."""

from __future__ import annotations

import json
import os
import time

from .._host.durable import remove_durably, sync_directory, sync_file
from .._host.files import read_plain, write_json
from .errors import Refused
from .paths import GuestPaths


def mark_leaving(paths: GuestPaths, to: str, token: str) -> None:
    """Before a move begins; at its end there is no time for it.

    :raises OSError: there is no space.
    """
    write_json(paths.moved_mark, {"to": to, "token": token, "at": time.time()})
    sync_file(paths.moved_mark)
    sync_directory(paths.state)


def unmark_leaving(paths: GuestPaths) -> None:
    """The guest stays, has come back, or is given up."""
    remove_durably(paths.moved_mark)


def has_left(paths: GuestPaths) -> bool:
    """Whether the guest runs on another host, or may."""
    return os.path.lexists(paths.moved_mark)


def refuse_moved(paths: GuestPaths) -> None:
    """:raises Refused: the guest went to another host."""
    if not has_left(paths):
        return
    try:
        kept = json.loads(read_plain(paths.moved_mark))
        to = str(kept["to"])
    except (OSError, ValueError, KeyError, TypeError):
        to = "another host"
    raise Refused(
        f"Guest {paths.name} was moved to {to}.",
        cause="If it runs there, a start here would make it run twice.",
        cure=f"Start it there, or move it back. If it does not exist there any more: hostmem discard {paths.name}",
    )
