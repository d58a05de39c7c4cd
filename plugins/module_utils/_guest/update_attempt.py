# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every method of a live update does: journal, start of the new QEMU, comparison, hand-over, and the way back.

The steps are those of the journal. Before HANDOVER everything goes back to the old QEMU; from it on the new one has the guest.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import Any, TypeVar

from .._host.files import identity
from .._host.journald import log_record
from .._host.processes import Process, open_file_descriptor
from .arguments import device_placeholders
from .bitmaps import dirty_bitmaps, lost_bitmaps
from .comparison import Comparison, Side, compare
from .errors import CommandRefused, HostmemError, Refused
from .generations import (
    Generation,
    forget_generation,
    make_current,
    make_generation,
    next_number,
    prepare_current,
    save_record,
)
from .handover import end, roll_back, set_normal
from .io_limits import carry_over
from .journal import CONTINUED, HANDOVER, STARTED, STARTING, Journal
from .layout import layout
from .locks import lock_for_next_generation
from .nics import GuestTaps
from .paths import GenerationPaths, GuestPaths
from .preflight import Preflight
from .qemu_process import QemuProcess, fill_placeholders, for_incoming, launch, with_images
from .qmp import Qmp, is_migration_over
from .vcpus import vcpu_progress

_Answer = TypeVar("_Answer")

START_TIMEOUT = 30.0
STOP_TIMEOUT = 10.0


