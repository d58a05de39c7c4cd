# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The source of a move between hosts. What can be checked is checked before; until the order the guest can go on here."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from .comparison import queue_sizes
from .config import Config
from .departure import STALL, Departure, Flow, Progress
from .errors import HostmemError, Refused, refuse
from .generations import Generation, living_generations
from .handover import blocked_reasons, kept_parameters
from .journal import SENDING
from .locks import VerbLock
from .move_channel import CHANGED, inet, set_pace, set_up, state
from .move_credentials import Credentials, find_credentials
from .move_line import ALIVE, BEGIN, TERMS, Line
from .move_mark import Leaving, left_by, mark_leaving
from .move_terms import POSTCOPY, Terms, image_identities, named_blocks
from .paths import GuestPaths, guest_paths
from .preflight import Preflight, examine
from .qmp import Qmp, connect
from .recovery import recover_after, settled, unsettled_refused

VERB_WAIT = 120.0
_TERMS_TIMEOUT = 20.0
_BEGIN_TIMEOUT = 30.0
_ALIVE_TIMEOUT = 10.0
_LOOK = 0.1
_WORD = 1.0
_AGAIN = "See what hostmem receive says on the destination, then move the guest again."
_FIRST_VERSION = (8, 2, 0)  # channels of migrate (MigrationChannel, qapi/migration.json)
_OVER = ("failed", "cancelled", "completed")


@dataclass(frozen=True)
class MoveOptions:
    """Where to, and how. ``max_pause`` in seconds, None for the definition's; ``timeout``: for all that comes before the pause."""

    address: str
    port: int
    method: str
    plain: bool = False
    max_pause: float | None = None
    timeout: float = 3600.0
    check: bool = False


async def migrate(config: Config, name: str, options: MoveOptions) -> dict[str, Any]:
    """Move a running guest to another host, where it is waited for.

    :raises Refused: it cannot be done; the guest was not paused.
    :raises HostmemError: it failed; the guest runs on here, unless the message says otherwise.
    """
    paths = guest_paths(config, name)
    async with VerbLock(paths, VERB_WAIT):
        living = unsettled_refused(paths) if options.check else await settled(paths)
        if not living:
            raise Refused(f"Guest {name} does not run here.", cure="Start it on the host where it is to run.")
        credentials = find_credentials("" if options.plain else config.tls)
        line = Line(options.address, options.port, credentials, os.urandom(16).hex())
        try:
            return await _migrate_from(config, paths, living[0], line, credentials, options)
        except Exception as error:
            await line.close()
            await recover_after(paths, error)
            if left_by(paths, line.token) and not living_generations(paths):
                return {"changed": True, "how": "moved", "to": options.address, "recovered": str(error)}
            raise
        finally:
            await line.close()


async def _migrate_from(
    config: Config,
    paths: GuestPaths,
    here: Generation,
    line: Line,
    credentials: Credentials | None,
    options: MoveOptions,
) -> dict[str, Any]:
    qmp = await connect(here.paths.qmp)
    try:
        found = await _checked(here, qmp, options)
        terms = await _terms(paths, found, qmp, options)
        answer = await line.ask(TERMS, _TERMS_TIMEOUT, terms=terms.as_dict())
        report = {"changed": True, "to": options.address, "method": options.method}
        qemus = {"qemu": {"from": ".".join(map(str, found.running_version)), "to": answer["qemu"]["version"]}}
        if options.check:
            return {**report, **qemus}
        tls = "" if options.plain else config.tls
        pause = options.max_pause if options.max_pause is not None else found.definition.max_pause
        progress = Progress(
            generation=here.number,
            token=line.token,
            to=options.address,
            port=options.port,
            tls=tls,
            method=options.method,
            was_running=terms.was_running,
            max_pause=pause,
            parameters=await kept_parameters(qmp, CHANGED),
        )
        move = _Move(Departure(paths, here, qmp, line, progress), terms, credentials, options.timeout)
        return {**report, "how": "moved", **qemus, **await move.run()}
    finally:
        await qmp.close()


