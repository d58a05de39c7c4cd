# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Starting a guest anew and stopping it."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from .._host.journald import log_record
from .._host.service_manager import still_at_work
from .arguments import device_placeholders
from .config import Config
from .definition import Definition, parse_definition
from .device_names import resolved
from .disks import followed_images, live_images, remember_images
from .errors import HostmemError
from .generations import (
    Generation,
    forget_all,
    forget_generation,
    generation_numbers,
    living_generations,
    make_current,
    make_generation,
    next_number,
    save_record,
)
from .inventory import inventory
from .journal import COLD_STARTING, COLD_VERIFIED, Journal
from .layout import layout
from .locks import VerbLock, lock_for_cold_start
from .move_progress import move_under_way
from .nics import GuestTaps
from .paths import GuestPaths, guest_paths
from .qemu_binary import probe
from .qemu_process import QemuProcess, fill_placeholders, launch, with_images
from .qmp import Qmp, connect
from .recovery import settled
from .restore import RestoreOptions, restore_locked, saved
from .running_mark import mark_running, unmark_running, went_down
from .saved_guest import refuse_start_anew
from .started import verify_memory, wait_for_qmp
from .store import StoredGuest, load_guest
from .torn_guest import refuse_to_tear

START_TIMEOUT = 120.0
VERB_WAIT = 60.0


async def start(config: Config, name: str, options: RestoreOptions) -> dict[str, Any]:
    """Start a guest, unless a QEMU carries it already: a saved one is restored. What needs root has been prepared before.

    :raises HostmemError: it does not run then, and nothing of the attempt is left.
    """
    paths = guest_paths(config, name)
    guest = load_guest(paths)
    async with VerbLock(paths, VERB_WAIT):
        living = await settled(paths)
        if living:
            return {"changed": False, "generation": living[-1].number, "pid": living[-1].alive.pid}
        manifest = saved(paths)
        if manifest is not None:
            return await restore_locked(config, paths, manifest, options)
        refuse_start_anew(paths, guest.definition)
        return await _cold_start(config, paths, guest)


async def _cold_start(config: Config, paths: GuestPaths, guest: StoredGuest) -> dict[str, Any]:
    journal = Journal(paths)
    binary = probe(guest.definition.qemu, f"{config.run}/.probe")
    check_machine(guest, binary.machines, binary.version_text)
    on_host = resolved(guest.definition)
    check_memory(on_host)
    number = next_number(paths)
    for old in generation_numbers(paths):
        forget_generation(paths, old)
    images = followed_images(paths, guest.definition)
    argv = with_images(guest.argv, images)
    lock = lock_for_cold_start(paths)
    try:
        journal.write(COLD_STARTING, generation=number)
        qemu = _launch(paths, on_host, number, argv, lock)
    except BaseException:
        forget_generation(paths, number)
        journal.clear()
        raise
    finally:
        os.close(lock)
    generation = qemu.generation
    try:
        qmp = await wait_for_qmp(qemu, time.monotonic() + START_TIMEOUT)
        blocks = await verify_memory(qmp, qemu, on_host)
        save_record(
            generation,
            {
                "definition": guest.definition.as_dict(),
                "argv": argv,
                "inventory": await inventory(qmp),
                "ram_blocks": blocks,
                "qemu": binary.as_dict(),
                "tap_slot": 0,
            },
        )
        remember_images(paths, guest.definition, images)
        journal.write(COLD_VERIFIED, generation=number)
        await qmp.execute("cont")
        make_current(paths, Generation(generation, qemu.process, {}))
        mark_running(paths, number)
        journal.clear()
        await qmp.close()
    except BaseException:
        _undo(paths, qemu, journal)
        raise
    log_record(
        f"Guest {paths.name} started in QEMU {binary.version_text}", guest=paths.name, generation=number, event="start"
    )
    return {"changed": True, "how": "started", "generation": number, "pid": qemu.process.pid, "qemu": binary.as_dict()}


def _launch(paths: GuestPaths, definition: Definition, number: int, argv: list[str], lock: int) -> QemuProcess:
    taps = GuestTaps(definition, 0)
    try:
        generation = make_generation(paths, number)
        filled = fill_placeholders(argv, generation, {**taps.placeholders(), **device_placeholders(definition)})
        return launch(definition.qemu, filled, generation, [lock, *taps.descriptors])
    finally:
        taps.close()


