# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bringing a guest back to exactly one QEMU after a verb was interrupted, from evidence: living processes, what they answer, the journal."""

from __future__ import annotations

from typing import Any

from .._host.files import identity
from .._host.journald import log_record
from .._host.processes import process, processes_with_open
from .._host.service_manager import still_at_work
from .._host.unfinished import remove_unfinished
from .config import Config
from .errors import HostmemError, Refused
from .generations import Generation, forget_dead, living_generations, make_current, qemu_processes
from .handover import go_on, roll_back, roll_forward
from .journal import ARRIVING, COLD_STARTING, COLD_VERIFIED, CONTINUED, HANDOVER, RESTORING, STARTING, Journal
from .locks import VerbLock
from .move_mark import leaving
from .paths import GuestPaths, guest_paths
from .qmp import connect
from .recovery_checkpoint import concerns_checkpoint, recover_checkpoint
from .recovery_exec import concerns_exec, recover_exec
from .recovery_mark import recover_mark
from .recovery_move import concerns_move, recover_move
from .running_mark import mark_running

VERB_WAIT = 120.0


async def recover(config: Config, name: str) -> dict[str, Any]:
    """Finish or roll back what was interrupted; nothing to do is no error."""
    paths = guest_paths(config, name)
    async with VerbLock(paths, VERB_WAIT):
        outcome = await recover_locked(paths, living_generations(paths))
        move = leaving(paths)
        if outcome["changed"] or move is None or qemu_processes(paths):
            return outcome
        return {**outcome, "changed": True, "outcome": await recover_mark(paths, move)}


async def settled(paths: GuestPaths) -> list[Generation]:
    """The guest's living generations, at most one, after what was interrupted has been repaired. The caller holds the verb lock."""
    living = living_generations(paths)
    outcome = await recover_locked(paths, living)
    return living_generations(paths) if outcome["changed"] else living


def unsettled_refused(paths: GuestPaths) -> list[Generation]:
    """The same for a caller that may change nothing.

    :raises Refused: something was interrupted, and has not been repaired yet.
    """
    living = living_generations(paths)
    entry = Journal(paths).read()
    if _was_interrupted(paths, entry, living):
        raise Refused(
            f"A verb that worked on guest {paths.name} was interrupted; what would be done cannot be told before that is repaired.",
            cause=f"It got as far as: {entry['step']}." if entry else "The guest has more QEMUs than it should.",
            cure=f"Run: hostmem recover {paths.name}",
        )
    return living


async def recover_after(paths: GuestPaths, error: Exception) -> None:
    """For a verb that failed and holds the verb lock: what it was cut off from and could not take back. The error tells of it."""
    if Journal(paths).read() is not None:
        outcome = await recover_locked(paths, living_generations(paths))
        if isinstance(error, HostmemError):
            error.cause = f"{error.cause} Recovery: {outcome['outcome']}.".strip()


def _was_interrupted(paths: GuestPaths, entry: dict[str, Any] | None, living: list[Generation]) -> bool:
    return entry is not None or len(living) > 1 or concerns_checkpoint(paths, entry, living)


async def recover_locked(paths: GuestPaths, living: list[Generation]) -> dict[str, Any]:
    """Repair, for a caller that holds the verb lock and has just looked for the living generations."""
    for directory in (paths.run, paths.state):
        remove_unfinished(directory)
    journal = Journal(paths)
    entry = journal.read()
    if not _was_interrupted(paths, entry, living):
        return {"changed": False, "outcome": "nothing was interrupted"}
    still_at_work()
    if (entry or {}).get("step") in (STARTING, COLD_STARTING, RESTORING, ARRIVING):
        _end_unborn(paths, living)
    if concerns_checkpoint(paths, entry, living):
        outcome = await recover_checkpoint(paths, entry or {}, living)
    else:
        outcome = await _recover(paths, entry or {}, {item.number: item for item in living})
    journal.clear()
    forget_dead(paths)
    moved = "from" in (entry or {}) and _is_elsewhere(paths, (entry or {})["from"])
    log_record(
        f"Guest {paths.name}: recovered an interrupted verb: {outcome}",
        4,
        guest=paths.name,
        event="recover",
        step=(entry or {}).get("step"),
    )
    return {"changed": True, "outcome": outcome, "step": (entry or {}).get("step"), "moved": moved}


def _is_elsewhere(paths: GuestPaths, old: int) -> bool:
    """Whether the guest of an update goes on in another QEMU than before it."""
    numbers = set(qemu_processes(paths))
    return bool(numbers) and old not in numbers


