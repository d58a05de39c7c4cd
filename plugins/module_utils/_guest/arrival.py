# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The destination's part of a move, from a QEMU that waits for the guest on; also after the runtime that began it was killed.

It decides nothing: the guest runs here when the source orders it, once. Until then this QEMU can be ended at any time.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from .._host.journald import log_record
from .definition import Definition
from .errors import CommandRefused, HostmemError, Refused
from .generations import Generation, forget_generation, forget_prepared, make_current
from .handover import end
from .io_limits import carry_over
from .journal import ARRIVED, ARRIVING, Journal
from .move_channel import admit_only, free_port, inet, listening_port, set_up, state, take_down, uri
from .move_credentials import Peer, find_credentials, refuse_stranger
from .move_line import ALIVE, BEGIN, CONTINUE, FINISH, GIVE_UP, LOST, REJOIN, TERMS
from .move_mark import mark_coming, unmark_coming, unmark_leaving
from .move_outcomes import BEGUN, GIVEN_UP, GONE, ORDERED, PARTLY, RUNS, Outcomes, is_token, told
from .move_terms import POSTCOPY, parse_terms, problems
from .nics import GuestTaps
from .paths import GuestPaths
from .peer_link import PeerLink, answer_in_words, listen
from .qemu_binary import QemuBinary
from .qmp import Qmp
from .running_mark import mark_running

# Seconds without a word of the source's, which says one each second.
SILENCE = 15.0
# Seconds for which the source, which may have lost the answer, is told that the guest did not run here.
LINGER = 20.0
# Seconds for which a QEMU waits for the order when the source's cannot go on with the guest any more.
POSTCOPY_SILENCE = 300.0
_LOAD_TIMEOUT = 10.0
_PAUSE_TIMEOUT = 5.0
_PATIENCE = 600.0
_LOOK = 0.1
# Seconds after which QEMU is taken to wait for a page, where it can.
_GLANCE = 2.0
_IDLE = 3600.0
_AGAIN = "Let the destination wait for the guest (hostmem receive), and move it again."
_IN_POSTCOPY = ("postcopy-active", "postcopy-paused")
_HAS_GUEST = (*_IN_POSTCOPY, "completed")
_ANNOUNCE = {"initial": 50, "max": 550, "rounds": 5, "step": 100}  # ms

_Answer = TypeVar("_Answer")


@dataclass
class Progress:
    """What a recovery has to know, kept in the journal. ``tls`` is the directory of the certificates, empty for a move in clear;
    ``expected`` a name in the source's certificate, empty for any."""

    generation: int
    address: str
    port: int
    tls: str
    expected: str = ""
    token: str = ""
    postcopy: bool = False
    was_running: bool = True
    migration_port: int = 0


