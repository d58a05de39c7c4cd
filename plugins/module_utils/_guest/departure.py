# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The end of a move, on the source: the order that the guest runs there, and the way back here; for the verb and for a recovery alike.

The source decides. QEMU here must have said that it cannot go on with the guest by itself (postmigrate, or in post-copy) before the order
is written down, and the order must be written down before it is given.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from .._host.journald import log_record
from .errors import CommandRefused, HostmemError
from .generations import Generation, make_current
from .handover import cancel, end
from .journal import ORDERED, Journal
from .move_channel import in_postcopy, inet, take_down
from .move_line import ALIVE, CONTINUE, FINISH, GIVE_UP, REJOIN, Line, in_doubt
from .move_mark import unmark_leaving
from .move_orphan import GuestLost, bury, forget_departed, settle_orphan
from .move_terms import PRECOPY
from .paths import GuestPaths
from .qmp import Qmp, is_migration_over
from .recovery_checkpoint import dismiss

# Seconds in which the destination answers the order, or is asked later.
ORDER_TIMEOUT = 30.0
# Seconds in which a channel that broke can be made anew.
REJOIN_TIMEOUT = 300.0
# Seconds in which QEMU here can have the images back: a destination that hears nothing ends its own after SILENCE (arrival.py).
RESUME_TIMEOUT = 90.0
# Seconds without a page, while there are some to send: a network that says nothing is as good as cut.
STALL = 10.0
_REJOIN_ANSWER = 15.0
_JOIN_TIMEOUT = 10.0
_LONGEST_WAIT = 5.0
_GOOD_BYE = 5.0
_AGAIN = "See what hostmem receive says on the destination, then move the guest again."
_FINISH_TIMEOUT = 15.0
_REST_TIMEOUT = 10.0
_POLL = 0.002
_SLOW_POLL = 0.1
_END = 1.0


@dataclass
class Progress:
    """What a recovery has to know, kept in the journal. ``tls`` is the directory of the certificates, empty for a move in clear;
    ``parameters`` are those of QEMU's that are put back when the guest stays."""

    generation: int
    token: str
    to: str
    port: int
    tls: str
    method: str
    was_running: bool
    max_pause: float
    parameters: dict[str, Any]


class Flow:
    """Whether pages still go over the channel. Times in seconds."""

    def __init__(self) -> None:
        self._since = self._second = time.monotonic()
        self._seen: Any = None

    def stands(self, migration: dict[str, Any]) -> bool:
        """Whether none did for long; ``migration`` is query-migrate's answer."""
        ram = migration.get("ram", {})
        seen = ram.get("transferred"), ram.get("postcopy-requests"), migration.get("status")
        now = time.monotonic()
        if seen != self._seen:
            self._seen, self._since = seen, now
        return now - self._since > STALL

    def second(self) -> bool:
        """True once a second."""
        now = time.monotonic()
        if now - self._second < 1.0:
            return False
        self._second = now
        return True


