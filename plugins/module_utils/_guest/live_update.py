# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Live update: a running guest moves into the installed QEMU by cpr-transfer (QEMU >= 10.0), losing some milliseconds.

The steps are those of the journal. Before HANDOVER everything goes back to the old QEMU; from it on the new one has the guest.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from dataclasses import dataclass
from typing import Any

from .._host.files import identity
from .._host.journald import log_record
from .._host.processes import open_file_descriptor
from .arguments import device_placeholders
from .bitmaps import dirty_bitmaps, lost_bitmaps
from .comparison import Side, compare
from .config import Config
from .disks import remember_images
from .errors import CommandRefused, HostmemError, Refused
from .generations import (
    Generation,
    forget_generation,
    living_generations,
    make_current,
    make_generation,
    next_number,
    prepare_current,
    save_record,
)
from .handover import end, roll_back, set_capabilities, set_transfer_mode
from .io_limits import carry_over
from .journal import CONTINUED, HANDOVER, INCOMING, MIGRATING, STARTED, STARTING, Journal
from .layout import layout
from .locks import VerbLock, lock_for_next_generation
from .nics import GuestTaps
from .outdated import outdated_reasons
from .paths import GuestPaths, guest_paths
from .preflight import Preflight, preflight
from .qemu_process import QemuProcess, fill_placeholders, for_incoming, launch, with_images
from .qmp import Qmp, connect, is_migration_over
from .recovery import recover_locked, settled
from .slots import UpdateSlot
from .started import wait_for_qmp, wait_for_socket
from .vcpus import vcpu_progress

START_TIMEOUT = 30.0
STOP_TIMEOUT = 10.0
VERB_WAIT = 120.0


@dataclass(frozen=True)
class UpdateOptions:
    """``max_pause`` in seconds, None for the definition's; ``parallel`` 0 for the host's number."""

    force: bool = False
    check: bool = False
    max_pause: float | None = None
    parallel: int = 0


async def update(config: Config, name: str, options: UpdateOptions) -> dict[str, Any]:
    """Move a guest into the installed QEMU, if it runs in another one (or always, with ``force``).

    :raises Refused: it cannot be done; the guest was not paused.
    :raises HostmemError: it failed; the guest runs on in the old QEMU.
    """
    paths = guest_paths(config, name)
    with VerbLock(paths, VERB_WAIT):
        living = await settled(paths)
        if not living:
            raise Refused(f"Guest {name} does not run.", cure="Start it; it then runs in the installed QEMU.")
        try:
            return await _update_from(config, paths, living[0], options)
        except Exception as error:
            if Journal(paths).read() is not None:  # cut off beyond what the attempt itself could take back
                outcome = await recover_locked(paths, living_generations(paths))
                if isinstance(error, HostmemError):
                    error.cause = f"{error.cause} Recovery: {outcome['outcome']}.".strip()
            raise


async def _update_from(config: Config, paths: GuestPaths, old: Generation, options: UpdateOptions) -> dict[str, Any]:
    qmp = await connect(old.paths.qmp)
    try:
        return await _update(config, paths, old, qmp, options)
    finally:
        await qmp.close()


async def _update(
    config: Config, paths: GuestPaths, old: Generation, qmp: Qmp, options: UpdateOptions
) -> dict[str, Any]:
    if "definition" not in old.record:
        raise Refused(
            f"Guest {paths.name}: the record of its QEMU is missing ({old.paths.record}).", cure="Restart the guest."
        )
    began = time.monotonic()
    async with UpdateSlot(config, options.parallel):
        found = await preflight(config, old, qmp)
        reasons = outdated_reasons(found, old.alive)
        # Of a QEMU that is missing nothing is known: that is refused below.
        if found.installed.inode and not reasons and not options.force:
            return {"changed": False, "generation": old.number, "reason": "already runs in the installed QEMU"}
        found.refuse()
        if options.check:
            return {
                "changed": True,
                "generation": old.number,
                "reason": "; ".join(reasons) or "forced",
                **_both_qemus(found, old.number, next_number(paths)),
            }
        # Where the disks are now is true whichever QEMU has the guest in the end.
        remember_images(paths, found.definition, found.images)
        result = await Transfer(paths, found, qmp, options.max_pause).run()
    return {**result, "reason": "; ".join(reasons) or "forced", "total_ms": round((time.monotonic() - began) * 1000, 1)}


