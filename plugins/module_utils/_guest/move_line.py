# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The source's end of the line to the destination's runtime. What is asked can be asked twice: a line that broke is dialled again."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from .errors import HostmemError
from .move_credentials import Credentials
from .peer_link import LinkLost, PeerLink, PeerRefused, dial

_POLL = 0.1

# What the source asks, and the order that it gives once.
TERMS, BEGIN, ALIVE, CONTINUE, FINISH, GIVE_UP = "terms", "begin", "alive", "continue", "finish", "give-up"
REJOIN, LOST = "rejoin", "lost"


class Line:
    """To the destination of one move, which ``token`` tells from others. Times in seconds."""

    def __init__(self, address: str, port: int, credentials: Credentials | None, token: str) -> None:
        self.address = address
        self.port = port
        self._credentials = credentials
        self.token = token
        self._link: PeerLink | None = None
        self._turn = asyncio.Lock()
        self._asked = 0

    async def ask(self, word: str, within: float, **facts: Any) -> dict[str, Any]:
        """The answer to one question.

        :raises LinkLost: there is none.
        :raises PeerRefused: it is an error.
        """
        self._asked += 1
        message = {"word": word, "token": self.token, "serial": self._asked, **facts}
        deadline = time.monotonic() + within
        async with self._turn:
            while True:
                try:
                    if self._link is None:
                        self._link = await dial(self.address, self.port, self._credentials, deadline)
                    return await self._link.ask(message, min(deadline, time.monotonic() + max(within / 2, 1.0)))
                except LinkLost:
                    await self._hang_up()
                    if time.monotonic() >= deadline:
                        raise
                    await asyncio.sleep(_POLL)
                except PeerRefused:
                    raise
                except BaseException:  # its answer may still come: nobody else shall take it for his
                    self._drop()
                    raise

    async def close(self) -> None:
        """Hang up."""
        async with self._turn:
            await self._hang_up()

    async def _hang_up(self) -> None:
        if self._link is not None:
            await self._link.close()
            self._link = None

    def _drop(self) -> None:
        if self._link is not None:
            self._link.drop()
            self._link = None


def in_doubt(name: str, line: Line, error: HostmemError) -> HostmemError:
    """The guest was ordered to run on the destination, and nobody says whether it does."""
    return HostmemError(
        f"Guest {name} was told to go on at {line.address}, which has not answered: it stands still here until that is known.",
        cause=str(error),
        cure=f"Let {line.address} tell what became of it (there, hostmem answer {name} with the same --listen and --port), and run here:"
        f" hostmem recover {name}",
    )