class Attempt(ABC):
    """One attempt, by a method. After a failed one the new QEMU is spent; the next attempt starts another."""

    def __init__(self, paths: GuestPaths, found: Preflight, qmp: Qmp, max_pause: float | None) -> None:
        """:param max_pause: in seconds; None for the definition's."""
        self.paths = paths
        self.found = found
        self.old = found.generation
        self.old_qmp = qmp
        self.max_pause = max_pause if max_pause is not None else found.definition.max_pause
        self.was_running = found.status == "running"
        self.number = next_number(paths)
        # The stored arguments are those of the next cold start too, so prealloc stays in them.
        self.argv = with_images(self.old.record["argv"], found.images)
        self.tap_slot = 1 - int(self.old.record.get("tap_slot", 0))
        self.warnings: list[str] = []
        self._journal = Journal(paths)
        self._taps: GuestTaps | None = None
        self._qemu: QemuProcess | None = None
        self._new: Qmp | None = None

    # --- what a method does

    @abstractmethod
    def incoming(self, generation: GenerationPaths) -> list[str]:
        """Arguments with which the new QEMU waits for the guest."""

    @abstractmethod
    def stays(self, block: str) -> bool:
        """Whether the RAMBlock of this name must lie in the same file in both QEMUs."""

    @abstractmethod
    async def offer(self, deadline: float) -> None:
        """Bring both QEMUs to where they can be compared, while the guest runs. ``new`` is the connection to the new one then."""

    @abstractmethod
    async def move(self) -> None:
        """Pause the guest and give it to the new QEMU, which has it, paused, afterwards.

        :raises HostmemError: it has not.
        """

    def journal_facts(self) -> dict[str, Any]:
        """What a recovery has to know; ``to`` is the generation that gets the guest."""
        return {"from": self.old.number, "to": self.number}

    async def go_back(self, new: Process) -> None:
        """After a failure before HANDOVER: end the new QEMU, let the guest go on in the old one."""
        await roll_back(self.paths, self.old, self.old_qmp, new, self.was_running)

    async def before_continuing(self) -> None:
        """What has to be done between HANDOVER and ``cont``; by default nothing."""
        return

    async def end_loser(self) -> None:
        """End the QEMU that has not got the guest, which must never run it."""
        await end(self.old.alive)

    def left_behind(self) -> list[int]:
        """Generations whose directories are of no use when the guest has moved."""
        return [self.old.number]

    # --- what they share

    @property
    def qemu(self) -> QemuProcess:
        """The QEMU that gets the guest."""
        if self._qemu is None:
            raise _out_of_order("There is no new QEMU yet.")
        return self._qemu

    @property
    def new(self) -> Qmp:
        """The connection to the new QEMU, once there is one."""
        if self._new is None:
            raise _out_of_order("The new QEMU is not connected yet.")
        return self._new

    def connected(self, qmp: Qmp) -> None:
        """The new QEMU answers."""
        self._new = qmp

    async def heir(self, qemu: QemuProcess, qmp: Qmp) -> None:
        """Another QEMU gets the guest."""
        if self._new is not None:
            await self._new.close()
        self._qemu, self._new = qemu, qmp

    def write(self, step: str) -> None:
        """A step of the journal."""
        self._journal.write(step, **self.journal_facts(), was_running=self.was_running, max_pause=self.max_pause)

    async def run(self) -> dict[str, Any]:
        """:raises HostmemError: the guest runs on in the old QEMU."""
        self.write(STARTING)
        try:
            self._qemu = self._launch()
            prepare_current(self.paths, Generation(self.qemu.generation, self.qemu.process, {}))
            self.write(STARTED)
            await self.offer(time.monotonic() + START_TIMEOUT)
            await self._compare()
            await self.move()
            self.write(HANDOVER)
        except BaseException as error:
            await self._give_up(error)
            raise
        finally:
            if self._taps is not None:
                self._taps.close()
        try:
            return await self._finish()
        finally:
            await self.new.close()  # QEMU serves one client at a time: a recovery could not ask it anything

    def _launch(self) -> QemuProcess:
        self._taps = GuestTaps(self.found.definition, self.tap_slot)
        generation = make_generation(self.paths, self.number)
        argv = self.arguments(generation, self._taps.placeholders(), self.old.alive.pid) + self.incoming(generation)
        lock = lock_for_next_generation(self.paths)
        try:
            return launch(self.found.definition.qemu, argv, generation, [lock, *self._taps.descriptors])
        finally:
            os.close(lock)

    def arguments(self, generation: GenerationPaths, taps: dict[str, str], holder: int) -> list[str]:
        """The arguments of a QEMU that takes the guest over, but for ``-incoming``.

        :param taps: descriptors, by placeholder.
        :param holder: PID of a QEMU that has the guest's memory mapped while the new one starts.
        """
        placeholders = {**taps, **device_placeholders(self.found.definition)}
        return for_incoming(fill_placeholders(self.argv, generation, placeholders), self._other_paths(holder))

    def _other_paths(self, holder: int) -> dict[str, str]:
        """RAM files that have no name (mode=temp), or whose name was taken away: reached through a QEMU's descriptor.

        memory-backend-file is opened by path again in the new QEMU; its descriptor is not handed over.
        """
        found = {}
        blocks = {block["name"]: block["file"] for block in self.old.record["ram_blocks"]}
        for placed in layout(self.found.definition):
            mapped = blocks.get(placed.block.id)
            if placed.block.backing == "memfd" or mapped is None:
                continue
            device = os.makedev(*mapped["device"])
            if (identity(placed.place) or (0, 0))[1] == mapped["inode"]:
                continue
            descriptor = open_file_descriptor(holder, device, mapped["inode"])
            if descriptor is None:
                raise Refused(
                    f"The RAM file of block {placed.block.id} cannot be reached any more.",
                    cause=f"{mapped['path']} is gone.",
                    cure="Restart the guest.",
                )
            found[placed.block.id] = f"/proc/{holder}/fd/{descriptor}"
        return found

    async def _compare(self) -> None:
        old, new = Side(self.old_qmp, self.old.alive), Side(self.new, self.qemu.process)
        await carry_over(self.found.live["io_limits"], self.new)
        compared = await compare(old, self.found.live, new, self.stays)
        if compared.differences:
            raise Refused(
                f"The new QEMU for guest {self.paths.name} is not like the running one: {'; '.join(compared.differences)}.",
                cause="QEMU would fail to load the guest while it is paused, or lose data without a word.",
                cure="Undo the change, or restart the guest.",
            )
        self.keep_record(self.qemu.generation, compared, self.tap_slot)

    def keep_record(self, generation: GenerationPaths, compared: Comparison, tap_slot: int) -> None:
        """What the generation runs, for later updates."""
        record = {
            "definition": self.old.record["definition"],
            "argv": self.argv,
            "inventory": compared.inventory,
            "ram_blocks": compared.ram_blocks,
            "qemu": self.found.installed.as_dict(),
            "tap_slot": tap_slot,
        }
        save_record(generation, record)

    async def paused(self) -> float:
        """Wait until the guest is paused, as by now it is to be; the end of the allowed pause (monotonic).

        :raises HostmemError: the old QEMU does not pause it.
        """
        if self.was_running and not await self.old_qmp.wait_event(
            lambda event: event.get("event") == "STOP", time.monotonic() + STOP_TIMEOUT
        ):
            raise HostmemError(
                "The old QEMU did not begin the transfer.",
                cause=f"It did not stop the guest within {STOP_TIMEOUT:.0f} s.",
                cure="See whether the guest's disks answer and what else its host does (dmesg, vmstat), then update it again.",
            )
        return time.monotonic() + self.max_pause

    def draw_traffic(self) -> None:
        """While the guest is paused: its network's frames go to the new taps, where they wait."""
        if self.was_running and self._taps is not None:
            self._taps.draw_traffic()

    async def sent(self, pause_end: float) -> None:
        """Wait until the old QEMU has given everything away.

        :raises HostmemError: it failed, or would take too long.
        """
        how = await self.old_qmp.wait_event(is_migration_over, pause_end)
        if how == "completed":
            return
        answer = await self.old_qmp.migration()
        if how:
            raise self.qemu.complaint(f"The transfer failed: {answer.get('error-desc', how)}.")
        raise self.too_long(f"The transfer was still {answer.get('status')}; it was called off.")

    def too_long(self, cause: str) -> HostmemError:
        """The error of a pause that comes to its limit."""
        return HostmemError(
            f"The guest would have been paused for more than {self.max_pause} s.",
            cause=cause,
            cure="Look for load on the host, or allow a longer max_pause.",
            qemu=self.qemu.complaint("").qemu,
        )

    async def of_new(self, answer: Awaitable[_Answer], pause_end: float) -> _Answer:
        """What the new QEMU answers within the allowed pause.

        :raises HostmemError: it does not.
        """
        try:
            return await asyncio.wait_for(answer, max(pause_end - time.monotonic(), 0.0))
        except asyncio.TimeoutError:
            raise self.qemu.complaint("The new QEMU did not finish loading in time.") from None

    async def loaded(self, pause_end: float) -> None:
        """Wait until the new QEMU has loaded everything. Both must say completed, and the new one must be paused: only then
        does it have the guest.

        :raises HostmemError: it has not.
        """
        how = await self.new.wait_event(is_migration_over, pause_end)
        if not how:
            raise self.qemu.complaint("The new QEMU did not finish loading in time.")
        # Asked at the same time, as the guest is paused.
        answer, status = await asyncio.gather(
            self.old_qmp.migration(), self.of_new(self.new.status(), max(pause_end, time.monotonic() + 0.1))
        )
        if how != "completed":
            reason = (await self.new.migration()).get("error-desc", how)
            raise self.qemu.complaint(f"The new QEMU could not load the guest: {reason}.")
        if answer.get("status") != "completed" or status != "paused":
            raise self.qemu.complaint(
                f"The old QEMU says {answer.get('status')} after the transfer, the new one {status}, not paused."
            )

    async def _give_up(self, error: BaseException) -> None:
        """Back to the old QEMU; what the new one wrote becomes part of the error, as the old one's reason misleads."""
        qemu = self._qemu
        if isinstance(error, HostmemError) and qemu is not None and not error.qemu and not isinstance(error, Refused):
            error.qemu = qemu.complaint("").qemu
        if self._new is not None:
            await self._new.close()
        if qemu is None:
            forget_generation(self.paths, self.number)
            self._journal.clear()
            return
        await self.go_back(qemu.process)
        log_record(
            f"Live update of guest {self.paths.name} called off: {error}",
            4,
            guest=self.paths.name,
            event="update-failed",
            generation=self.old.number,
        )

    async def _finish(self) -> dict[str, Any]:
        """The guest is the new QEMU's: continue it there, then end the loser, which must never run it again."""
        new = Generation(self.qemu.generation, self.qemu.process, {})
        await self.before_continuing()
        if self.was_running:
            await self._go_on(new)
        with contextlib.suppress(OSError):  # a full file system: HANDOVER says enough to a recovery
            self.write(CONTINUED)
        make_current(self.paths, new)
        await self.end_loser()
        pause = await self._pause()
        await set_normal(self.new)
        progress = await vcpu_progress(self.new, self.qemu.process) if self.was_running else None
        self.warnings += await self._lost_bitmaps()
        for number in self.left_behind():
            forget_generation(self.paths, number)
        self._journal.clear()
        return {**self._report(pause, progress), "warnings": self.warnings}

    async def _go_on(self, new: Generation) -> None:
        """Continue the guest. While the loser lives, an image can still be locked by a node that a finished commit job left in it."""
        try:
            await self.new.execute("cont")
        except CommandRefused:
            make_current(self.paths, new)  # see lend_pid_file
            await self.end_loser()
            await self.new.execute("cont")

    async def _lost_bitmaps(self) -> list[str]:
        """Persistent dirty bitmaps that did not arrive: nothing brings them back, but backups must not go on as if they were there.

        A guest that stays paused has not taken its images yet, and with them the bitmaps.
        """
        before = self.found.bitmaps
        lost = lost_bitmaps(before, await dirty_bitmaps(self.new)) if before and self.was_running else []
        for sentence in lost:
            log_record(sentence, 4, guest=self.paths.name, generation=self.qemu.generation.number, event="bitmap-lost")
        return lost

    async def _pause(self) -> float | None:
        """Milliseconds from the old QEMU's STOP to the new one's RESUME, by the host's clock in both events."""
        if not self.was_running:
            return None
        stopped = self.old_qmp.event_time("STOP")
        await self.new.wait_event(lambda event: event.get("event") == "RESUME", time.monotonic() + 1.0)
        resumed = self.new.event_time("RESUME")
        return round((resumed - stopped) * 1000, 2) if stopped and resumed else None

    def _report(self, pause: float | None, progress: bool | None) -> dict[str, Any]:
        old = ".".join(str(part) for part in self.found.running_version)
        number = self.qemu.generation.number
        log_record(
            f"Guest {self.paths.name} moved from QEMU {old} to {self.found.installed.version_text} in {pause} ms",
            guest=self.paths.name,
            generation=number,
            event="update",
            pause_ms=pause,
        )
        return {
            "changed": True,
            "generation": number,
            "pid": self.qemu.process.pid,
            "pause_ms": pause,
            **both_qemus(self.found, number),
            "vcpu_progress": progress,
        }


def both_qemus(found: Preflight, new: int) -> dict[str, Any]:
    """Which QEMU the guest leaves, and which it goes to, for results."""
    running = ".".join(str(part) for part in found.running_version)
    return {
        "from": {"generation": found.generation.number, "version": running, "package": found.running_package},
        "to": {"generation": new, "version": found.installed.version_text, "package": found.installed.package},
    }


def unix_channel(kind: str, path: str) -> dict[str, Any]:
    """One entry of ``channels`` of migrate and migrate-incoming (MigrationChannel, qapi/migration.json)."""
    return {"channel-type": kind, "addr": {"transport": "socket", "type": "unix", "path": path}}


def _out_of_order(what: str) -> HostmemError:
    """A fault of this program, which nobody can mend on the host."""
    return HostmemError(
        what,
        cause="The steps of the update came in the wrong order: hostmem.qemu is at fault.",
        cure="Report it with the journal of the guest's unit. The guest goes on in its old QEMU.",
    )