def check_machine(guest: StoredGuest, machines: list[str], version: str) -> None:
    """:raises HostmemError: the installed QEMU has not the guest's machine type."""
    if guest.definition.machine not in machines:
        raise HostmemError(
            f"QEMU {version} at {guest.definition.qemu} has no machine type {guest.definition.machine}.",
            cure=f"Choose one of: {', '.join(item for item in machines if item.startswith(guest.definition.machine.rpartition('-')[0]))}.",
        )


def check_memory(definition: Definition) -> None:
    """With systemd a start is prepared by a program before this one, and QEMU would make a file that is missing by itself.

    :raises HostmemError: one is missing.
    """
    for placed in layout(definition):
        if placed.path and not os.path.exists(placed.path):
            raise HostmemError(
                f"{placed.path}, memory of guest {definition.name}, is not there.",
                cause="It was dropped after this start had been prepared, as when a saved guest is discarded meanwhile.",
                cure=f"Start the guest again: hostmem start {definition.name}",
            )


def _undo(paths: GuestPaths, qemu: QemuProcess, journal: Journal) -> None:
    qemu.end()
    forget_generation(paths, qemu.generation.number)
    journal.clear()


async def stop(
    config: Config, name: str, timeout: float, wait: float = VERB_WAIT, in_move: bool = False
) -> dict[str, Any]:
    """ACPI power-down, after ``timeout`` seconds quit, at last SIGKILL. Afterwards no QEMU carries the guest.

    :param wait: seconds to wait for another verb that does not get on.
    :param in_move: also a QEMU that has a part of a guest which runs on another host; that is lost then.
    :raises HostmemError: a QEMU could not even be killed.
    """
    paths = guest_paths(config, name)
    async with VerbLock(paths, wait):
        living = await _settled_for_stop(paths, in_move)
        if not living:
            if not went_down(paths):  # it ended by itself
                unmark_running(paths)
            Journal(paths).clear()
            return {"changed": False, "how": "stopped already"}
        hows = [await _end(paths, generation, timeout) for generation in living]
        forget_all(paths)
        unmark_running(paths)
        Journal(paths).clear()
    log_record(f"Guest {name} stopped ({hows[-1]})", guest=name, event="stop")
    return {"changed": True, "how": hows[-1]}


async def _settled_for_stop(paths: GuestPaths, in_move: bool) -> list[Generation]:
    """Of a move that the other host would have to settle, and does not, nothing is left here either. Its mark stays, by which that host can
    be asked later.

    :raises Refused: the guest needs its QEMU here, unless it is to be ended ``in_move``.
    """
    try:
        return await settled(paths)
    except HostmemError as error:
        if not move_under_way(paths):
            raise
        if not in_move:
            await refuse_to_tear(paths, living_generations(paths), str(error))
        log_record(f"Guest {paths.name} is stopped in the middle of a move: {error}", 4, guest=paths.name, event="stop")
        return living_generations(paths)


async def _end(paths: GuestPaths, generation: Generation, timeout: float) -> str:
    try:
        qmp = await connect(generation.paths.qmp)
    except HostmemError:
        qmp = None
    how = "killed"
    if qmp is not None:
        await _remember_disks(paths, generation, qmp)
        how = await _end_by_qmp(generation, qmp, timeout)
        await qmp.close()
    if not generation.alive.kill():
        raise HostmemError(
            f"QEMU (process {generation.alive.pid}) cannot be killed.",
            cause="It is stuck in the kernel.",
            cure="See the kernel's log (dmesg).",
        )
    return how


async def _remember_disks(paths: GuestPaths, generation: Generation, qmp: Qmp) -> None:
    """A snapshot taken since the last update moved a disk: the next start has to open the overlay."""
    try:
        definition = parse_definition(generation.record.get("definition"))
        if definition.disks:
            remember_images(paths, definition, live_images(definition, await inventory(qmp)))
    except HostmemError:
        pass  # the guest is to end in any case


async def _end_by_qmp(generation: Generation, qmp: Qmp, timeout: float) -> str:
    try:
        if await qmp.status() == "running" and timeout > 0:
            await qmp.execute("system_powerdown")
            if await _gone(generation, timeout):
                return "powered down"
        await qmp.execute("quit")
    except HostmemError:
        pass  # it may have gone in between
    return "quit" if await _gone(generation, 10.0) else "killed"


async def _gone(generation: Generation, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if generation.alive.wait_gone(0):
            return True
        still_at_work()
        await asyncio.sleep(0.05)
    return not generation.alive.alive()
