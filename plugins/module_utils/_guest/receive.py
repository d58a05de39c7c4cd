# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The destination of a move between hosts: a QEMU is made ready for the guest, and the source is waited for."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

from .arguments import device_placeholders
from .arrival import Arrival, Progress
from .config import Config
from .definition import Definition
from .device_names import resolved
from .disks import followed_images
from .errors import Refused
from .generations import (
    Generation,
    forget_generation,
    generation_numbers,
    make_generation,
    next_number,
    prepare_current,
    save_record,
)
from .inventory import inventory
from .journal import ARRIVING, Journal
from .lifecycle import START_TIMEOUT, check_machine, check_memory
from .locks import VerbLock, lock_for_cold_start
from .move_credentials import find_credentials, refuse_names_in_clear
from .nics import GuestTaps
from .paths import GuestPaths, guest_paths
from .qemu_binary import probe
from .qemu_process import QemuProcess, fill_placeholders, for_incoming, launch, with_images
from .recovery import recover_after, settled
from .saved_guest import refuse_kept
from .started import verify_memory, wait_for_qmp
from .store import StoredGuest, load_guest

VERB_WAIT = 60.0


@dataclass(frozen=True)
class ReceiveOptions:
    """Where the source is waited for, and for how many seconds. ``port`` 0 lets the kernel choose; ``plain``: in clear, without TLS;
    ``expected``: a name in its certificate, empty for any."""

    address: str
    port: int = 0
    plain: bool = False
    timeout: float = 120.0
    expected: str = ""


async def receive(config: Config, name: str, options: ReceiveOptions) -> dict[str, Any]:
    """Take a guest from another host. What needs root has been prepared before.

    :raises Refused: it cannot come here.
    :raises HostmemError: it did not come; nothing of the attempt is left.
    """
    paths = guest_paths(config, name)
    guest = load_guest(paths)
    async with VerbLock(paths, VERB_WAIT):
        if await settled(paths):
            raise Refused(
                f"Guest {name} runs here already.", cure="Stop it here first, if it is to come from another host."
            )
        refuse_kept(paths, guest.definition)
        try:
            return await _receive(config, paths, guest, options)
        except Exception as error:
            await recover_after(paths, error)
            raise


async def _receive(config: Config, paths: GuestPaths, guest: StoredGuest, options: ReceiveOptions) -> dict[str, Any]:
    refuse_names_in_clear(options.plain, options.expected)
    tls = "" if options.plain else config.tls
    find_credentials(tls)
    binary = probe(guest.definition.qemu, f"{config.run}/.probe")
    check_machine(guest, binary.machines, binary.version_text)
    definition = resolved(guest.definition)
    check_memory(definition)
    for old in generation_numbers(paths):
        forget_generation(paths, old)
    number = next_number(paths)
    progress = Progress(number, options.address, options.port, tls, options.expected)
    taps = GuestTaps(definition, 0)
    try:
        Journal(paths).write(ARRIVING, generation=number)
        argv = with_images(guest.argv, followed_images(paths, definition))
        qemu = _launch(paths, definition, number, argv, taps)
        qmp = await wait_for_qmp(qemu, time.monotonic() + START_TIMEOUT)
        try:
            generation = Generation(qemu.generation, qemu.process, {})
            record = {
                "definition": guest.definition.as_dict(),
                "argv": argv,
                "inventory": await inventory(qmp),
                "ram_blocks": await verify_memory(qmp, qemu, definition),
                "qemu": binary.as_dict(),
                "tap_slot": 0,
            }
            save_record(qemu.generation, record)
            prepare_current(paths, generation)
            return await Arrival(paths, generation, qmp, progress, definition, binary, taps).run(options.timeout)
        finally:
            await qmp.close()
    finally:
        taps.close()


def _launch(paths: GuestPaths, definition: Definition, number: int, argv: list[str], taps: GuestTaps) -> QemuProcess:
    lock = lock_for_cold_start(paths)
    try:
        generation = make_generation(paths, number)
        filled = fill_placeholders(argv, generation, {**taps.placeholders(), **device_placeholders(definition)})
        words = [*for_incoming(filled, {}), "-incoming", "defer"]
        return launch(definition.qemu, words, generation, [lock, *taps.descriptors])
    finally:
        os.close(lock)