async def _checked(here: Generation, qmp: Qmp, options: MoveOptions) -> Preflight:
    if "definition" not in here.record:
        raise Refused(f"The record of the guest's QEMU is missing ({here.paths.record}).", cure="Restart the guest.")
    found = await examine(here, qmp)
    found.blockers += _blockers(found)
    for reason in await blocked_reasons(qmp, "normal"):
        found.block("QEMU refuses to migrate this guest.", reason, "Remove the device, or power the guest down.")
    refuse(found.blockers)
    return found


def _blockers(found: Preflight) -> Iterator[Refused]:
    name = found.definition.name
    if found.status not in ("running", "paused"):
        yield Refused(f"Guest {name} is {found.status}, neither running nor paused.", cure="Bring it to run first.")
    if found.running_version < _FIRST_VERSION:
        version = ".".join(map(str, found.running_version))
        yield Refused(f"Guest {name} runs in QEMU {version}.", "Moves need QEMU 8.2.", "Update it live first.")
    for disk in found.definition.disks:
        if not disk.shared:
            yield Refused(
                f"Disk {disk.id} of guest {name} ({disk.path}) belongs to this host, as far as its definition tells.",
                "A move does not copy disks.",
                "If all hosts have the very same file or device there, say so on each (shared: true), and restart the guest.",
            )
    for nvdimm in found.definition.nvdimms:
        yield Refused(
            f"NVDIMM {nvdimm.id} of guest {name} lies on this host.",
            "A move does not copy it.",
            "Power the guest down.",
        )


async def _terms(paths: GuestPaths, found: Preflight, qmp: Qmp, options: MoveOptions) -> Terms:
    return Terms(
        guest=paths.name,
        method=options.method,
        was_running=found.status == "running",
        definition=found.generation.record["definition"],
        version=list(found.running_version),
        inventory=found.live,
        ram_blocks=await named_blocks(qmp),
        queue_sizes=await queue_sizes(qmp),
        images=image_identities(found.live),
    )


