# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Telling a source what became of its move to this host, when the verb that waited for the guest has long ended."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from .config import Config
from .errors import HostmemError, Refused
from .locks import VerbLock
from .move_credentials import Peer, find_credentials, refuse_names_in_clear, refuse_stranger
from .move_mark import unmark_coming
from .move_outcomes import BEGUN, GIVEN_UP, Outcomes, told
from .paths import GuestPaths, guest_paths
from .peer_link import LinkLost, PeerLink, answer_in_words, listen
from .recovery import settled

VERB_WAIT = 60.0


@dataclass(frozen=True)
class AnswerOptions:
    """Where the source asks, and for how many seconds it is waited for; ``plain``: in clear, without TLS; ``expected``: a name in its
    certificate, empty for any."""

    address: str
    port: int
    plain: bool = False
    timeout: float = 120.0
    expected: str = ""


async def answer(config: Config, name: str, options: AnswerOptions) -> dict[str, Any]:
    """Listen until one source has been told. A move of its that had not been ordered is given up by that.

    :raises HostmemError: nobody asked.
    """
    paths = guest_paths(config, name)
    refuse_names_in_clear(options.plain, options.expected)
    async with VerbLock(paths, VERB_WAIT):
        desk = _Desk(paths, bool(await settled(paths)), options.expected)
        credentials = find_credentials("" if options.plain else config.tls)
        server = await listen(options.address, options.port, credentials, desk.serve)
        try:
            await asyncio.wait_for(desk.over.wait(), options.timeout)
        except asyncio.TimeoutError:
            raise HostmemError(
                f"Nobody asked for a move of guest {name} within {options.timeout:.0f} s.",
                cause="The other host did not come, or asks at another address or port.",
                cure=f"Run there meanwhile: hostmem recover {name}",
            ) from None
        finally:
            server.close()
    return {"changed": desk.changed, "told": desk.told}


class _Desk:
    """Answers by what is kept, while the verb lock keeps it as it is; ``over`` once somebody was told, and has hung up."""

    def __init__(self, paths: GuestPaths, carried: bool, expected: str) -> None:
        """:param carried: by a QEMU here, whichever way that came to be.
        :param expected: a name of who may ask, empty for anybody.
        """
        self._expected = expected
        self._carried = carried
        self._paths = paths
        self._name = paths.name
        self._outcomes = Outcomes(paths)
        self.over = asyncio.Event()
        self.changed = False
        self.told: dict[str, str] = {}

    async def serve(self, link: PeerLink) -> None:
        """One connection."""
        try:
            while True:
                message = await link.hear(time.monotonic() + VERB_WAIT)
                said = await answer_in_words(lambda asked: self._answer(link.peer, asked), message)
                await link.say({**said, "serial": message.get("serial")})
        except LinkLost:
            if self.told:
                self.over.set()
            raise

    async def _answer(self, peer: Peer, message: dict[str, Any]) -> dict[str, Any]:
        word, token = str(message.get("word", "")), str(message.get("token", ""))
        refuse_stranger(self._name, self._expected, peer)
        before = self._outcomes.of(token)
        if self._carried and before is not None and before.state in (BEGUN, GIVEN_UP):
            raise Refused(
                f"Guest {self._name} runs here, and not by this move: it is not given up.",
                cause="It was started here since, although it was the other host's.",
                cure=f"Look on both hosts which one is to go on, and stop the other: hostmem stop {self._name}",
            )
        answer = told(self._outcomes, self._name, word, token)
        if "given_up" in answer:
            unmark_coming(self._paths, token)
        after = self._outcomes.of(token)
        self.changed = self.changed or before != after
        if after is not None or self._expected:  # anybody can make a token up
            self.told[token] = after.state if after else GIVEN_UP
        return answer
