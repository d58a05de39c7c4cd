# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest whose QEMU on the source is gone after the order of its move: the destination's has the whole of it, or nobody has."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from .errors import HostmemError
from .generations import forget_all
from .journal import Journal
from .move_line import ALIVE, CONTINUE, LOST, Line
from .move_mark import mark_left, unmark_leaving
from .paths import GuestPaths
from .running_mark import unmark_running

_ANSWER = 30.0
# Seconds in which the destination's QEMU notices that nobody is at the other end of its channel.
_NOTICE = 15.0
_LOOK = 0.2


class GuestLost(HostmemError):
    """Neither QEMU can go on with the guest."""


def bury(paths: GuestPaths, line: Line, why: str) -> GuestLost:
    """Forget a guest that is lost; QEMU here has ended. The error tells of it."""
    unmark_leaving(paths)
    forget_departed(paths)
    return GuestLost(f"Guest {paths.name} is lost.", f"{line.address}: {why}", "Start it anew.")


def forget_departed(paths: GuestPaths) -> None:
    """Remove what the QEMU of a guest left that is not here any more; unless it is lost, it runs on the other host."""
    forget_all(paths)
    unmark_running(paths)
    mark_left(paths)
    Journal(paths).clear()


async def settle_orphan(paths: GuestPaths, line: Line) -> None:
    """Let the guest run there if it can; else have its QEMU ended there.

    :raises GuestLost: it cannot.
    :raises HostmemError: the destination does not say.
    """
    try:
        answer = await _told(line)
    except HostmemError as error:
        raise HostmemError(
            f"QEMU of guest {paths.name} is gone here, and {line.address} does not say whether it has the whole guest.",
            cause=str(error),
            cure=f"When {line.address} can be reached again, run here: hostmem recover {paths.name}",
        ) from error
    if answer.get("running") is not True and answer.get("ordered") is not True:
        raise bury(paths, line, str(answer.get("lost") or answer.get("given_up") or answer))


async def _told(line: Line) -> dict[str, Any]:
    deadline = time.monotonic() + _NOTICE
    # Empty: QEMU there is silent, which says nothing of what it has.
    while (status := (await line.ask(ALIVE, _ANSWER)).get("status")) in ("postcopy-active", ""):
        if time.monotonic() >= deadline:
            break
        await asyncio.sleep(_LOOK)
    return await line.ask(CONTINUE if status == "completed" else LOST, _ANSWER)
