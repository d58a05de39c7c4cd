# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bringing a guest back to one QEMU after an update by cpr-exec was interrupted."""

from __future__ import annotations

import time
from typing import Any

from .._host.files import remove_file
from .errors import HostmemError
from .exec_outcome import Cast, GuestLost, Winner, outcome
from .generations import Generation, make_current
from .handover import end, go_on, roll_back
from .paths import GuestPaths

_WAIT = 5.0


def concerns_exec(entry: dict[str, Any]) -> bool:
    """Whether the journal's entry is of such an update."""
    return "standby" in entry


async def recover_exec(paths: GuestPaths, entry: dict[str, Any], living: dict[int, Generation]) -> str:
    """End all QEMUs but the one that has the guest, then let it go on.

    :raises HostmemError: a QEMU hangs, or cannot be brought to run.
    """
    old, heir, standby = int(entry["from"]), int(entry["to"]), int(entry["standby"])
    process = living[heir].process if heir in living else living[old].process if old in living else None
    cast = Cast(paths, old, heir, standby, process, living[standby].process if standby in living else None)
    try:
        winner = await outcome(cast, time.monotonic() + _WAIT)
    except GuestLost as lost:
        for generation in living.values():
            await end(generation.alive)
        return f"the guest is lost: {lost.cause}"
    remove_file(cast.state)
    was_running = bool(entry.get("was_running", True))
    if winner.number == old:
        return await _back(cast, living[old], winner, was_running)
    return await _forward(cast, winner, was_running)


async def _back(cast: Cast, old: Generation, winner: Winner, was_running: bool) -> str:
    try:
        await roll_back(cast.paths, old, winner.qmp, cast.standby_process, was_running)
    finally:
        await winner.qmp.close()
    return "went back to the old QEMU"


async def _forward(cast: Cast, winner: Winner, was_running: bool) -> str:
    await winner.qmp.close()
    replaced = winner.number == cast.heir
    process, loser = (cast.process, cast.standby_process) if replaced else (cast.standby_process, cast.process)
    if loser is not None and not await end(loser):
        raise HostmemError(
            f"A QEMU that has not got the guest (process {loser.pid}) cannot be killed.",
            cause="It is stuck in the kernel.",
            cure="See dmesg; the guest must never run twice.",
        )
    new = Generation(cast.paths.generation(winner.number), process, {})
    make_current(cast.paths, new)
    await go_on(new, was_running)
    return "finished the hand-over to the new QEMU" if replaced else "the guest goes on in the QEMU that stood by"
