# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a QEMU is told before it saves its guest or loads a saved one, and how it is brought back when it did not save it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from .errors import HostmemError
from .handover import BANDWIDTH, cancel, set_mode, set_normal
from .qmp import Qmp

MODE = "cpr-reboot"
# Migration parameters that a save changes, to be kept until its end.
CHANGED = ("max-bandwidth",)
# A guest in one of these needs nothing but its own time: one that is suspended wakes when it is told to.
_ON = ("running", "suspended")
_REST_TIMEOUT = 10.0


async def prepare_to_save(qmp: Qmp, ignore_shared: bool) -> None:
    """See ``CHANGED``."""
    await qmp.execute("migrate-set-parameters", max_bandwidth=BANDWIDTH)
    await prepare_to_load(qmp, ignore_shared)


async def prepare_to_load(qmp: Qmp, ignore_shared: bool) -> None:
    """Both sides of a checkpoint need the same mode and capabilities."""
    await set_mode(qmp, MODE, ("events", "x-ignore-shared") if ignore_shared else ("events",))


async def load_state(qmp: Qmp, uri: str, version: tuple[int, int, int]) -> None:
    """Let QEMU begin to load a state. Before 9.1 it ends when it cannot (MigrateIncoming, qapi/migration.json)."""
    stays = {"exit-on-error": False} if version >= (9, 1, 0) else {}
    await qmp.send("migrate-incoming", {"uri": uri, **stays})


async def go_on(qmp: Qmp, was_running: bool, kept: dict[str, Any]) -> None:
    """Let the guest go on in the QEMU that was to save it; what that has written is worth nothing from here on.

    :param kept: parameters of before, by ``CHANGED``.
    :raises HostmemError: it does not.
    """
    status = await _at_rest(qmp)
    if was_running and status not in _ON:
        await qmp.execute("cont")
        deadline = time.monotonic() + 10.0
        while (status := await qmp.status()) not in _ON:
            if time.monotonic() >= deadline:
                raise HostmemError(
                    f"QEMU does not let the guest go on: it is {status}.",
                    cure="Mend what stopped it (io-error: a disk that is full or gone); then tell QEMU to continue: QMP cont.",
                )
            await asyncio.sleep(0.01)
    await set_normal(qmp)
    if kept:
        await qmp.send("migrate-set-parameters", kept)


async def has_let_go(qmp: Qmp) -> bool:
    """Whether QEMU has written the whole state of its guest. One that sleeps cannot go on there any more: what it is told to do then
    ends QEMU (``invalid runstate transition: 'postmigrate' -> 'suspended'``, runstate_set() in system/runstate.c, QEMU 10.0 to 11.1).

    :raises HostmemError: it does not come to rest.
    """
    return await _at_rest(qmp) == "postmigrate"


async def _at_rest(qmp: Qmp) -> str:
    """The guest's status without a migration under way. QEMU tells that one has completed before it has come to rest."""
    await cancel(qmp)
    deadline = time.monotonic() + _REST_TIMEOUT
    while (status := await qmp.status()) == "finish-migrate":
        if time.monotonic() >= deadline:
            raise HostmemError(
                "QEMU does not come to rest after a migration.", cure="See what it said (hostmem info tells where)."
            )
        await asyncio.sleep(0.002)
    return status