class _Move:
    """One attempt. What fails in it is the recovery's to take back, or to finish: the same as after a kill."""

    def __init__(self, departure: Departure, terms: Terms, credentials: Credentials | None, timeout: float) -> None:
        self._departure = departure
        self._qmp = departure.qmp
        self._line = departure.line
        self._progress = departure.progress
        self._terms = terms
        self._credentials = credentials
        self._timeout = timeout
        self._lost: HostmemError | None = None

    async def run(self) -> dict[str, Any]:
        """:raises HostmemError: see the journal."""
        began = time.monotonic()
        self._departure.write(SENDING)
        here = self._progress
        mark_leaving(self._departure.paths, Leaving(here.to, here.port, here.token, here.tls, here.method))
        await self._begin()
        sent = asyncio.Event()
        touch = asyncio.ensure_future(self._keep_in_touch(sent))
        try:
            await self._send(began + self._timeout)
        finally:
            # Not cancelled: an answer would be left on the line, and wait_for() can swallow it (Python before 3.12).
            sent.set()
            await touch
        await self._departure.rest()
        await self._departure.order()
        pause = self._pause()
        await self._departure.finish()
        return {"pause_ms": pause, "seconds": round(time.monotonic() - began, 3)}

    async def _begin(self) -> None:
        facts = {"terms": self._terms.as_dict(), "from": socket.gethostname()}
        answer = _not_given_up(self._line, await self._line.ask(BEGIN, _BEGIN_TIMEOUT, **facts))
        await set_up(self._qmp, self._postcopy, self._credentials, "client", self._tls_hostname)
        await set_pace(self._qmp, self._progress.max_pause)
        ours = await state(self._qmp)
        if ours != answer["state"] or ours["tls"] != bool(self._credentials):
            raise Refused(
                f"The two QEMUs are not set up alike: {ours} here, {answer['state']} at {self._line.address}.",
                cause="The guest's memory would be damaged, or sent in clear.",
                cure="Install the same release of the runtime on both hosts (role hypervisor).",
            )
        await self._qmp.send("migrate", {"channels": inet(self._line.address, int(answer["port"]))})

    @property
    def _postcopy(self) -> bool:
        return self._terms.method == POSTCOPY

    @property
    def _tls_hostname(self) -> str:
        return self._line.address if self._credentials else ""

    async def _send(self, deadline: float) -> None:
        if self._postcopy:
            await self._until(("active",), deadline)
            if self._terms.was_running:
                # QEMU goes on by itself with a guest that it has paused itself, when the migration fails at its end
                # (migration_iteration_finish(), migration/migration.c), and the guest runs on the destination by then.
                await self._qmp.execute("stop")
                deadline = min(deadline, time.monotonic() + self._progress.max_pause)
            await self._qmp.execute("migrate-start-postcopy")
        await self._until(("pre-switchover",), deadline)
        pause_end = time.monotonic() + self._progress.max_pause
        await self._ask_alive(self._progress.max_pause)
        await self._qmp.execute("migrate-continue", state="pre-switchover")
        await self._until(("postcopy-active", "completed"), pause_end)

    async def _until(self, wanted: tuple[str, ...], deadline: float) -> None:
        """Wait until QEMU has said one of these of its migration.

        :raises HostmemError: it ended otherwise, takes too long, or the destination is not there any more.
        """

        def status(event: dict[str, Any]) -> str:
            said = str(event.get("data", {}).get("status")) if event.get("event") == "MIGRATION" else ""
            return said if said in (*wanted, *_OVER) else ""

        while not (said := await self._qmp.wait_event(status, min(deadline, time.monotonic() + _LOOK))):
            if self._lost is not None:
                raise self._lost
            if time.monotonic() >= deadline:
                raise HostmemError(
                    f"The migration did not come to {wanted[0]} in time.",
                    cause=f"It is {(await self._qmp.migration()).get('status')}.",
                    cure="Look for load on the network, allow more time or a longer pause, or choose post-copy.",
                )
        if said not in wanted:
            migration = await self._qmp.migration()
            raise HostmemError(f"The migration has {said}.", str(migration.get("error-desc", "")), _AGAIN)

    async def _keep_in_touch(self, sent: asyncio.Event) -> None:
        """Each second a word to the destination, and the journal's step anew; until all is sent."""
        flow = Flow()
        while self._lost is None:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(sent.wait(), _WORD)
            if sent.is_set():
                return
            try:
                await self._ask_alive(_ALIVE_TIMEOUT)
                migration = await self._qmp.migration()
                self._departure.write(SENDING, seen=migration.get("ram", {}))
                if flow.stands(migration):
                    raise HostmemError(
                        f"Nothing has gone over to {self._line.address} for {STALL:.0f} s.",
                        cause=f"The migration is {migration.get('status')}.",
                        cure="Mend the network between the two hosts, then move the guest again.",
                    )
            except HostmemError as error:
                self._lost = error

    async def _ask_alive(self, within: float) -> None:
        """:raises HostmemError: the destination is gone, or gave the guest up."""
        _not_given_up(self._line, await self._line.ask(ALIVE, within))

    def _pause(self) -> float | None:
        """Milliseconds from QEMU's STOP here to the answer that the guest runs there, by this host's clock."""
        stopped = self._qmp.event_time("STOP")
        return round((time.time() - stopped) * 1000, 2) if stopped and self._terms.was_running else None


def _not_given_up(line: Line, answer: dict[str, Any]) -> dict[str, Any]:
    """:raises HostmemError: the destination gave the guest up."""
    if "given_up" in answer:
        raise HostmemError(f"{line.address} gave the guest up.", str(answer["given_up"]), _AGAIN)
    return answer
