# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The QEMU guest agent in a guest, over the channel of the generation that carries it (docs/interop/qemu-ga-ref, QEMU 8.2 to 11.1)."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any

from .errors import CommandRefused, HostmemError, Refused
from .paths import GenerationPaths

# Begins an answer to guest-sync-delimited, so that what an earlier client has left unread is known as such.
_SENTINEL = b"\xff"


class GuestAgent:
    """One connection to an agent that has answered. All deadlines as time.monotonic()."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def execute(self, command: str, deadline: float, **arguments: Any) -> Any:
        """One command.

        :raises CommandRefused: the agent answered with an error.
        :raises HostmemError: it did not answer in time.
        """
        request = {"execute": command, **({"arguments": arguments} if arguments else {})}
        try:
            self._writer.write(json.dumps(request).encode() + b"\n")
            await self._writer.drain()
            answer = json.loads(await _within(self._reader.readline(), deadline))
        except (OSError, EOFError, ValueError, asyncio.TimeoutError) as error:
            raise HostmemError(
                f"The guest agent did not answer {command}.",
                cause=str(error) or type(error).__name__,
                cure="See whether it runs in the guest (systemctl status qemu-guest-agent), and what else the guest is doing.",
            ) from error
        if "error" in answer:
            raise CommandRefused(
                f"The guest agent refused {command}.",
                cause=str(answer["error"].get("desc")),
                cure="See its log in the guest (journalctl -u qemu-guest-agent), and its options (block-rpcs, allow-rpcs).",
            )
        return answer.get("return")

    async def synchronize(self, deadline: float) -> None:
        """Read away what is not meant for this connection.

        :raises asyncio.TimeoutError: nobody answers.
        """
        number = int.from_bytes(os.urandom(4), "big")
        request = {"execute": "guest-sync-delimited", "arguments": {"id": number}}
        self._writer.write(_SENTINEL + json.dumps(request).encode() + b"\n")
        await self._writer.drain()
        while True:
            await _within(self._reader.readuntil(_SENTINEL), deadline)
            answer = json.loads(await _within(self._reader.readline(), deadline))
            if answer.get("return") == number:
                return

    async def close(self) -> None:
        """Leave the channel to others: it serves one client at a time."""
        self._writer.close()


async def connect_agent(paths: GenerationPaths, deadline: float) -> GuestAgent:
    """A connection to the agent of the guest that this generation carries.

    :raises Refused: the guest has no channel, or nobody answers on it by the deadline (time.monotonic()).
    """
    path = f"{paths.directory}/qga.sock"
    if not os.path.exists(path):
        raise Refused(
            "The guest has no channel for a guest agent.",
            cause=f"{path} does not exist.",
            cure="Set guest_agent to true in its definition, restart it, and run qemu-guest-agent in it.",
        )
    agent = None
    try:
        reader, writer = await _within(asyncio.open_unix_connection(path), deadline)
        agent = GuestAgent(reader, writer)
        await agent.synchronize(deadline)
    except (OSError, EOFError, ValueError, asyncio.TimeoutError) as error:
        if agent is not None:
            await agent.close()
        raise Refused(
            "The guest agent does not answer.",
            cause=f"It does not run in the guest, or another client holds {path}, which serves one at a time.",
            cure="See that qemu-guest-agent runs in the guest, and that nobody else is connected to it.",
        ) from error
    return agent


async def _within(awaited: Any, deadline: float) -> Any:
    return await asyncio.wait_for(awaited, max(deadline - time.monotonic(), 0.0))
