# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Talking to one QEMU: qemu.qmp with deadlines, and errors worded for people."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

from .errors import CommandRefused, HostmemError

try:
    from qemu.qmp import EventListener, ExecuteError, Message, QMPClient, QMPError

    QMP_IMPORT_ERROR: ImportError | None = None
except ImportError as error:  # on a controller only the pure part of the engine is used
    QMP_IMPORT_ERROR = error

COMMAND_TIMEOUT = 10.0
_GONE = "See why it ended: its own log in the guest's directory (/var/log/hostmem), and the kernel's (dmesg)."

_Wanted = TypeVar("_Wanted")


class Qmp:
    """One QMP connection. All times in seconds.

    Events are kept from the moment of connecting, so that waiting for one that has already come returns at once.
    """

    def __init__(self, path: str) -> None:
        if QMP_IMPORT_ERROR is not None:
            raise HostmemError(
                "The Python package qemu.qmp is missing.",
                cause=str(QMP_IMPORT_ERROR),
                cure="Run the role hostmem.qemu.hypervisor again.",
            )
        self.path = path
        self._client = QMPClient(os.path.basename(os.path.dirname(path)))
        self._events = EventListener()
        self._client.register_listener(self._events)
        self._seen: list[Message] = []
        self._unanswered: set[asyncio.Task[object]] = set()

    async def connect(self) -> None:
        """:raises HostmemError: nobody answers."""
        try:
            await asyncio.wait_for(self._client.connect(self.path), COMMAND_TIMEOUT)
        except asyncio.TimeoutError as error:
            raise HostmemError(
                f"QEMU does not answer on {self.path}.",
                cause="It hangs, or another client holds its QMP socket, which serves one at a time.",
                cure="Close the other client (lsof, ss -xp).",
            ) from error
        except (QMPError, OSError) as error:
            raise HostmemError(
                f"QEMU does not answer on {self.path}.", cause=str(error) or type(error).__name__, cure=_GONE
            ) from error

    async def close(self) -> None:
        """Close the connection; errors while closing mean that QEMU has gone, which is no matter."""
        with contextlib.suppress(QMPError, OSError, EOFError, asyncio.TimeoutError):
            await asyncio.wait_for(self._client.disconnect(), 2)

    async def execute(self, command: str, **arguments: Any) -> Any:
        """One command (underscores of argument names become dashes).

        :raises HostmemError: QEMU refused it, or did not answer in time.
        """
        return await self.send(command, {key.replace("_", "-"): value for key, value in arguments.items()})

    async def send(self, command: str, arguments: dict[str, Any]) -> Any:
        """One command, its arguments spelt as QEMU does (some of old have underscores).

        :raises HostmemError: QEMU refused it, or did not answer in time.
        """
        return await self._answer(command, arguments, oob=False)

    async def execute_at_once(self, command: str, **arguments: Any) -> Any:
        """The same out of band: also when QEMU's main loop hangs, in what a broken network left to it (docs/interop/qmp-spec.rst).

        :raises HostmemError: QEMU refused it, or did not answer in time.
        """
        return await self._answer(command, arguments, oob=True)

    async def _answer(self, command: str, arguments: dict[str, Any], oob: bool) -> Any:
        try:
            asking = (
                self._client.execute(command, arguments or None, True) if oob else self._ask_in_turn(command, arguments)
            )
            return await asyncio.wait_for(asking, COMMAND_TIMEOUT)
        except ExecuteError as error:
            raise CommandRefused(f"QEMU refused {command}.", cause=str(error)) from error
        except asyncio.TimeoutError as error:
            raise HostmemError(
                f"QEMU did not answer {command} within {COMMAND_TIMEOUT:.0f} s.",
                cause="Its main loop is busy or hangs, mostly in input or output.",
                cure="See whether the guest's disks answer and what the kernel says (dmesg), then try again.",
            ) from error
        except (QMPError, OSError, EOFError) as error:
            raise HostmemError(
                f"QEMU went away during {command}.", cause=str(error) or type(error).__name__, cure=_GONE
            ) from error

    async def _ask_in_turn(self, command: str, arguments: dict[str, Any]) -> Any:
        """QEMU takes eight commands that its main loop has not come to, and then reads no others, out of band neither
        (QMP_REQ_QUEUE_LEN_MAX, monitor/qmp.c, QEMU 8.2 to 11.1): one that got no answer in time is waited for before the next is sent."""
        while self._unanswered:
            await asyncio.wait(self._unanswered)
        asking = asyncio.ensure_future(self._client.execute(command, arguments or None))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            if not asking.done():
                self._unanswered.add(asking)
                asking.add_done_callback(self._forget_unanswered)
            raise

    def _forget_unanswered(self, asking: asyncio.Task[object]) -> None:
        self._unanswered.discard(asking)
        if not asking.cancelled():
            asking.exception()  # nobody waits for it any more

    async def wait_event(self, wanted: Callable[[dict[str, Any]], _Wanted], deadline: float) -> _Wanted | None:
        """Wait for an event that came since connecting; ``deadline`` as time.monotonic().

        Returns what ``wanted`` made of the first event that it wanted (anything true), or None when none came in time.
        """
        for message in self._seen:
            if found := wanted(dict(message)):
                return found
        return await self.next_event(wanted, deadline)

    async def next_event(self, wanted: Callable[[dict[str, Any]], _Wanted], deadline: float) -> _Wanted | None:
        """The same of events that nobody has waited for yet."""
        while True:
            remaining = deadline - time.monotonic()
            try:
                message = await asyncio.wait_for(self._events.get(), max(remaining, 0.0))
            except asyncio.TimeoutError:
                return None
            self._seen.append(message)
            if found := wanted(dict(message)):
                return found

    def event_time(self, name: str) -> float | None:
        """When an event that was waited for, or came meanwhile, was sent: seconds since the epoch, by the host's clock."""
        for message in self._seen:
            if message.get("event") == name:
                stamp: Any = message["timestamp"]
                return float(stamp["seconds"]) + float(stamp["microseconds"]) / 1e6
        return None

    async def status(self) -> str:
        """Run state: running, paused, inmigrate, postmigrate, …"""
        return str((await self.execute("query-status"))["status"])

    async def migration(self) -> dict[str, Any]:
        """query-migrate; empty before the first migration."""
        return dict(await self.execute("query-migrate"))


async def connect(path: str) -> Qmp:
    """A connection to a QEMU that listens already.

    :raises HostmemError: nobody answers.
    """
    qmp = Qmp(path)
    await qmp.connect()
    return qmp


def is_migration_over(event: dict[str, Any]) -> str:
    """For wait_event: how a migration ended, completed, failed or cancelled (capability ``events``); empty for other events."""
    status = str(event.get("data", {}).get("status")) if event.get("event") == "MIGRATION" else ""
    return status if status in ("completed", "failed", "cancelled") else ""