class Departure:
    """One guest in one QEMU on its way to another host."""

    def __init__(self, paths: GuestPaths, generation: Generation, qmp: Qmp, line: Line, progress: Progress) -> None:
        self.paths = paths
        self.generation = generation
        self.qmp = qmp
        self.line = line
        self.progress = progress
        self.journal = Journal(paths)

    def write(self, step: str, **seen: Any) -> None:
        """A step of the journal; ``seen`` is for whoever looks on."""
        self.journal.write(step, **self.progress.__dict__, **seen)

    async def rest(self) -> None:
        """Wait until QEMU, which has given everything away, has come to rest: from then on it runs the guest only when told to.

        :raises HostmemError: it goes on with it.
        """
        deadline = time.monotonic() + _REST_TIMEOUT
        while True:
            migration = await self.qmp.migration()
            if str(migration.get("status")) in ("postcopy-active", "postcopy-paused"):
                return
            status = await self.qmp.status()
            if migration.get("status") == "completed" and status == "postmigrate":
                return
            if migration.get("status") in ("failed", "cancelled") or time.monotonic() >= deadline:
                reason = migration.get("error-desc") or f"it is {migration.get('status')}, and the guest {status}"
                raise HostmemError("The migration failed at its end.", str(reason), _AGAIN)
            await asyncio.sleep(_POLL)

    async def order(self) -> None:
        """Have the guest run on the destination. QEMU has come to ``rest``.

        :raises GuestLost: it did not run there, and cannot go back.
        :raises HostmemError: it did not run there, and goes on here; or that is not known.
        """
        answer = await self._give_order()
        if answer.get("running") is True or answer.get("ordered") is True:
            return
        await self._bury_lost(answer)
        why = answer.get("given_up")
        if not isinstance(why, str):
            raise in_doubt(
                self.paths.name, self.line, HostmemError("Its answer is none to the order.", str(answer), _AGAIN)
            )
        if await in_postcopy(self.qmp):
            await self._bury_lost({"lost": f"Post-copy had begun. {why}"})
        await self.go_back()
        raise HostmemError(
            f"Guest {self.paths.name} was not moved: it goes on here.", f"{self.line.address}: {why}", _AGAIN
        )

    async def _give_order(self) -> dict[str, Any]:
        """The answer to it; in post-copy QEMU there may need the channel before it can carry it out."""
        deadline = time.monotonic() + ORDER_TIMEOUT
        while True:
            self.write(ORDERED)
            try:
                answer = await self.line.ask(CONTINUE, ORDER_TIMEOUT)
            except HostmemError as error:
                raise in_doubt(self.paths.name, self.line, error) from error
            if not isinstance(answer.get("waits"), str):
                return answer
            migration = await self.qmp.migration()
            if migration.get("status") == "postcopy-paused":
                await self._rejoin(str(migration.get("error-desc", "")))
            elif time.monotonic() >= deadline:
                raise in_doubt(self.paths.name, self.line, HostmemError("It has not come.", answer["waits"], _AGAIN))
            await asyncio.sleep(_SLOW_POLL)

    async def _bury_lost(self, answer: dict[str, Any]) -> None:
        """End the QEMU here when the guest ran at the destination, or may have, and is no more.

        :raises GuestLost: so it is.
        :raises HostmemError: it goes on here.
        """
        why = answer.get("lost")
        if not isinstance(why, str):
            return
        if self.progress.method == PRECOPY and await self.qmp.status() == "running":
            # Told so since the destination gave it up; which could not be kept there, or got lost (a failing disk).
            await self._stay()
            raise HostmemError(
                f"Guest {self.paths.name} was not moved: it goes on here.", f"{self.line.address}: {why}", _AGAIN
            )
        await dismiss(self.generation, self.qmp)
        raise bury(self.paths, self.line, why)

    async def finish(self) -> None:
        """The guest runs there: once everything is there, the QEMU here is ended.

        :raises GuestLost: a part of its memory was here, and is no more; or the QEMU there is gone.
        :raises HostmemError: a part of its memory is still here.
        """
        await self._all_sent()
        self.write(ORDERED, sent=True)
        answer: dict[str, Any] = {}
        with suppress(HostmemError):  # then it finishes alone
            answer = await self.line.ask(FINISH, _FINISH_TIMEOUT)
        await self._bury_lost(answer)
        await self.leave()

    async def leave(self) -> None:
        """End the QEMU here, which is not needed any more.

        :raises HostmemError: it cannot be ended.
        """
        await dismiss(self.generation, self.qmp)
        forget_departed(self.paths)
        log_record(
            f"Guest {self.paths.name} moved to {self.line.address}",
            guest=self.paths.name,
            generation=self.generation.number,
            event="departure",
        )

    async def _all_sent(self) -> None:
        try:
            await self._last_page()
        except GuestLost:
            raise
        except HostmemError:
            if not self.generation.alive.wait_gone(_END):
                raise
            await settle_orphan(self.paths, self.line)

    async def _last_page(self) -> None:
        """Post-copy: until the last page is there. A channel that breaks is made anew."""
        flow = Flow()
        while (migration := await self.qmp.migration()).get("status") != "completed":
            status = str(migration.get("status"))
            if status in ("failed", "cancelled"):  # it goes on with the guest by itself, which runs there
                await end(self.generation.alive)
                raise HostmemError("Post-copy failed at its end.", str(migration.get("error-desc", "")), _AGAIN)
            if status == "postcopy-paused":
                await self._rejoin(str(migration.get("error-desc", "")))
                flow = Flow()
            elif flow.stands(migration) and migration.get("ram", {}).get("remaining"):
                with suppress(CommandRefused):  # it pauses in this moment
                    await self.qmp.execute_at_once("migrate-pause")
            if flow.second():
                self.write(ORDERED, seen=migration.get("ram", {}))
                await self._bury_lost(await self._ask_alive())
            await self.qmp.next_event(is_migration_over, time.monotonic() + _SLOW_POLL)

    async def _ask_alive(self) -> dict[str, Any]:
        with suppress(HostmemError):
            return await self.line.ask(ALIVE, 1.0)
        return {}

    async def _rejoin(self, why: str) -> None:
        """Lead both QEMUs together again, as often as it takes.

        :raises HostmemError: it took too long; both wait for each other, and the guest for a part of its memory.
        """
        log_record(
            f"Post-copy of guest {self.paths.name} paused: {why}",
            4,
            guest=self.paths.name,
            generation=self.generation.number,
            event="postcopy-paused",
        )
        deadline, wait = time.monotonic() + REJOIN_TIMEOUT, 0.1
        while True:
            self.write(ORDERED)
            try:
                answer = await self.line.ask(REJOIN, _REJOIN_ANSWER)
                if isinstance(answer.get("given_up"), str):
                    answer = {"lost": f"Post-copy had begun. {answer['given_up']}"}
                await self._bury_lost(answer)
                channels = inet(self.line.address, _port(answer))
                await self.qmp.send("migrate", {"channels": channels, "resume": True})
                if await self._joined():
                    return
            except GuestLost:
                raise
            except HostmemError as error:
                why = str(error)
            if time.monotonic() >= deadline:
                raise HostmemError(
                    f"Guest {self.paths.name} runs at {self.line.address}, but a part of its memory is still here.",
                    cause=why or "The two QEMUs do not find together again.",
                    cure=f"Leave both QEMUs alone, mend the network, and run on both hosts: hostmem recover {self.paths.name}",
                )
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)

    async def _joined(self) -> bool:
        deadline = time.monotonic() + _JOIN_TIMEOUT
        while time.monotonic() < deadline:
            status = (await self.qmp.migration()).get("status")
            if status in ("postcopy-active", "completed"):
                return True
            if status == "postcopy-paused":
                return False
            await asyncio.sleep(_POLL)
        with suppress(CommandRefused):
            await self.qmp.execute_at_once("migrate-pause")
        return False

    async def go_back(self) -> None:
        """Nobody has run the guest since it stood still here: it goes on here.

        :raises GuestLost: it ran there, and is no more.
        :raises HostmemError: QEMU does not let it; or the destination says that the guest is its own.
        """
        answer: dict[str, Any] = {}
        with suppress(HostmemError):
            answer = await self.line.ask(GIVE_UP, _GOOD_BYE)
        await self._bury_lost(answer)
        if answer.get("ordered") is True or answer.get("running") is True:
            self.write(ORDERED)  # so that what comes next finishes the move
            raise HostmemError(
                f"Guest {self.paths.name} does not go on here: it was ordered to run at {self.line.address}.",
                cause="That is kept there, but not here.",
                cure=f"Run here: hostmem recover {self.paths.name}",
            )
        if self.progress.was_running and await self.qmp.status() != "running":
            await self._continue()
        await self._stay()

    async def _stay(self) -> None:
        """The guest is here, and nothing is left of the move."""
        await take_down(self.qmp, self.progress.parameters)
        make_current(self.paths, self.generation)
        unmark_leaving(self.paths)
        self.journal.clear()
        log_record(
            f"Move of guest {self.paths.name} to {self.line.address} called off",
            4,
            guest=self.paths.name,
            generation=self.generation.number,
            event="departure-failed",
        )

    async def _continue(self) -> None:
        """The QEMU there may hold the images until it has ended."""
        deadline, flow = time.monotonic() + RESUME_TIMEOUT, Flow()
        while True:
            try:
                await self.qmp.execute("cont")
                return
            except CommandRefused:
                if time.monotonic() >= deadline:
                    raise
                if flow.second():
                    self._write_again()
                await asyncio.sleep(_SLOW_POLL)

    def _write_again(self) -> None:
        """The step has more time then."""
        entry = self.journal.read()
        if entry is not None:
            self.write(entry["step"])

    async def take_back(self) -> bool:
        """Before the order: back to this QEMU, if it can. False when post-copy has begun, which has no way back.

        :raises HostmemError: QEMU does not let it.
        """
        with suppress(CommandRefused):  # post-copy began in this moment
            await cancel(self.qmp)
        await self._end_device_state()
        if await in_postcopy(self.qmp):
            return False
        await self.go_back()
        return True

    async def _end_device_state(self) -> None:
        """From QEMU 11 on the guest can go back until the destination has its devices: the channel is ended unless it has."""
        deadline = time.monotonic() + _REST_TIMEOUT
        while (await self.qmp.migration()).get("status") == "postcopy-device" and time.monotonic() < deadline:
            with suppress(CommandRefused):  # it ends in this moment
                await self.qmp.execute_at_once(
                    "yank", instances=[{"type": "migration"}]
                )  # migrate-pause does nothing yet
            await asyncio.sleep(_SLOW_POLL)


def _port(answer: dict[str, Any]) -> int:
    """:raises HostmemError: the destination named none."""
    port = answer.get("port")
    if not isinstance(port, int):
        raise HostmemError("The destination names no port.", str(answer), _AGAIN)
    return port
