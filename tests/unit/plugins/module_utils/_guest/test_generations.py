# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and numbers of a guest's generations."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest import generations
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.paths import GuestPaths


@pytest.fixture
def paths(tmp_path: Path) -> GuestPaths:
    """A guest's places, with empty directories."""
    found = GuestPaths("web1", *(str(tmp_path / name) for name in ("web1.json", "run", "log", "state")))
    for directory in (found.run, found.log):
        Path(directory).mkdir()
    return found


def make(paths: GuestPaths, *names: str) -> None:
    """Directories in the run directory, and files in the log directory."""
    for name in names:
        if name.endswith(".log"):
            (Path(paths.log) / name).touch()
        else:
            (Path(paths.run) / name).mkdir()


def test_the_first_generation_is_number_0(paths: GuestPaths) -> None:
    assert generations.generation_numbers(paths) == []
    assert generations.next_number(paths) == 0


def test_no_directory_yet(paths: GuestPaths) -> None:
    Path(paths.run).rmdir()
    Path(paths.log).rmdir()
    assert (generations.generation_numbers(paths), generations.log_numbers(paths)) == ([], [])
    assert generations.next_number(paths) == 0


def test_numbers_are_sorted_as_numbers(paths: GuestPaths) -> None:
    make(paths, "gen-10", "gen-9", "gen-100", "gen-x", "gen-", "xgen-7", "gen-8.old", "qemu-11.log")
    assert generations.generation_numbers(paths) == [9, 10, 100]


@pytest.mark.parametrize(
    ("names", "wanted"),
    [(["gen-3"], 4), (["qemu-7.log", "gen-3"], 8), (["qemu-2.log", "gen-3"], 4), (["qemu-7.debug.log"], 8)],
)
def test_a_number_is_never_used_twice(paths: GuestPaths, names: list[str], wanted: int) -> None:
    make(paths, *names)
    assert generations.next_number(paths) == wanted


def test_consoles_logs_are_no_generations(paths: GuestPaths) -> None:
    make(paths, "console-c0.log", "console-qemu-9.log", "qemu-1.log", "qemu-1.debug.log", "qemu-x.log")
    assert generations.log_numbers(paths) == [1]


def test_a_new_generation_is_empty_and_only_its_users(paths: GuestPaths) -> None:
    make(paths, "gen-2", "gen-2/left")
    made = generations.make_generation(paths, 2)
    assert made == paths.generation(2)
    assert list(Path(made.directory).iterdir()) == []
    assert Path(made.directory).stat().st_mode & 0o777 == 0o700


def test_the_last_logs_are_kept(paths: GuestPaths) -> None:
    make(paths, "gen-0", *(f"qemu-{number}.log" for number in range(12)), "qemu-1.debug.log", "console-c0.log")
    generations.forget_generation(paths, 0)
    assert generations.generation_numbers(paths) == []
    assert generations.log_numbers(paths) == list(range(12))[-generations.KEPT_LOGS :]
    assert (Path(paths.log) / "console-c0.log").exists()


def test_a_generation_without_a_record(paths: GuestPaths) -> None:
    make(paths, "gen-1")
    generation = generations.load_generation(paths, 1, None)
    assert (generation.number, generation.record, generation.process) == (1, {}, None)


def test_a_record_is_read_back(paths: GuestPaths) -> None:
    make(paths, "gen-1")
    generations.save_record(paths.generation(1), {"argv": ["-S"]})
    assert generations.load_generation(paths, 1, None).record == {"schema": generations.SCHEMA, "argv": ["-S"]}
