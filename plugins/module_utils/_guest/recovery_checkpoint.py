# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finishing, or taking back, a save or a restore that was cut off. What lies on the disk decides, not what the program was about to do."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

from .._host.durable import sync_directory
from . import checkpoint_store
from .definition import parse_definition
from .errors import HostmemError
from .generations import Generation, forget_all, make_current
from .handover import end, set_normal
from .journal import RESTORED, RESTORING, SAVING
from .paths import GuestPaths
from .qmp import Qmp, connect
from .running_mark import mark_running, unmark_running
from .save_forward import finish_save
from .saving_qemu import go_on, has_let_go
from .suspend import wake_or_tell

_QUIT_TIMEOUT = 10.0


def concerns_checkpoint(paths: GuestPaths, entry: dict[str, Any] | None, living: list[Generation]) -> bool:
    """Whether a save or restore was cut off. A saved guest has no QEMU: one that lives is left over, or has not run yet."""
    steps = (SAVING, RESTORING, RESTORED)
    return bool(living) and (checkpoint_store.counts(paths) or (entry or {}).get("step") in steps)


async def recover_checkpoint(paths: GuestPaths, entry: dict[str, Any], living: list[Generation]) -> str:
    """The caller holds the verb lock.

    :raises HostmemError: a QEMU can neither go on nor be ended.
    """
    if checkpoint_store.counts(paths):
        sync_directory(paths.state)  # the save may have ended before its name was on the device
        for generation in living:
            await _dismiss_unasked(generation)
        _forget_running(paths)
        return "ended a QEMU of a guest that is saved"
    generation = living[-1]
    qmp = await connect(generation.paths.qmp)
    try:
        if entry.get("step") == SAVING and entry.get("asleep") and await has_let_go(qmp):
            await finish_save(paths, entry["files"])
            await dismiss(generation, qmp)
            _forget_running(paths)
            return "finished the save: a guest that sleeps cannot go on in a QEMU that has written its state"
        if entry.get("step") != SAVING and checkpoint_store.is_spent(paths):
            await _finish_restore(paths, generation, qmp, entry)
            outcome = "finished the restore"
        else:
            await _take_save_back(paths, generation, qmp, entry)
            outcome = "took the save back: the guest goes on"
        if entry.get("wake"):
            await wake_or_tell(paths.name, qmp)
    finally:
        await qmp.close()
    return outcome


def _forget_running(paths: GuestPaths) -> None:
    forget_all(paths)
    unmark_running(paths)


async def _dismiss_unasked(generation: Generation) -> None:
    try:
        qmp = await connect(generation.paths.qmp)
    except HostmemError:
        generation.alive.kill()
        return
    await dismiss(generation, qmp)
    await qmp.close()


async def dismiss(generation: Generation, qmp: Qmp) -> None:
    """End a QEMU whose guest is saved. By QMP first: systemd takes a QEMU that was killed for a crash, and starts the guest again.

    :raises HostmemError: it cannot be ended.
    """
    with suppress(HostmemError):
        await qmp.execute("quit")
    if not await _gone(generation) and not await end(generation.alive):
        raise HostmemError(
            f"QEMU (process {generation.alive.pid}) cannot be killed.",
            cause="It is stuck in the kernel.",
            cure="See dmesg.",
        )


async def _gone(generation: Generation) -> bool:
    deadline = time.monotonic() + _QUIT_TIMEOUT
    while not generation.alive.wait_gone(0.0):
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(0.002)
    return True


async def _finish_restore(paths: GuestPaths, generation: Generation, qmp: Qmp, entry: dict[str, Any]) -> None:
    if entry.get("step") != RESTORED:  # it was cut off in the middle of spending
        checkpoint_store.spend(paths, checkpoint_store.load_spent(paths))
    if entry.get("was_running", True) and await qmp.status() == "paused":
        await qmp.execute("cont")
    await set_normal(qmp)
    make_current(paths, generation)
    mark_running(paths, generation.number)
    checkpoint_store.forget_spent(paths, parse_definition(generation.record["definition"]))


async def _take_save_back(paths: GuestPaths, generation: Generation, qmp: Qmp, entry: dict[str, Any]) -> None:
    await go_on(qmp, entry.get("was_running", True), entry.get("parameters", {}))
    make_current(paths, generation)
    checkpoint_store.abandon(paths, parse_definition(generation.record["definition"]))
