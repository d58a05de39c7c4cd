# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The line on which the two runtimes of a move between hosts agree: JSON messages, one a line, over TLS.

QEMU's own channel cannot do it: when it breaks as the last byte was sent, the source cannot know whether the guest has arrived, and goes on
with it (migration_iteration_finish(), migration/migration.c).
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from .errors import HostmemError
from .move_credentials import Credentials, Peer, peer_of

_LONGEST = 8 << 20  # bytes of a message; what a guest consists of is told in one
# Connections to one port: with one more the oldest is ended. A source that loses its own so dials again.
MOST = 16
_CONNECT = 5.0
_POLL = 0.1
_SAME_RELEASE = "Install the same release of the runtime on both hosts (role hypervisor)."
_LOOK_THERE = "See what hostmem receive says on the other host, then try again."


class LinkLost(HostmemError):
    """The other side does not answer any more; nothing is known of it since."""


class NotTrusted(HostmemError):
    """The other side is not who it should be, or says so of this one."""


class PeerRefused(HostmemError):
    """The other side understood, and answered with an error."""


class PeerLink:
    """One connection. Times in seconds."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.peer: Peer = peer_of(writer.get_extra_info("peercert"))

    async def say(self, message: dict[str, Any]) -> None:
        """:raises LinkLost: it cannot be sent."""
        try:
            self._writer.write(json.dumps(message).encode() + b"\n")
            await asyncio.wait_for(self._writer.drain(), _CONNECT)
        except (OSError, asyncio.TimeoutError) as error:
            raise LinkLost("The other host cannot be told anything.", str(error), _LOOK_THERE) from error

    async def hear(self, deadline: float) -> dict[str, Any]:
        """The next message; ``deadline`` as time.monotonic().

        :raises LinkLost: none came.
        :raises NotTrusted: the other side ended the line for that.
        """
        try:
            line = await asyncio.wait_for(self._reader.readline(), max(deadline - time.monotonic(), 0.0))
            if not line.endswith(b"\n"):
                raise LinkLost(
                    "The other host closed the line.", "Its runtime ended, or speaks TLS and this one not.", _LOOK_THERE
                )
            message = json.loads(line)
        except asyncio.TimeoutError as error:
            raise LinkLost("The other host does not answer.", "Host or network hang.", _LOOK_THERE) from error
        except ssl.SSLError as error:
            raise _not_trusted("The other host", error) from error
        except (OSError, ValueError, RecursionError) as error:
            raise LinkLost("The other host's answer cannot be read.", str(error), _LOOK_THERE) from error
        return message if isinstance(message, dict) else {}

    async def ask(self, message: dict[str, Any], deadline: float) -> dict[str, Any]:
        """The answer to one message, which bears its ``serial``.

        :raises LinkLost: there is none.
        :raises PeerRefused: it is an error.
        """
        await self.say(message)
        answer = await self.hear(deadline)
        if answer.get("serial") != message["serial"]:
            raise LinkLost("The other host answered another question.", "One was not waited for.", _LOOK_THERE)
        error = answer.get("error")
        if isinstance(error, dict):
            raise PeerRefused(*(str(error.get(key, "")) for key in ("message", "cause", "cure", "qemu")))
        return answer

    def drop(self) -> None:
        """End it without waiting for the end."""
        self._writer.close()

    async def close(self) -> None:
        self.drop()
        with suppress(OSError, asyncio.TimeoutError):
            await asyncio.wait_for(self._writer.wait_closed(), 1.0)


async def answer_in_words(
    answer: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]], message: dict[str, Any]
) -> dict[str, Any]:
    """The answer to a message, or the error that came of it in its place."""
    try:
        return await answer(message)
    except HostmemError as error:
        return {"error": error.as_dict()}
    except OSError as error:
        return {"error": {"message": f"{socket.gethostname()} failed at it.", "cause": str(error), "cure": _LOOK_THERE}}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        cause = repr(error)
        return {
            "error": {"message": "The source's message cannot be understood.", "cause": cause, "cure": _SAME_RELEASE}
        }


async def dial(address: str, port: int, credentials: Credentials | None, deadline: float) -> PeerLink:
    """Connect to the destination, again and again until the deadline (time.monotonic()).

    :raises LinkLost: nobody answers there.
    :raises NotTrusted: somebody else does.
    """
    context = credentials.client_context() if credentials else None
    while True:
        try:
            opening = asyncio.open_connection(address, port, ssl=context, limit=_LONGEST)
            return PeerLink(*await asyncio.wait_for(opening, _CONNECT))
        except ssl.SSLError as error:
            raise _not_trusted(f"{address} port {port}", error) from error
        except (OSError, asyncio.TimeoutError) as error:
            if time.monotonic() >= deadline:
                raise LinkLost(
                    f"{address} port {port} cannot be reached.",
                    cause=str(error) or "It does not answer.",
                    cure="Let the destination wait for the guest first: hostmem receive.",
                ) from error
            await asyncio.sleep(_POLL)


def _not_trusted(who: str, error: ssl.SSLError) -> NotTrusted:
    return NotTrusted(
        f"{who} is not trusted, or does not trust this host.",
        cause=str(getattr(error, "verify_message", "") or error.reason or error),
        cure="Give both hosts certificates of the same authority, for the names by which they are reached, or neither (--plain).",
    )


async def listen(
    address: str, port: int, credentials: Credentials | None, serve: Callable[[PeerLink], Awaitable[None]]
) -> asyncio.Server:
    """Let sources connect to this one address.

    :raises HostmemError: the port is taken, or the address is not this host's.
    """

    links: list[PeerLink] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = PeerLink(reader, writer)
        links.append(link)
        if len(links) > MOST:
            links.pop(0).drop()
        try:
            await serve(link)
        except (LinkLost, NotTrusted):
            pass  # it dials again, or does not
        finally:
            if link in links:
                links.remove(link)
            await link.close()

    context = credentials.server_context() if credentials else None
    try:
        return await asyncio.start_server(connected, address, port, ssl=context, limit=_LONGEST)
    except OSError as error:
        raise HostmemError(
            f"This host cannot listen on {address} port {port}.",
            cause=error.strerror or str(error),
            cure="Give an address of this host and a free port.",
        ) from error