class Arrival:
    """One QEMU that waits for one guest. Times in seconds."""

    def __init__(
        self,
        paths: GuestPaths,
        generation: Generation,
        qmp: Qmp,
        progress: Progress,
        definition: Definition,
        binary: QemuBinary,
        taps: GuestTaps | None = None,
    ) -> None:
        """:param taps: of this QEMU, where this program has opened them."""
        self._paths = paths
        self._generation = generation
        self._qmp = qmp
        self._progress = progress
        self._definition = definition
        self._binary = binary
        self._taps = taps
        self._journal = Journal(paths)
        self._outcomes = Outcomes(paths)
        outcome = self._outcomes.of(progress.token)
        # The journal's step was written after it: when nothing is kept of the order, it was given all the same.
        self._ordered = (outcome is not None and outcome.state in (ORDERED, PARTLY, RUNS)) or self._step() == ARRIVED
        self._whole = not progress.postcopy or (outcome is not None and outcome.state == RUNS)
        self._runs = False
        self._given_up = ""
        self._done = False  # once the source has been told so
        self._over = asyncio.Event()
        self._heard = self._noted = time.monotonic()
        self._turn = asyncio.Lock()
        self._source = ""

    async def run(self, timeout: float) -> dict[str, Any]:
        """Serve the source until the guest runs here, or does not.

        :param timeout: for the source to come.
        :raises HostmemError: it does not; this QEMU has been ended.
        """
        began = time.monotonic()
        credentials = find_credentials(self._progress.tls)
        if self._progress.token and not self._ordered:  # a recovery: nothing but an order has let it run
            self._ordered = await self._says_running()
        if self._ordered:
            async with self._turn:
                await self._try_to_go_on()
        server = await listen(self._progress.address, self._progress.port, credentials, self._serve)
        self._progress.port = server.sockets[0].getsockname()[1]  # the kernel's choice
        self._write()
        try:
            while not self._over.is_set():
                await self._look(began + timeout)
        finally:
            server.close()
        if self._given_up:
            raise HostmemError(
                f"Guest {self._paths.name} does not come.",
                cause=self._given_up,
                cure="See what hostmem migrate says on the source.",
            )
        self._journal.clear()
        log_record(
            f"Guest {self._paths.name} came from {self._source}",
            guest=self._paths.name,
            generation=self._generation.number,
            event="arrival",
        )
        return {
            "changed": True,
            "how": "arrived",
            "from": self._source,
            "generation": self._generation.number,
            "pid": self._generation.alive.pid,
            "qemu": self._binary.as_dict(),
            "seconds": round(time.monotonic() - began, 3),
        }

    def _step(self) -> str:
        """Of the journal, which a program before this one may have written."""
        return str((self._journal.read() or {}).get("step"))

    def _write(self) -> None:
        self._noted = time.monotonic()
        self._journal.write(ARRIVED if self._ordered else ARRIVING, **asdict(self._progress))

    # --- without being asked

    async def _look(self, deadline: float) -> None:
        try:
            await asyncio.wait_for(self._over.wait(), _LOOK)
            return
        except asyncio.TimeoutError:
            pass
        async with self._turn:
            await self._look_at_time(deadline)

    async def _look_at_time(self, deadline: float) -> None:
        now = time.monotonic()
        silent = now - self._heard
        if self._given_up:
            if silent > LINGER:
                self._over.set()
            return
        if now - self._noted > 1.0:
            self._write()
            if self._ordered and not self._runs:
                with suppress(HostmemError, OSError):  # who asks is told of it, and the last one who tries
                    await self._try_to_go_on()
        if not self._generation.alive.alive():
            await self._dissolve("QEMU here ended.")
        elif self._ordered:
            if silent > SILENCE:
                await self._finish_alone()
        elif not self._progress.token and now > deadline:
            await self._dissolve("The source did not come in time.")
            self._over.set()
        elif self._progress.token and silent > SILENCE:
            await self._fall_silent(silent)

    async def _fall_silent(self, silent: float) -> None:
        """The source says nothing before its order. Of a pre-copy it can go on with the guest. Of a post-copy its QEMU may have no way back,
        and says so by ending the channel when it has: until then this QEMU may be the guest's last."""
        if not self._progress.postcopy:
            await self._dissolve(f"The source was silent for {SILENCE:.0f} s.")
            return
        status = await self._status()
        if status in ("setup", "failed"):
            await self._dissolve(f"The source was silent for {SILENCE:.0f} s, and the migration is {status} here.")
        elif silent > POSTCOPY_SILENCE:
            raise HostmemError(
                f"Guest {self._paths.name} is here for a part, and nobody has ordered it to run here.",
                cause=f"The source, {self._source}, was silent for {POSTCOPY_SILENCE:.0f} s; the migration is {status or 'silent'}.",
                cure=f"Bring the source back; then run on both hosts: hostmem recover {self._paths.name}",
            )

    async def _glance(self, asking: Awaitable[_Answer]) -> _Answer:
        """An answer of QEMU's, whose main loop may wait for a page in post-copy.

        :raises HostmemError: there is none now.
        """
        try:
            return await asyncio.wait_for(asking, _GLANCE)
        except asyncio.TimeoutError:
            raise HostmemError(
                f"QEMU of guest {self._paths.name} does not answer.",
                cause="Its main loop waits for a part of the guest's memory.",
                cure="Mend the network between the two hosts.",
            ) from None

    async def _status(self) -> str:
        """Of the migration; empty while QEMU does not answer."""
        with suppress(HostmemError):
            return str((await self._glance(self._qmp.migration())).get("status"))
        return ""

    async def _says_running(self) -> bool:
        with suppress(HostmemError):
            return await self._glance(self._qmp.status()) == "running"
        return False

    async def _finish_alone(self) -> None:
        """The source has gone after its order: if it has sent everything, it is not needed any more."""
        status = await self._status()
        if status == "completed":
            await self._settle_down()
            self._over.set()
            return
        if time.monotonic() - self._heard > _PATIENCE:
            raise HostmemError(
                f"Guest {self._paths.name} runs here, but a part of its memory is still at {self._source or 'its source'}, which is silent.",
                cause=f"The migration is {status or 'silent'}: what the guest needs of that part, it waits for.",
                cure=f"Bring the source back; then run on both hosts: hostmem recover {self._paths.name}",
            )

    async def _settle_down(self) -> None:
        """The whole guest is here, and was ordered to run here."""
        if not self._runs:
            await self._go_on()
        if not self._whole:
            self._outcomes.record(self._progress.token, RUNS)
            self._whole = True
        await take_down(self._qmp, {})

    async def _dissolve(self, why: str) -> None:
        """End this QEMU, which has not run the guest; or has died with it. Then, and not before, the source may know.

        :raises HostmemError: it cannot be ended, or must not.
        """
        if not self._ordered and await self._says_running():
            raise HostmemError(
                f"Guest {self._paths.name} runs here, although nobody has ordered it to.",
                cause="Another program has told its QEMU to go on.",
                cure=f"Look on both hosts where it is to run (hostmem info {self._paths.name}), and stop the other one.",
            )
        if not await end(self._generation.alive):
            raise HostmemError(
                f"QEMU of guest {self._paths.name} (process {self._generation.alive.pid}) cannot be killed.",
                cause="It is stuck in the kernel.",
                cure="See dmesg.",
            )
        if self._ordered:
            why = f"{why} The guest was ordered to run in it, and is lost."
        if self._progress.token:
            # Without QEMU it says the same as what is kept already.
            with suppress(OSError):
                self._outcomes.record(self._progress.token, GONE if self._ordered else GIVEN_UP, why)
        if not self._ordered:
            unmark_coming(self._paths, self._generation.number)
        self._given_up = why
        self._heard = time.monotonic()
        forget_generation(self._paths, self._generation.number)
        forget_prepared(self._paths)
        self._journal.clear()

    # --- what the source asks

    async def _serve(self, link: PeerLink) -> None:
        while not self._over.is_set():
            message = await link.hear(time.monotonic() + _IDLE)
            async with self._turn:
                answer = await answer_in_words(lambda asked: self._answer(link.peer, asked), message)
                if self._progress.token and message.get("token") == self._progress.token:
                    self._heard = time.monotonic()
            answer["serial"] = message.get("serial")
            await link.say(answer)
            if self._done:
                self._over.set()

    async def _answer(self, peer: Peer, message: dict[str, Any]) -> dict[str, Any]:
        refuse_stranger(self._paths.name, self._progress.expected, peer)
        word, token = str(message.get("word", "")), str(message.get("token", ""))
        current = bool(self._progress.token) and token == self._progress.token
        if word == TERMS or (word == BEGIN and not current):
            return await self._answer_newcomer(peer, word, token, message)
        if not current:
            self._call_off(word, token)
            return told(self._outcomes, self._paths.name, word, token)
        if self._ordered and not self._given_up and not self._generation.alive.alive():
            await self._dissolve("QEMU here ended.")
        if self._given_up:
            return self._gone()
        answers: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {
            BEGIN: self._begun,
            ALIVE: self._alive,
            CONTINUE: self._continue,
            FINISH: self._finish,
            GIVE_UP: self._give_up,
            REJOIN: self._rejoin,
            LOST: self._lose,
        }
        if word not in answers:
            raise Refused(f"{word!r} is nothing that is understood here.", "Another release asks.", _AGAIN)
        return await answers[word]()

    def _call_off(self, word: str, token: str) -> None:
        """Keep that a move does not begin any more, which may be about to, over another line; while another is under way none does."""
        if word == GIVE_UP and is_token(token) and not self._progress.token and self._outcomes.of(token) is None:
            self._outcomes.record(token, GIVEN_UP, "It was called off before it began.")

    async def _answer_newcomer(self, peer: Peer, word: str, token: str, message: dict[str, Any]) -> dict[str, Any]:
        if self._progress.token and token != self._progress.token:
            raise Refused(
                "Another move of the guest is under way here.",
                "Its token is another.",
                "Wait until that one has ended.",
            )
        if self._given_up:
            raise Refused(f"Guest {self._paths.name} is not waited for any more.", self._given_up, _AGAIN)
        if word == TERMS:
            return await self._check(message)
        return await self._begin(peer, token, message)

    def _gone(self) -> dict[str, Any]:
        """What tells the source whether it may go on with the guest: not when it may have run here."""
        return {"lost" if self._ordered else "given_up": self._given_up}

    async def _check(self, message: dict[str, Any]) -> dict[str, Any]:
        terms = parse_terms(message.get("terms"))
        found = await problems(terms, self._paths.name, self._definition, self._binary, self._qmp)
        if found:
            raise Refused(
                f"Guest {self._paths.name} does not fit what waits for it: {'; '.join(found)}.",
                cause="QEMU would fail in the middle of the move, or lose data without a word.",
                cure="Define the guest alike on both hosts.",
            )
        try:
            await set_up(self._qmp, terms.method == POSTCOPY, find_credentials(self._progress.tls), "server")
        except CommandRefused as error:
            raise Refused(
                f"The QEMU that waits for guest {self._paths.name} at {socket.gethostname()} cannot take it by {terms.method}.",
                cause=error.cause,
                cure="For post-copy, memory on tmpfs, hugetlbfs or memfd is needed, and /dev/userfaultfd for QEMU's user; else choose pre-copy.",
            ) from None  # its text is the cause already
        await carry_over(terms.inventory["io_limits"], self._qmp)
        return {"qemu": self._binary.as_dict()}

    async def _begin(self, peer: Peer, token: str, message: dict[str, Any]) -> dict[str, Any]:
        if not is_token(token):
            raise Refused("A move needs a token.", f"{token!r} is none: 32 hexadecimal digits are.", _AGAIN)
        if self._outcomes.of(token) is not None:
            raise Refused("A move begins once.", "What became of the one with this token is known.", _AGAIN)
        await self._check(message)
        terms = parse_terms(message.get("terms"))
        if peer.subject:
            await admit_only(self._qmp, peer.subject)
        elif self._progress.expected:
            raise Refused(
                "The source's certificate has a subject that QEMU cannot be told.",
                "It has other parts than CN, O, OU, L, ST and C, or characters of a meaning of their own.",
                "Give it a certificate with a plain subject, or wait for any source (without --from).",
            )
        source = str(message.get("from") or "")
        # A start here, after a power cut, would be a second guest.
        mark_coming(self._paths, source, self._generation.number, token)
        self._outcomes.record(token, BEGUN)
        # It ends, or stays a QEMU that nothing can be done with, when it fails: it is ended in any case.
        stays = {"exit-on-error": False} if self._binary.version >= (9, 1, 0) else {}
        await self._qmp.send("migrate-incoming", {"channels": inet(self._progress.address, 0), **stays})
        self._progress.migration_port = await listening_port(self._qmp)
        self._progress.postcopy = terms.method == POSTCOPY
        self._whole = not self._progress.postcopy
        self._progress.was_running = terms.was_running
        self._progress.token = token
        self._source = source
        self._write()
        return await self._begun()

    async def _begun(self) -> dict[str, Any]:
        return {"port": self._progress.migration_port, "state": await state(self._qmp)}

    async def _alive(self) -> dict[str, Any]:
        return {"status": await self._status()}

    async def _continue(self) -> dict[str, Any]:
        """The order. It counts from when it is on its device; in post-copy it may be carried out later, when a page has come."""
        if not self._ordered:
            waits = await self._until_loaded()
            if self._given_up:
                return self._gone()
            if waits:
                return {"waits": waits}
            self._outcomes.record_order(self._progress.token)
            self._ordered = True
            self._write()
        if not self._runs:
            await self._try_to_go_on()
        return {"running": self._runs, "ordered": True}

    async def _until_loaded(self) -> str:
        """Wait until QEMU has the guest's devices and can run it. What is still to come, when it takes long in post-copy, of which the source
        cannot take the guest back; else the guest is given up then."""
        deadline = time.monotonic() + _LOAD_TIMEOUT
        while True:
            status, run_state = await self._status(), ""
            with suppress(HostmemError):
                run_state = await self._glance(self._qmp.status())
            # "inmigrate" until the devices are there, although QEMU before 11 calls its migration postcopy-active by then.
            if status in _HAS_GUEST and run_state not in ("", "inmigrate"):
                return ""
            late = time.monotonic() >= deadline
            if status == "failed" or not self._generation.alive.alive() or (late and not self._progress.postcopy):
                await self._dissolve(f"The migration is {status or 'silent'} here.")
                return ""
            if late:
                return f"The migration is {status or 'silent'} there, QEMU {run_state or 'silent'}."
            await asyncio.sleep(0.001)

    async def _try_to_go_on(self) -> None:
        """Let the guest run, unless QEMU waits for a page in the middle of it; it is tried again then.

        :raises HostmemError: QEMU does not do it.
        """
        if not self._progress.postcopy:
            await self._go_on()
            return
        try:
            await self._glance(self._go_on())
        except CommandRefused:
            raise
        except HostmemError:
            if not self._generation.alive.alive():
                raise

    async def _go_on(self) -> None:
        """Let the guest run. What failed in the middle can be done again."""
        if self._progress.was_running and await self._qmp.status() != "running":
            if self._taps is not None:
                self._taps.draw_traffic()
            await self._qmp.execute("cont")
            await self._qmp.execute("announce-self", **_ANNOUNCE)
        make_current(self._paths, Generation(self._generation.paths, self._generation.process, {}))
        mark_running(self._paths, self._generation.number)
        unmark_leaving(self._paths)
        self._outcomes.record(self._progress.token, RUNS if self._whole else PARTLY)
        self._runs = True

    async def _finish(self) -> dict[str, Any]:
        """The source has sent everything, and says good-bye."""
        if not self._ordered:
            raise Refused("The guest was not told to run here.", "The order has not come.", _AGAIN)
        deadline = time.monotonic() + _LOAD_TIMEOUT
        while (status := (await self._qmp.migration()).get("status")) != "completed":
            if time.monotonic() >= deadline:
                raise HostmemError(
                    f"The migration is {status} on the destination, although the source has completed it.",
                    cause="The QEMU there hangs.",
                    cure="See dmesg and QEMU's log there.",
                )
            await asyncio.sleep(0.01)
        await self._settle_down()
        self._done = True
        return {"finished": True}

    async def _rejoin(self) -> dict[str, Any]:
        """The channel of a post-copy broke: QEMU waits for the source on another port. Out of band, as its main loop may wait for a page."""
        if not self._progress.postcopy:
            raise Refused("No post-copy is under way here.", "The guest came by pre-copy.", _AGAIN)
        with suppress(CommandRefused):  # it has noticed by itself
            await self._qmp.execute_at_once("migrate-pause")
        deadline = time.monotonic() + _PAUSE_TIMEOUT
        while True:
            port = free_port(self._progress.address)
            try:
                await self._qmp.execute_at_once("migrate-recover", uri=uri(self._progress.address, port))
                return {"port": port}
            except CommandRefused:  # it has not paused yet
                if time.monotonic() >= deadline:
                    raise
                await asyncio.sleep(_LOOK)

    async def _lets_rejoin(self) -> bool:
        """Whether QEMU waits for the source in the middle of post-copy, for all that its main loop may be stuck at a page."""
        with suppress(HostmemError):
            await self._rejoin()
            return True
        return False

    async def _give_up(self) -> dict[str, Any]:
        if self._ordered:  # what the source did not hear
            return {"running": self._runs, "ordered": True}
        await self._dissolve("The source called it off.")
        self._done = True
        return self._gone()

    async def _lose(self) -> dict[str, Any]:
        """The source's QEMU died with a part of the guest's memory: the guest would wait for it for ever. So QEMU here has to say."""
        status = await self._status()
        if not self._progress.postcopy or status == "completed":
            raise Refused("The whole guest is here.", "Nothing of it is on the source any more.", "Leave it here.")
        if not status and await self._lets_rejoin():
            status = "postcopy-paused"
        if not status.startswith("postcopy") and status != "failed":
            raise Refused(
                f"It is not known whether the whole guest {self._paths.name} is here.",
                cause=f"The migration is {status}." if status else "QEMU here does not answer.",
                cure=f"When it answers again, run on the source: hostmem recover {self._paths.name}",
            )
        await self._dissolve("QEMU on the source is gone, with a part of the guest's memory.")
        self._done = True
        return self._gone()
