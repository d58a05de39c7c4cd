# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The two ends of an interrupted or finished hand-over: back to the old QEMU, or forward to the new one.

Both first end the loser and only then continue the winner, so that two running copies cannot exist.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from typing import Any

from .._host.files import remove_file
from .._host.processes import Process
from .errors import HostmemError
from .generations import Generation, forget_dead, make_current
from .journal import Journal
from .paths import GuestPaths
from .qmp import Qmp, connect

_CANCEL_TIMEOUT = 30.0
# Every status of a migration that is neither over nor refused (MigrationStatus, qapi/migration.json, QEMU 10.0 to 11.1).
_UNDER_WAY = frozenset(("setup", "active", "device", "wait-unplug", "pre-switchover", "cancelling", "failing", "colo"))
# What the methods of a live update turn on; all are off in a guest's QEMU between two updates, as by default.
CAPABILITIES = ("return-path", "events", "x-ignore-shared")
# Bytes per second: QEMU's own limit (128 MiB/s) is for networks of old.
BANDWIDTH = 1 << 40


async def set_mode(qmp: Qmp, mode: str, capabilities: Collection[str]) -> None:
    """Migration mode, and which of our capabilities are on."""
    await qmp.execute("migrate-set-parameters", mode=mode)
    await set_capabilities(qmp, capabilities)


async def set_capabilities(qmp: Qmp, on: Collection[str], known: Collection[str] = CAPABILITIES) -> None:
    """These of the ``known`` capabilities on, the others off.

    return-path: without it the source reports success as soon as the bytes are in the socket. events: no polling.
    x-ignore-shared: memory in shared, named files is not copied.
    """
    wanted = [{"capability": name, "state": name in on} for name in known]
    await qmp.execute("migrate-set-capabilities", capabilities=wanted)


async def kept_parameters(qmp: Qmp, names: Collection[str]) -> dict[str, Any]:
    """Migration parameters that are about to be changed, as the guest's QEMU has them: to be put back."""
    now = await qmp.execute("query-migrate-parameters")
    return {name: now[name] for name in names}


async def blocked_reasons(qmp: Qmp, mode: str) -> list[str]:
    """QEMU's own blockers for a migration mode. They show only while it is set, so it is set and put back."""
    await qmp.execute("migrate-set-parameters", mode=mode)
    try:
        return [str(reason) for reason in (await qmp.migration()).get("blocked-reasons", [])]
    finally:
        await qmp.execute("migrate-set-parameters", mode="normal")


async def set_normal(qmp: Qmp) -> None:
    """As a guest's QEMU is between two live updates."""
    await set_mode(qmp, "normal", ())


async def end(process: Process, wait: float = 10.0) -> bool:
    """SIGKILL, and wait until it is gone (seconds), while the updates of other guests go on. True when it is gone."""
    deadline = time.monotonic() + wait
    gone = process.kill(0.0)
    while not gone and time.monotonic() < deadline:
        await asyncio.sleep(0.002)
        gone = process.wait_gone(0.0)
    return gone


async def roll_back(paths: GuestPaths, old: Generation, qmp: Qmp, new: Process | None, was_running: bool) -> None:
    """End the new QEMU (if it lives), then let the guest go on in the old one.

    :raises HostmemError: the old QEMU cannot be brought to run.
    """
    if new is not None and not await end(new):
        raise HostmemError(
            f"The new QEMU (process {new.pid}) cannot be killed.",
            cause="It is stuck in the kernel.",
            cure="See dmesg; the guest stays paused, as it must never run twice.",
        )
    await cancel(qmp)
    if was_running and await qmp.status() != "running":
        await qmp.execute("cont")
    await set_normal(qmp)
    make_current(paths, old)
    forget_dead(paths)
    Journal(paths).clear()


async def cancel(qmp: Qmp) -> None:
    """Cancel a migration that is under way and wait until QEMU has taken it back."""
    deadline = time.monotonic() + _CANCEL_TIMEOUT
    status = str((await qmp.migration()).get("status", "none"))
    while status in _UNDER_WAY:
        if time.monotonic() >= deadline:
            raise HostmemError(
                f"QEMU did not cancel the migration within {_CANCEL_TIMEOUT:.0f} s (status {status}).",
                cure="Run: hostmem recover " + qmp.path.split("/")[-3],
            )
        if status not in ("cancelling", "failing"):
            await qmp.execute("migrate_cancel")
        await asyncio.sleep(0.002)
        status = str((await qmp.migration()).get("status", "none"))


async def roll_forward(paths: GuestPaths, old: Process, new: Generation, was_running: bool) -> None:
    """End the old QEMU, then let the guest go on in the new one (if it does not yet).

    :raises HostmemError: the new QEMU does not have the guest.
    """
    make_current(paths, new)
    if not await end(old):
        raise HostmemError(
            f"The old QEMU (process {old.pid}) cannot be killed.",
            cause="It is stuck in the kernel.",
            cure="See dmesg; the guest must never run twice.",
        )
    await go_on(new, was_running)
    Journal(paths).clear()


async def go_on(new: Generation, was_running: bool) -> None:
    """Let the guest run in the QEMU that has it, if it does not yet. Device state on its way is spent before that.

    :raises HostmemError: QEMU does not answer.
    """
    qmp = await connect(new.paths.qmp)
    try:
        remove_file(new.paths.device_state)
        if was_running and await qmp.status() != "running":
            await qmp.execute("cont")
        await set_normal(qmp)
    finally:
        await qmp.close()
