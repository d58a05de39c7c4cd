# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The QEMUs that carry, or carried, a guest: their records, their processes, and which one is current."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .._host.files import read_plain, remove_file, write_json, write_text
from .._host.processes import Process, command_lines, process, sees_same_directory
from .errors import HostmemError
from .paths import GenerationPaths, GuestPaths

SCHEMA = 1
_DIRECTORY = re.compile(r"gen-(\d+)")
KEPT_LOGS = 5


@dataclass(frozen=True)
class Generation:
    """One QEMU of the guest. ``record`` is what it was started with: definition, argv (with placeholders), inventory, …"""

    paths: GenerationPaths
    process: Process | None
    record: dict[str, Any]

    @property
    def alive(self) -> Process:
        """The process of a generation whose QEMU was found alive.

        :raises HostmemError: it was not.
        """
        if self.process is None:
            raise HostmemError(
                f"Generation {self.number} has no QEMU.",
                cause="It ended after it had been looked for.",
                cure=f"See what it wrote ({self.paths.output}), and run this again: what is there is looked at anew.",
            )
        return self.process

    @property
    def number(self) -> int:
        return self.paths.number


def generation_numbers(paths: GuestPaths) -> list[int]:
    """Numbers of all generations that left a directory, ascending."""
    try:
        names = os.listdir(paths.run)
    except FileNotFoundError:
        return []
    matches = (_DIRECTORY.fullmatch(name) for name in names)
    return sorted(int(match.group(1)) for match in matches if match)


def next_number(paths: GuestPaths) -> int:
    """The number of the next generation: one more than any that has a directory or a log."""
    numbers = generation_numbers(paths) + log_numbers(paths)
    return max(numbers, default=-1) + 1


def log_numbers(paths: GuestPaths) -> list[int]:
    """Generations whose QEMU log still exists."""
    try:
        names = os.listdir(paths.log)
    except FileNotFoundError:
        return []
    return sorted({int(match.group(1)) for match in (re.match(r"qemu-(\d+)\.", name) for name in names) if match})


def carriers(run: str) -> Iterator[tuple[str, int, Process]]:
    """Guest, generation and process of every living QEMU with a QMP socket below the run directory: evidence, not records.

    QEMUs in containers have the same paths on their command lines, but see other directories there.
    """
    pattern = re.compile(re.escape(f"unix:{run}/") + r"([^/,]+)/gen-(\d+)/qmp\.sock,")
    for pid, words in command_lines():
        for before, word in zip(words, words[1:]):
            match = pattern.match(word) if before == "-qmp" else None
            alive = process(pid) if match and sees_same_directory(pid, run) else None
            if match and alive:
                yield match.group(1), int(match.group(2)), alive


def qemu_processes(paths: GuestPaths) -> dict[int, Process]:
    """The living QEMUs of the guest by generation."""
    run = os.path.dirname(paths.run)
    return {number: alive for name, number, alive in carriers(run) if name == paths.name}


def running_guests(run: str) -> list[str]:
    """Names of all guests that a QEMU carries, defined or not; ``run`` is the host's run directory."""
    return sorted({name for name, _number, _process in carriers(run)})


def load_generation(paths: GuestPaths, number: int, alive: Process | None) -> Generation:
    """A generation with its record (empty when it never got one)."""
    generation = paths.generation(number)
    try:
        record = json.loads(read_plain(generation.record))
    except (OSError, ValueError):
        record = None
    return Generation(generation, alive, record if isinstance(record, dict) else {})


def living_generations(paths: GuestPaths) -> list[Generation]:
    """All generations whose QEMU lives, oldest first."""
    return [load_generation(paths, number, alive) for number, alive in sorted(qemu_processes(paths).items())]


def make_generation(paths: GuestPaths, number: int) -> GenerationPaths:
    """An empty directory for a new generation."""
    generation = paths.generation(number)
    shutil.rmtree(generation.directory, ignore_errors=True)
    os.mkdir(generation.directory, 0o700)
    return generation


