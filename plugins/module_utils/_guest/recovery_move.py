# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finishing, or taking back, a move between hosts whose runtime was cut off on this one."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields
from typing import Any

from . import arrival, departure
from .arrival import Arrival
from .definition import parse_definition
from .departure import Departure
from .errors import HostmemError
from .generations import Generation, forget_prepared
from .handover import end
from .journal import ARRIVING, MOVE_STEPS, ORDERED, SENDING
from .move_credentials import find_credentials
from .move_line import GIVE_UP, Line
from .move_mark import unmark_coming, unmark_leaving
from .move_orphan import GuestLost, forget_departed, settle_orphan
from .move_outcomes import GONE, PARTLY, Outcomes
from .move_outcomes import ORDERED as MOVE_ORDERED
from .paths import GuestPaths
from .qemu_binary import QemuBinary
from .qmp import connect

_GOOD_BYE = 5.0


def concerns_move(entry: dict[str, Any]) -> bool:
    """Whether the journal's entry is of a move."""
    return entry.get("step") in MOVE_STEPS


async def recover_move(paths: GuestPaths, entry: dict[str, Any], living: dict[int, Generation]) -> str:
    """The caller holds the verb lock.

    :raises HostmemError: the other host has to answer first, or a QEMU here cannot be ended.
    """
    generation = living.get(int(entry["generation"]))
    if entry["step"] in (SENDING, ORDERED):
        return await _recover_source(paths, entry, generation)
    if generation is None:
        forget_prepared(paths)
        return _settle_without_qemu(paths, entry)
    if not entry.get("token"):
        if not await end(generation.alive):
            raise HostmemError(
                f"QEMU of guest {paths.name} (process {generation.alive.pid}), which waited for it, cannot be killed.",
                cause="It is stuck in the kernel.",
                cure="See dmesg.",
            )
        unmark_coming(paths, generation.number)
        forget_prepared(paths)
        return "ended a QEMU that had waited for a guest"
    return await _recover_destination(paths, entry, generation)


def _settle_without_qemu(paths: GuestPaths, entry: dict[str, Any]) -> str:
    """A guest that was ordered to run here is lost, unless it had come as a whole: what became of it since is no matter of the move's."""
    outcomes, token = Outcomes(paths), str(entry.get("token", ""))
    outcome = outcomes.of(token)
    if outcome is not None and outcome.state in (MOVE_ORDERED, PARTLY):
        outcomes.record(token, GONE, "The guest was ordered to run here, and its QEMU is gone.")
    elif entry["step"] == ARRIVING:
        unmark_coming(paths, int(entry["generation"]))
        return "the guest had not come"
    return "QEMU, in which the guest ran, was gone"


async def _recover_destination(paths: GuestPaths, entry: dict[str, Any], generation: Generation) -> str:
    """The two QEMUs do not need this program: it takes its place on the line again."""
    record = generation.record
    names = {field.name for field in fields(arrival.Progress)}
    progress = arrival.Progress(**{key: value for key, value in entry.items() if key in names})
    qmp = await connect(generation.paths.qmp)
    try:
        binary = _binary(record["qemu"])
        definition = parse_definition(record["definition"])
        await Arrival(paths, generation, qmp, progress, definition, binary).run(0.0)
    except HostmemError as error:
        if generation.alive.alive():
            raise
        return f"the guest did not come: {error.cause}"
    finally:
        await qmp.close()
    return "finished the move to this host"


def _binary(kept: dict[str, str]) -> QemuBinary:
    """As far as results show it."""
    major, minor, micro = (int(part) for part in kept["version"].split("."))
    return QemuBinary(kept["path"], 0, 0, (major, minor, micro), kept["package"], [], [])


async def _recover_source(paths: GuestPaths, entry: dict[str, Any], generation: Generation | None) -> str:
    names = {field.name for field in fields(departure.Progress)}
    progress = departure.Progress(**{key: value for key, value in entry.items() if key in names})
    line = Line(progress.to, progress.port, find_credentials(progress.tls), progress.token)
    try:
        return await _settle_line(paths, entry, generation, line, progress)
    except GuestLost as lost:
        return f"the guest is lost: {lost.cause}"
    finally:
        await line.close()


async def _settle_line(
    paths: GuestPaths, entry: dict[str, Any], generation: Generation | None, line: Line, progress: departure.Progress
) -> str:
    sent = bool(entry.get("sent"))
    if generation is None and entry["step"] == SENDING:
        with suppress(HostmemError):
            await line.ask(GIVE_UP, _GOOD_BYE)
        unmark_leaving(paths)
        return "QEMU was gone before the guest had moved: the guest is lost"
    if generation is None:
        if not sent:
            await settle_orphan(paths, line)
        forget_departed(paths)
        return f"QEMU was gone here: the guest goes on at {line.address}"
    qmp = await connect(generation.paths.qmp)
    try:
        move = Departure(paths, generation, qmp, line, progress)
        if not sent:
            return await _settle_source(move, entry["step"])
        await move.leave()
        return f"finished the move: the guest goes on at {line.address}"
    finally:
        await qmp.close()


async def _settle_source(move: Departure, step: str) -> str:
    if step == SENDING:
        if await move.take_back():
            return "took the move back: the guest goes on here"
        await move.rest()
    try:
        await move.order()
    except GuestLost:
        raise
    except HostmemError:
        if move.journal.read() is not None:
            raise
        return "took the move back: the guest goes on here"
    await move.finish()
    return f"finished the move: the guest goes on at {move.line.address}"