def _end_unborn(paths: GuestPaths, living: list[Generation]) -> None:
    """End a process that was to become a QEMU when the program that made it was killed: it shows no arguments of QEMU's yet,
    but holds the guest's lock already."""
    lock = identity(paths.guest_lock)
    known = {item.alive.pid for item in living}
    for pid in processes_with_open(*lock) if lock else []:
        unborn = process(pid)
        if pid not in known and unborn is not None:
            unborn.kill()


async def _recover(paths: GuestPaths, entry: dict[str, Any], living: dict[int, Generation]) -> str:
    if concerns_move(entry):
        return await recover_move(paths, entry, living)
    if not living:
        return "no QEMU was left"
    if entry.get("step") in (COLD_STARTING, COLD_VERIFIED):
        return await _recover_start(paths, entry, living)
    if concerns_exec(entry):
        return await recover_exec(paths, entry, living)
    if "from" in entry:
        return await _recover_update(paths, entry, living)
    return await _keep_running_one(paths, list(living.values()))


async def _recover_start(paths: GuestPaths, entry: dict[str, Any], living: dict[int, Generation]) -> str:
    """A cold start that was not verified never ran: it is ended. A verified one goes on."""
    generation = living.get(int(entry["generation"]))
    if generation is None or generation.process is None:
        return "the interrupted start left no QEMU"
    if entry["step"] == COLD_STARTING:
        generation.process.kill()
        return "ended a QEMU that had not run yet"
    qmp = await connect(generation.paths.qmp)
    try:
        await qmp.execute("cont")
    finally:
        await qmp.close()
    make_current(paths, generation)
    mark_running(paths, generation.number)
    return "finished the start"


async def _recover_update(paths: GuestPaths, entry: dict[str, Any], living: dict[int, Generation]) -> str:
    old, new = living.get(int(entry["from"])), living.get(int(entry["to"]))
    was_running = bool(entry.get("was_running", True))
    if entry["step"] in (HANDOVER, CONTINUED):
        return await _finish(paths, old, new, was_running)
    if old is not None:
        await _back(paths, old, new, was_running)
        return "went back to the old QEMU"
    if new is not None and await _has_guest(new):
        await _forward(paths, None, new, was_running)
        return "the old QEMU was gone and the new one had the whole guest: it goes on there"
    if new is not None and new.process is not None:
        new.process.kill()
    return "the old QEMU was gone before the new one had the guest: the guest is lost"


async def _finish(paths: GuestPaths, old: Generation | None, new: Generation | None, was_running: bool) -> str:
    """After the point of no return the guest is the new QEMU's; the old one must not go on, since the new one may have run."""
    if new is None:
        if old is not None and old.process is not None:
            old.process.kill()
        return "the new QEMU was gone after it had taken the guest over: the guest is lost"
    await _forward(paths, old, new, was_running)
    return "finished the hand-over to the new QEMU"


async def _forward(paths: GuestPaths, old: Generation | None, new: Generation, was_running: bool) -> None:
    if old is not None and old.process is not None:
        await roll_forward(paths, old.process, new, was_running)
        return
    make_current(paths, new)
    await go_on(new, was_running)


async def _back(paths: GuestPaths, old: Generation, new: Generation | None, was_running: bool) -> None:
    qmp = await connect(old.paths.qmp)
    try:
        await roll_back(paths, old, qmp, new.process if new else None, was_running)
    finally:
        await qmp.close()


async def _has_guest(generation: Generation) -> bool:
    """True when the QEMU has loaded the whole guest."""
    try:
        qmp = await connect(generation.paths.qmp)
    except HostmemError:
        return False
    try:
        return (await qmp.migration()).get("status") == "completed" and await qmp.status() in ("paused", "running")
    finally:
        await qmp.close()


async def _keep_running_one(paths: GuestPaths, living: list[Generation]) -> str:
    """No journal: the QEMU that says running is the guest's; when none does, the oldest, which had it first."""
    states = {}
    for generation in living:
        try:
            qmp = await connect(generation.paths.qmp)
            states[generation.number] = await qmp.status()
            await qmp.close()
        except HostmemError:
            states[generation.number] = "silent"
    running = [generation for generation in living if states[generation.number] == "running"]
    if len(running) > 1:
        raise HostmemError(
            f"Two QEMUs say that they run guest {paths.name}: generations {', '.join(str(item.number) for item in running)}.",
            cause="This must not happen; the collection does not choose between them.",
            cure="Look at both (hostmem info), kill the wrong one, and report this.",
        )
    keep = running[0] if running else living[0]
    make_current(paths, keep)
    for generation in living:
        if generation is not keep and generation.process is not None:
            generation.process.kill()
    return f"kept generation {keep.number} ({states[keep.number]})"
