# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A move that was cut off together with everything that ran on this host, the journal included: only the mark is left, and the other host."""

from __future__ import annotations

from typing import Any

from .errors import HostmemError
from .move_credentials import find_credentials
from .move_line import GIVE_UP, Line
from .move_mark import Leaving, mark_left, unmark_leaving
from .move_orphan import GuestLost, settle_orphan
from .paths import GuestPaths

_ANSWER = 15.0


async def recover_mark(paths: GuestPaths, move: Leaving) -> str:
    """Ask the other host, and let the guest start here again if it does not run there. No QEMU here carries it.

    :raises HostmemError: the other host does not say.
    """
    line = Line(move.to, move.port, find_credentials(move.tls), move.token)
    try:
        answer = await _given_up(paths, line)
        if isinstance(answer.get("given_up"), str):
            unmark_leaving(paths)
            return f"the guest had not run at {move.to}: it can be started here again"
        await settle_orphan(paths, line)
    except GuestLost as lost:
        return f"the guest is lost: {lost.cause}"
    finally:
        await line.close()
    mark_left(paths)
    return f"the guest goes on at {move.to}"


async def _given_up(paths: GuestPaths, line: Line) -> dict[str, Any]:
    try:
        return await line.ask(GIVE_UP, _ANSWER)
    except HostmemError as error:
        raise HostmemError(
            f"{line.address} does not say what became of the move of guest {paths.name}.",
            cause=str(error),
            cure=f"Let it tell (there, hostmem answer {paths.name} with the same --listen and --port), and run here:"
            f" hostmem recover {paths.name}. If the guest does not exist there: hostmem discard {paths.name}",
        ) from error