def save_record(generation: GenerationPaths, record: dict[str, Any]) -> None:
    """Keep what the generation runs."""
    write_json(generation.record, {"schema": SCHEMA, **record})


def prepare_current(paths: GuestPaths, generation: Generation) -> None:
    """Make what ``make_current`` will only have to rename, so that a full file system cannot stop it half-way.

    :raises OSError: it cannot be written; nothing has changed.
    """
    for path in _prepared(paths):
        remove_file(path)
    pid_file, current = _prepared(paths)
    write_text(pid_file, _pid_text(generation), 0o644)
    os.symlink(os.path.basename(generation.paths.directory), current)


def make_current(paths: GuestPaths, generation: Generation) -> None:
    """Point the PID file and the symbolic link ``current`` at this generation."""
    pid_file, current = _prepared(paths)
    if not _says(pid_file, current, generation):
        if _says(paths.pid_file, paths.current, generation):
            forget_prepared(paths)
            return
        if _says(pid_file, paths.current, generation):
            os.rename(pid_file, paths.pid_file)
            forget_prepared(paths)
            return
        prepare_current(paths, generation)
    os.rename(pid_file, paths.pid_file)
    os.rename(current, paths.current)


def prepare_to_lend(paths: GuestPaths, process: Process) -> None:
    """Make what ``lend_pid_file`` will only have to rename.

    :raises OSError: it cannot be written; nothing has changed.
    """
    write_text(_lent(paths), f"{process.pid}\n", 0o644)


def lend_pid_file(paths: GuestPaths) -> None:
    """Let the PID file name another QEMU until ``make_current``. systemd takes that for the unit's main process when the one it knows
    ends; with a file that names the ended one the unit has failed, and a reload that is under way ends with SIGTERM to all that is left
    of it (service_sigchld_event(), service_enter_running() in src/core/service.c, systemd 252 to 257).
    """
    os.rename(_lent(paths), paths.pid_file)


def forget_prepared(paths: GuestPaths) -> None:
    """Remove what was prepared for a generation that did not become current."""
    for path in (*_prepared(paths), _lent(paths)):
        remove_file(path)


def _prepared(paths: GuestPaths) -> tuple[str, str]:
    return f"{paths.pid_file}.next", f"{paths.current}.next"


def _lent(paths: GuestPaths) -> str:
    return f"{paths.pid_file}.lent"


def _pid_text(generation: Generation) -> str:
    return f"{generation.process.pid}\n" if generation.process else ""


def _says(pid_file: str, link: str, generation: Generation) -> bool:
    """Whether a PID file and a link lead to the generation."""
    try:
        with open(pid_file, encoding="ascii") as file:
            same = file.read() == _pid_text(generation)
        return same and os.readlink(link) == os.path.basename(generation.paths.directory)
    except OSError:
        return False


def forget_generation(paths: GuestPaths, number: int) -> None:
    """Remove a dead generation's directory, and the QEMU logs that are older than the last few."""
    shutil.rmtree(paths.generation(number).directory, ignore_errors=True)
    # The living one may be older than all of them, after updates that were called off.
    present = generation_numbers(paths)
    for old in [old for old in log_numbers(paths)[:-KEPT_LOGS] if old not in present]:
        remove_file(paths.generation(old).output)
        remove_file(paths.generation(old).debug_log)


def forget_dead(paths: GuestPaths) -> None:
    """Remove what generations left whose QEMU does not live."""
    living = qemu_processes(paths)
    for number in generation_numbers(paths):
        if number not in living:
            forget_generation(paths, number)


def forget_all(paths: GuestPaths) -> None:
    """Remove what the last QEMU of a stopped guest left."""
    for number in generation_numbers(paths):
        forget_generation(paths, number)
    forget_prepared(paths)
    for path in (paths.current, paths.pid_file):
        remove_file(path)