class Transfer:
    """One attempt. After a failed one the new QEMU is spent; the next attempt starts another."""

    def __init__(self, paths: GuestPaths, found: Preflight, qmp: Qmp, max_pause: float | None) -> None:
        self._paths = paths
        self._old = found.generation
        self._old_process = found.generation.alive
        self._old_qmp = qmp
        self._found = found
        self._max_pause = max_pause if max_pause is not None else found.definition.max_pause
        self._was_running = found.status == "running"
        self._journal = Journal(paths)
        self._number = next_number(paths)
        self._argv: list[str] = []
        self._tap_slot = 1 - int(self._old.record.get("tap_slot", 0))
        self._taps: GuestTaps | None = None
        self._new_qmp: Qmp | None = None

    async def run(self) -> dict[str, Any]:
        """:raises HostmemError: the guest runs on in the old QEMU."""
        self._write(STARTING)
        qemu: QemuProcess | None = None
        try:
            qemu = self._launch()
            prepare_current(self._paths, Generation(qemu.generation, qemu.process, {}))
            self._write(STARTED)
            await self._offer(qemu)
            await self._compare(qemu)
            pause_end = await self._take()
            await self._confirm(qemu, pause_end)
            self._write(HANDOVER)
        except BaseException as error:
            await self._give_up(qemu, error)
            raise
        finally:
            if self._taps is not None:
                self._taps.close()
        try:
            return await self._finish(qemu)
        finally:
            await self._new.close()  # QEMU serves one client at a time: a recovery could not ask it anything

    @property
    def _new(self) -> Qmp:
        """The connection to the new QEMU, once there is one."""
        if self._new_qmp is None:
            raise HostmemError("The new QEMU is not connected yet.")
        return self._new_qmp

    def _write(self, step: str) -> None:
        facts = {"from": self._old.number, "to": self._number, "was_running": self._was_running}
        self._journal.write(step, **facts, max_pause=self._max_pause)

    def _launch(self) -> QemuProcess:
        self._taps = GuestTaps(self._found.definition, self._tap_slot)
        generation = make_generation(self._paths, self._number)
        # The stored arguments are those of the next cold start too, so prealloc stays in them.
        self._argv = with_images(self._old.record["argv"], self._found.images)
        placeholders = {**self._taps.placeholders(), **device_placeholders(self._found.definition)}
        filled = fill_placeholders(self._argv, generation, placeholders)
        argv = for_incoming(filled, self._other_paths())
        argv += ["-incoming", "defer", "-incoming", json.dumps(_channel("cpr", generation.cpr_socket))]
        lock = lock_for_next_generation(self._paths)
        try:
            return launch(self._found.definition.qemu, argv, generation, [lock, *self._taps.descriptors])
        finally:
            os.close(lock)

    def _other_paths(self) -> dict[str, str]:
        """RAM files that have no name (mode=temp), or whose name was taken away: reached through the old QEMU's descriptor.

        memory-backend-file is opened by path again in the new QEMU; its descriptor is not handed over.
        """
        found = {}
        blocks = {block["name"]: block["file"] for block in self._old.record["ram_blocks"]}
        for placed in layout(self._found.definition):
            mapped = blocks.get(placed.block.id)
            if placed.block.backing == "memfd" or mapped is None:
                continue
            device = os.makedev(*mapped["device"])
            if (identity(placed.place) or (0, 0))[1] == mapped["inode"]:
                continue
            descriptor = open_file_descriptor(self._old_process.pid, device, mapped["inode"])
            if descriptor is None:
                raise Refused(
                    f"The RAM file of block {placed.block.id} cannot be reached any more.",
                    cause=f"{mapped['path']} is gone.",
                    cure="Restart the guest.",
                )
            found[placed.block.id] = f"/proc/{self._old_process.pid}/fd/{descriptor}"
        return found

    async def _offer(self, qemu: QemuProcess) -> None:
        """The old QEMU sends the descriptors; the guest still runs, since nobody has opened the main channel."""
        deadline = time.monotonic() + START_TIMEOUT
        generation = qemu.generation
        await wait_for_socket(qemu, generation.cpr_socket, deadline)
        await set_transfer_mode(self._old_qmp, "cpr-transfer", True)
        self._write(MIGRATING)
        channels = [_channel("main", generation.main_socket), _channel("cpr", generation.cpr_socket)]
        await self._old_qmp.execute("migrate", channels=channels)
        self._new_qmp = await wait_for_qmp(qemu, deadline)
        await set_capabilities(self._new, True)

    async def _compare(self, qemu: QemuProcess) -> None:
        old, new = Side(self._old_qmp, self._old_process), Side(self._new, qemu.process)
        await carry_over(self._found.live["io_limits"], self._new)
        compared = await compare(old, self._found.live, new)
        if compared.differences:
            raise Refused(
                f"The new QEMU for guest {self._paths.name} is not like the running one: {'; '.join(compared.differences)}.",
                cause="QEMU would fail to load the guest while it is paused, or lose data without a word.",
                cure="Undo the change, or restart the guest.",
            )
        record = {
            "definition": self._old.record["definition"],
            "argv": self._argv,
            "inventory": compared.inventory,
            "ram_blocks": compared.ram_blocks,
            "qemu": self._found.installed.as_dict(),
            "tap_slot": self._tap_slot,
        }
        save_record(qemu.generation, record)

    async def _take(self) -> float:
        """From here the guest pauses: the new QEMU opens the main channel. Returns the end of the allowed pause (monotonic)."""
        self._write(INCOMING)
        path = self._paths.generation(self._number).main_socket
        await self._new.execute("migrate-incoming", channels=[_channel("main", path)], exit_on_error=False)
        if self._was_running and not await self._old_qmp.wait_event(
            lambda event: event.get("event") == "STOP", time.monotonic() + STOP_TIMEOUT
        ):
            raise HostmemError(
                "The old QEMU did not begin the transfer.",
                cause=f"It did not stop the guest within {STOP_TIMEOUT:.0f} s.",
            )
        if self._was_running and self._taps is not None:
            self._taps.draw_traffic()
        return time.monotonic() + self._max_pause

    async def _confirm(self, qemu: QemuProcess, pause_end: float) -> None:
        """Both must say completed, and the new QEMU must be paused: only then does it have the guest."""
        sent = await self._old_qmp.wait_event(is_migration_over, pause_end)
        if sent == "completed" and await self._new.wait_event(is_migration_over, pause_end) == "completed":
            # Asked at the same time, as the guest is paused.
            answer, status = await asyncio.gather(self._old_qmp.migration(), self._new.status())
            if answer.get("status") == "completed" and status == "paused":
                return
            raise qemu.complaint(
                f"The old QEMU says {answer.get('status')} after the transfer, the new one {status}, not paused."
            )
        if sent == "completed":
            raise qemu.complaint("The new QEMU did not finish loading in time.")
        answer = await self._old_qmp.migration()
        if sent:
            raise qemu.complaint(f"The transfer failed: {answer.get('error-desc', sent)}.")
        raise HostmemError(
            f"The guest would have been paused for more than {self._max_pause} s.",
            cause=f"The transfer was still {answer.get('status')}; it was called off.",
            cure="Look for load on the host, or allow a longer max_pause.",
            qemu=qemu.complaint("").qemu,
        )

    async def _give_up(self, qemu: QemuProcess | None, error: BaseException) -> None:
        """Back to the old QEMU; what the new one wrote becomes part of the error, as the old one's reason misleads."""
        if isinstance(error, HostmemError) and qemu is not None and not error.qemu and not isinstance(error, Refused):
            error.qemu = qemu.complaint("").qemu
        if self._new_qmp is not None:
            await self._new_qmp.close()
        if qemu is None:
            forget_generation(self._paths, self._number)
            self._journal.clear()
            return
        await roll_back(self._paths, self._old, self._old_qmp, qemu.process, self._was_running)
        log_record(
            f"Live update of guest {self._paths.name} called off: {error}",
            4,
            guest=self._paths.name,
            event="update-failed",
            generation=self._old.number,
        )

    async def _finish(self, qemu: QemuProcess) -> dict[str, Any]:
        """The guest is the new QEMU's: continue it there, then end the old one, which must never run it again."""
        new = Generation(qemu.generation, qemu.process, {})
        if self._was_running:
            await self._go_on()
        with contextlib.suppress(OSError):  # a full file system: HANDOVER says enough to a recovery
            self._write(CONTINUED)
        make_current(self._paths, new)
        await end(self._old_process)
        pause = await self._pause()
        await set_transfer_mode(self._new, "normal", False)
        progress = await vcpu_progress(self._new, qemu.process) if self._was_running else None
        lost = await self._lost_bitmaps()
        forget_generation(self._paths, self._old.number)
        self._journal.clear()
        return {**self._report(qemu, pause, progress), "warnings": lost}

    async def _go_on(self) -> None:
        """Continue the guest. While the old QEMU lives, an image can still be locked by a node that a finished commit job left in it."""
        try:
            await self._new.execute("cont")
        except CommandRefused:
            await end(self._old_process)
            await self._new.execute("cont")

    async def _lost_bitmaps(self) -> list[str]:
        """Persistent dirty bitmaps that did not arrive: nothing brings them back, but backups must not go on as if they were there.

        A guest that stays paused has not taken its images yet, and with them the bitmaps.
        """
        before = self._found.bitmaps
        lost = lost_bitmaps(before, await dirty_bitmaps(self._new)) if before and self._was_running else []
        for sentence in lost:
            log_record(sentence, 4, guest=self._paths.name, generation=self._number, event="bitmap-lost")
        return lost

    async def _pause(self) -> float | None:
        """Milliseconds from the old QEMU's STOP to the new one's RESUME, by the host's clock in both events."""
        if not self._was_running:
            return None
        stopped = self._old_qmp.event_time("STOP")
        await self._new.wait_event(lambda event: event.get("event") == "RESUME", time.monotonic() + 1.0)
        resumed = self._new.event_time("RESUME")
        return round((resumed - stopped) * 1000, 2) if stopped and resumed else None

    def _report(self, qemu: QemuProcess, pause: float | None, progress: bool | None) -> dict[str, Any]:
        old = ".".join(str(part) for part in self._found.running_version)
        new = self._found.installed
        log_record(
            f"Guest {self._paths.name} moved from QEMU {old} to {new.version_text} in {pause} ms",
            guest=self._paths.name,
            generation=self._number,
            event="update",
            pause_ms=pause,
        )
        return {
            "changed": True,
            "generation": self._number,
            "pid": qemu.process.pid,
            "pause_ms": pause,
            **_both_qemus(self._found, self._old.number, self._number),
            "vcpu_progress": progress,
        }


def _both_qemus(found: Preflight, old: int, new: int) -> dict[str, Any]:
    """Which QEMU the guest leaves, and which it goes to, for results."""
    running = ".".join(str(part) for part in found.running_version)
    return {
        "from": {"generation": old, "version": running, "package": found.running_package},
        "to": {"generation": new, "version": found.installed.version_text, "package": found.installed.package},
    }


def _channel(kind: str, path: str) -> dict[str, Any]:
    return {"channel-type": kind, "addr": {"transport": "socket", "type": "unix", "path": path}}
