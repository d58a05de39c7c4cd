# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the runtime keeps what belongs to one guest. Pure: no I/O."""

from __future__ import annotations

from dataclasses import dataclass

from .config import Config


@dataclass(frozen=True)
class GenerationPaths:
    """The files of one QEMU that carries, or carried, the guest."""

    number: int
    directory: str
    log_directory: str

    @property
    def qmp(self) -> str:
        return f"{self.directory}/qmp.sock"

    @property
    def cpr_socket(self) -> str:
        return f"{self.directory}/cpr.sock"

    @property
    def main_socket(self) -> str:
        return f"{self.directory}/main.sock"

    @property
    def device_state(self) -> str:
        """The guest's device state, on its way from one QEMU to another."""
        return f"{self.directory}/device-state"

    @property
    def record(self) -> str:
        """What this QEMU was started with."""
        return f"{self.directory}/generation.json"

    @property
    def output(self) -> str:
        """QEMU's stdout and stderr."""
        return f"{self.log_directory}/qemu-{self.number}.log"

    @property
    def debug_log(self) -> str:
        """Target of QEMU's -D."""
        return f"{self.log_directory}/qemu-{self.number}.debug.log"


@dataclass(frozen=True)
class GuestPaths:
    """All places of one guest."""

    name: str
    definition: str
    run: str
    log: str
    state: str

    @property
    def verb_lock(self) -> str:
        return f"{self.run}/verb.lock"

    @property
    def guest_lock(self) -> str:
        return f"{self.run}/guest.lock"

    @property
    def journal(self) -> str:
        return f"{self.run}/journal.json"

    @property
    def pid_file(self) -> str:
        return f"{self.run}/pid"

    @property
    def current(self) -> str:
        """Symbolic link to the live generation's directory."""
        return f"{self.run}/current"

    @property
    def request(self) -> str:
        """Options for the next reload of the unit."""
        return f"{self.run}/request.json"

    @property
    def result(self) -> str:
        """What the unit's last verb did."""
        return f"{self.run}/result.json"

    @property
    def followed_disks(self) -> str:
        """Disk images the guest moved to by snapshots; survives a reboot of the host."""
        return f"{self.state}/disks.json"

    @property
    def running_mark(self) -> str:
        """Says that the guest runs since some boot of the host; what is left of it after the next boot tells of a power cut."""
        return f"{self.state}/running.json"

    @property
    def moved_mark(self) -> str:
        """Says that the guest goes, or went, to another host; survives a reboot of this one."""
        return f"{self.state}/moved.json"

    @property
    def arrivals(self) -> str:
        """Directory: what became of each move to this host; survives a reboot."""
        return f"{self.state}/arrivals"

    @property
    def checkpoint(self) -> str:
        """Directory of a saved guest's device state and manifest."""
        return f"{self.state}/checkpoint"

    @property
    def unfinished_checkpoint(self) -> str:
        """The same while it is written: nothing counts that lies in it."""
        return f"{self.state}/checkpoint.new"

    @property
    def spent_checkpoint(self) -> str:
        """The same from the moment on in which the guest may run again: it must not be loaded a second time."""
        return f"{self.state}/checkpoint.spent"

    @property
    def spent_tokens(self) -> str:
        """Which checkpoints of the guest were spent or given up: a copy of one that is put back later is worth nothing."""
        return f"{self.state}/spent.json"

    def generation(self, number: int) -> GenerationPaths:
        return GenerationPaths(number, f"{self.run}/gen-{number}", self.log)


def guest_paths(config: Config, name: str) -> GuestPaths:
    """The places of one guest under this configuration."""
    return GuestPaths(
        name=name,
        definition=f"{config.definitions}/{name}.json",
        run=f"{config.run}/{name}",
        log=f"{config.log}/{name}",
        state=f"{config.state}/{name}",
    )
