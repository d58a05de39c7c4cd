# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Live update by cpr-exec (QEMU >= 10.2): the guest's QEMU replaces itself by the new program, in the same process.

QEMU has no way back then: a new program that ends takes the guest with it. So a standby is started first, exactly as for a
transfer: the old QEMU hands it the descriptors of all memory, both are compared, and the transfer is called off at the last moment.
It proves that the new program can be what the old one is, and it keeps the memory. See exec_outcome for who goes on after a failure.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from .._host.files import remove_file
from .._host.processes import Process
from .comparison import Comparison
from .errors import CommandRefused, HostmemError
from .exec_outcome import MODE, Cast, outcome
from .generations import Generation, lend_pid_file, make_generation, prepare_current, prepare_to_lend
from .handover import cancel, end, roll_back, set_capabilities, set_mode
from .inherited_taps import inherited_taps
from .journal import INCOMING
from .paths import GenerationPaths, GuestPaths
from .preflight import Preflight
from .qemu_process import QemuProcess, command_line, qemu_output
from .qmp import Qmp
from .update_by_transfer import Transfer


class Exec(Transfer):
    """What the transfer starts is the standby here; the heir is the old QEMU's own process."""

    def __init__(self, paths: GuestPaths, found: Preflight, qmp: Qmp, max_pause: float | None) -> None:
        super().__init__(paths, found, qmp, max_pause)
        self._heir_paths = paths.generation(self.number)
        self.number += 1
        self._standby: QemuProcess | None = None
        self._undecided = False
        self._winner = self.old.number

    def journal_facts(self) -> dict[str, Any]:
        return {"from": self.old.number, "to": self._heir_paths.number, "standby": self.number}

    def keep_record(self, generation: GenerationPaths, compared: Comparison, tap_slot: int) -> None:
        """The heir is what the standby is, but for the taps."""
        super().keep_record(generation, compared, tap_slot)
        make_generation(self.paths, self._heir_paths.number)
        super().keep_record(self._heir_paths, compared, 1 - tap_slot)

    async def move(self) -> None:
        """The guest is paused by hand, so that no QEMU continues it by itself, not even when the new program cannot be run."""
        self._standby = self.qemu
        command = self._command()
        with suppress(FileNotFoundError):  # QEMU goes on writing where the old one's stderr goes
            remove_file(self._heir_paths.output)
            os.link(self.old.paths.output, self._heir_paths.output)
        prepare_current(self.paths, Generation(self._heir_paths, self.old.alive, {}))
        prepare_to_lend(self.paths, self.qemu.process)
        await cancel(self.old_qmp)
        await set_capabilities(self.new, ("events",))
        await set_mode(self.old_qmp, MODE, ("events",))
        await self.old_qmp.send("migrate-set-parameters", {"cpr-exec-command": command})
        self._insist_on_standby()
        await self.new.close()  # whoever lets the standby load the guest connects anew
        self.write(INCOMING)
        if self.was_running:
            await self.old_qmp.execute("stop")
        pause_end = await self.paused()
        lend_pid_file(self.paths)  # not before: a guest that runs can end its QEMU, and the unit with it
        await self._replace()
        won = await outcome(self._cast(), pause_end, self.old_qmp)
        self._winner, self._undecided = won.number, False
        if won.number == self.old.number:
            reason = (await self.old_qmp.migration()).get("error-desc", "it was called off")
            raise HostmemError(
                f"The old QEMU did not replace itself: {reason}.",
                cure="It goes on with the guest. Mend what it complains of, or update the guest by another method.",
                qemu=qemu_output(self.old.paths),
            )
        if won.number == self.number:
            self._tell_of_standby()
            self.draw_traffic()
            await self.heir(self._standby, won.qmp)
        else:
            await self.heir(QemuProcess(self._heir_paths, self.old.alive), won.qmp)

    def _command(self) -> list[str]:
        """The command of the heir. It waits for the guest: without -incoming the new program would boot the guest anew."""
        taps = inherited_taps(self.found.definition, self.old.alive.pid, 1 - self.tap_slot)
        argv = self.arguments(self._heir_paths, taps, self.qemu.process.pid)
        return incoming_command(command_line(self.found.definition.qemu, argv, self._heir_paths))

    def _insist_on_standby(self) -> None:
        if self.qemu.ended():
            raise self.qemu.complaint("The QEMU that is to stand by ended.")

    async def _replace(self) -> None:
        self._undecided = True
        try:
            uri = f"file:{self.qemu.generation.device_state}"
            await self.old_qmp.execute("migrate", uri=uri)
        except CommandRefused:
            self._undecided = False
            raise
        except HostmemError:
            pass  # the answer can be cut off by the replacement itself

    def _cast(self) -> Cast:
        return Cast(
            self.paths,
            self.old.number,
            self._heir_paths.number,
            self.number,
            self.old.alive,
            self._standby.process if self._standby else None,
        )

    def _tell_of_standby(self) -> None:
        self.warnings.append(
            f"The new program ended, or hung, in process {self.old.alive.pid}, in which it replaced the old QEMU. The QEMU"
            f" that stood by goes on with the guest, in a process of its own."
        )

    async def go_back(self, new: Process) -> None:
        """To the old QEMU, if it still is what it was. Otherwise the journal stays, and a recovery decides from evidence."""
        if self._undecided or self._winner != self.old.number:
            return
        remove_file(self._cast().state)
        await roll_back(self.paths, self.old, self.old_qmp, new, self.was_running)
        await self.old_qmp.send("migrate-set-parameters", {"cpr-exec-command": []})

    async def before_continuing(self) -> None:
        """From here on the guest can have run: nobody may load its old state any more."""
        remove_file(self._cast().state)

    async def end_loser(self) -> None:
        if self._standby is not None and self._winner != self.number:
            await end(self._standby.process)

    def left_behind(self) -> list[int]:
        return sorted({self.old.number, self._heir_paths.number, self.number} - {self._winner})


def incoming_command(words: list[str]) -> list[str]:
    """A command that can only wait for a guest.

    :raises HostmemError: it would do something else.
    """
    command = [*words, "-incoming", "defer"]
    if command.count("-incoming") != 1 or "-S" not in command:
        raise HostmemError(
            "This command would not just wait for the guest.", cause=" ".join(command), cure="Report this."
        )
    return command
