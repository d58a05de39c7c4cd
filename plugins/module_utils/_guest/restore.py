# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restoring a saved guest: a new QEMU maps the memory that stayed in place and loads the device state beside it, once.

The checkpoint is spent right before the guest runs. What fails earlier leaves it as it was.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

from .._host.journald import log_record
from . import checkpoint_store
from .arguments import device_placeholders
from .checkpoint_checks import look, refuse_unlike, refuse_unsuitable
from .config import Config
from .definition import Definition
from .disks import followed_images
from .errors import CommandRefused, Refused
from .generations import (
    Generation,
    forget_generation,
    generation_numbers,
    living_generations,
    make_current,
    make_generation,
    next_number,
    prepare_current,
    save_record,
)
from .handover import set_normal
from .inventory import inventory
from .io_limits import carry_over
from .journal import RESTORED, RESTORING, Journal
from .locks import VerbLock, lock_for_cold_start
from .manifest import Manifest
from .nics import GuestTaps
from .paths import GuestPaths, guest_paths
from .qemu_binary import QemuBinary
from .qemu_process import QemuProcess, fill_placeholders, for_incoming, launch, with_images
from .qmp import Qmp, is_migration_over
from .recovery import recover_after, settled, unsettled_refused
from .running_mark import mark_running
from .saving_qemu import load_state, prepare_to_load
from .started import verify_memory, wait_for_qmp
from .suspend import wake_or_tell

VERB_WAIT = 60.0
START_TIMEOUT = 120.0
_SLOWEST = 8 << 20  # bytes of state per second


@dataclass(frozen=True)
class RestoreOptions:
    """``older``: the installed QEMU may be older than the one that saved the guest."""

    older: bool = False
    check: bool = False


async def restore(config: Config, name: str, options: RestoreOptions) -> dict[str, Any]:
    """Restore a saved guest. What needs root has been prepared before.

    :raises Refused: it does not fit what is here now; nothing has changed.
    :raises HostmemError: it failed; the guest is still saved, unless the message says otherwise.
    """
    paths = guest_paths(config, name)
    async with VerbLock(paths, VERB_WAIT):
        living = unsettled_refused(paths) if options.check else await settled(paths)
        if living:
            return {"changed": False, "generation": living[-1].number, "pid": living[-1].alive.pid}
        manifest = saved(paths)
        if manifest is None:
            raise Refused(f"Guest {name} is not saved.", cure="Start it.")
        return await restore_locked(config, paths, manifest, options)


def saved(paths: GuestPaths) -> Manifest | None:
    """The checkpoint to restore; None when there is none.

    :raises Refused: the guest was saved, but cannot be restored any more.
    """
    manifest = checkpoint_store.load(paths)
    if manifest is None:
        checkpoint_store.refuse_spent(paths)
    return manifest


async def restore_locked(
    config: Config, paths: GuestPaths, manifest: Manifest, options: RestoreOptions
) -> dict[str, Any]:
    """The same for a caller that holds the verb lock and has found no QEMU."""
    here = look(config, paths, manifest)
    refuse_unsuitable(here, options.older)
    if options.check:
        return {"changed": True}
    try:
        result = await _Restore(paths, manifest, here.definition, here.binary).run()
    except Exception as error:
        if Journal(paths).read() is None:
            raise
        # Cut off when the guest may have run: if it does, a failure would let systemd end it.
        await recover_after(paths, error)
        living = living_generations(paths)
        if not living or checkpoint_store.is_saved(paths) or checkpoint_store.is_spent(paths):
            raise
        log_record(f"Restore of guest {paths.name} finished late: {error}", 4, guest=paths.name, event="restore-late")
        result = _restored(manifest, here.binary, living[-1].number, living[-1].alive.pid)
    log_record(
        f"Guest {paths.name} restored after {result['asleep_seconds']:.0f} s",
        guest=paths.name,
        generation=result["generation"],
        event="restore",
    )
    return result


def _restored(manifest: Manifest, binary: QemuBinary, generation: int, pid: int) -> dict[str, Any]:
    """The result; ``asleep_seconds`` is how far the guest's clock is behind."""
    return {
        "changed": True,
        "how": "restored",
        "generation": generation,
        "pid": pid,
        "qemu": binary.as_dict(),
        "asleep_seconds": round(time.time() - manifest.saved_at, 3),
    }


class _Restore:
    """One attempt."""

    def __init__(self, paths: GuestPaths, manifest: Manifest, definition: Definition, binary: QemuBinary) -> None:
        self._paths = paths
        self._manifest = manifest
        self._definition = definition
        self._binary = binary
        self._journal = Journal(paths)
        self._number = next_number(paths)
        self._argv: list[str] = []
        self._timeout = START_TIMEOUT + manifest.state_size / _SLOWEST
        self._taps = GuestTaps(definition, 0)

    async def run(self) -> dict[str, Any]:
        """:raises HostmemError: the guest is still saved, unless it is spent."""
        for old in generation_numbers(self._paths):
            forget_generation(self._paths, old)
        self._write(RESTORING)
        qemu: QemuProcess | None = None
        try:
            qemu = self._launch()
            qmp = await wait_for_qmp(qemu, time.monotonic() + START_TIMEOUT)
            try:
                await self._compare(qemu, qmp)
                await self._load(qemu, qmp)
                return await self._go_on(qemu, qmp)
            finally:
                await qmp.close()
        except BaseException:
            if not checkpoint_store.is_spent(self._paths):
                self._undo(qemu)
            raise
        finally:
            self._taps.close()

    def _write(self, step: str) -> None:
        manifest = self._manifest
        facts = {"generation": self._number, "was_running": manifest.was_running, "wake": manifest.wake}
        self._journal.write(step, **facts, max_pause=self._timeout)

    def _undo(self, qemu: QemuProcess | None) -> None:
        if qemu is not None:
            qemu.end()
        forget_generation(self._paths, self._number)
        self._journal.clear()

    def _launch(self) -> QemuProcess:
        lock = lock_for_cold_start(self._paths)
        try:
            generation = make_generation(self._paths, self._number)
            self._argv = with_images(self._manifest.argv, followed_images(self._paths, self._definition))
            placeholders = {**self._taps.placeholders(), **device_placeholders(self._definition)}
            filled = fill_placeholders(self._argv, generation, placeholders)
            argv = [*for_incoming(filled, {}), "-incoming", "defer"]
            return launch(self._definition.qemu, argv, generation, [lock, *self._taps.descriptors])
        finally:
            os.close(lock)

    async def _compare(self, qemu: QemuProcess, qmp: Qmp) -> None:
        """The new QEMU against what the guest had when it was saved."""
        blocks = await verify_memory(qmp, qemu, self._definition)
        now = await inventory(qmp)
        await refuse_unlike(self._paths, self._manifest, now, qmp)
        await carry_over(self._manifest.inventory["io_limits"], qmp)
        record = {
            "definition": self._manifest.definition,
            "argv": self._argv,
            "inventory": now,
            "ram_blocks": blocks,
            "qemu": self._binary.as_dict(),
            "tap_slot": 0,
            "restored": {"saved_at": self._manifest.saved_at, "at": time.time()},
        }
        save_record(qemu.generation, record)

    async def _load(self, qemu: QemuProcess, qmp: Qmp) -> None:
        await prepare_to_load(qmp, self._manifest.ignore_shared)
        state = checkpoint_store.state_path(self._paths.checkpoint)
        await load_state(qmp, f"file:{state}", self._binary.version)
        over = await qmp.wait_event(is_migration_over, time.monotonic() + self._timeout)
        if over == "completed" and await qmp.status() == "paused":
            return
        answer = await qmp.migration()
        raise qemu.complaint(
            f"QEMU did not load the state of guest {self._paths.name}: {answer.get('error-desc') or answer.get('status')}."
        )

    async def _go_on(self, qemu: QemuProcess, qmp: Qmp) -> dict[str, Any]:
        """The state is spent before the guest runs; whatever happens then, it is never loaded to this memory again."""
        await set_normal(qmp)
        prepare_current(self._paths, Generation(qemu.generation, qemu.process, {}))
        try:
            checkpoint_store.spend(self._paths, self._manifest)
        except OSError:
            self._stays_saved(qemu)
            raise
        self._write(RESTORED)
        if self._manifest.was_running:
            await self._continue(qemu, qmp)
        make_current(self._paths, Generation(qemu.generation, qemu.process, {}))
        if self._manifest.wake:
            await wake_or_tell(self._paths.name, qmp)
        mark_running(self._paths, self._number)
        checkpoint_store.forget_spent(self._paths, self._definition)
        self._journal.clear()
        return _restored(self._manifest, self._binary, self._number, qemu.process.pid)

    async def _continue(self, qemu: QemuProcess, qmp: Qmp) -> None:
        self._taps.draw_traffic()
        try:
            await qmp.execute("cont")
        except CommandRefused:
            self._stays_saved(qemu)
            raise

    def _stays_saved(self, qemu: QemuProcess) -> None:
        """The guest has not run, and must not run any more in this QEMU."""
        qemu.end()
        checkpoint_store.unspend(self._paths, self._manifest)
