# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RAM files in real directories: made, kept, emptied, removed, and left alone while a process maps them."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.backing_files import (
    apply_absent,
    apply_present,
    plan_absent,
    plan_present,
)
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.backing_state import file_state
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.errors import Refused

from .ram_files import ME, MEBIBYTE, block, make, mapped


@pytest.fixture(name="directory", params=["/dev/shm", "/var/tmp"])
def fixture_directory(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory that does not exist yet, in a tmpfs and in a file system on disk."""
    base = tempfile.mkdtemp(prefix="hostmem-unit-", dir=request.param)
    yield Path(base) / "guest"
    shutil.rmtree(base)


def mode(path: Path | str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_a_new_file_and_its_directory_are_their_owners_alone(directory: Path) -> None:
    wanted = block(directory)
    assert make(wanted).changed
    assert wanted.path == f"{directory}/qemu_back_mem.0+100000.ram0"
    assert (mode(wanted.path), mode(directory)) == (0o600, 0o700)
    assert os.stat(wanted.path).st_size == MEBIBYTE


def test_nothing_changes_a_second_time(directory: Path) -> None:
    wanted = block(directory)
    make(wanted)
    assert not plan_present([wanted], ME, fresh=False).changed
    assert not plan_present([wanted], ME, fresh=True).changed


def test_a_plan_alone_changes_nothing(directory: Path) -> None:
    plan = plan_present([block(directory)], ME, fresh=True)
    assert plan.changed
    assert not directory.exists()
    assert plan.diff()["before"][str(directory)] == {"state": "absent"}
    assert plan.diff()["after"][str(directory)]["mode"] == "0700"


def test_wrong_modes_are_corrected_and_shown(directory: Path) -> None:
    wanted = block(directory)
    make(wanted)
    os.chmod(wanted.path, 0o644)
    os.chmod(directory, 0o755)
    plan = plan_present([wanted], ME, fresh=False)
    assert plan.diff()["before"][wanted.path]["mode"] == "0644"
    assert plan.diff()["before"][str(directory)]["mode"] == "0755"
    apply_present(plan, ME)
    assert (mode(wanted.path), mode(directory)) == (0o600, 0o700)


def test_a_cold_start_does_not_see_the_old_content(directory: Path) -> None:
    wanted = block(directory)
    make(wanted)
    with open(wanted.path, "r+b") as file:
        file.write(b"secret" * 1000)
    assert not make(wanted, fresh=False).changed
    assert Path(wanted.path).read_bytes()[:6] == b"secret"
    assert make(wanted, fresh=True).changed
    assert Path(wanted.path).read_bytes() == bytes(MEBIBYTE)


@pytest.mark.parametrize("length", [4096, 2 * MEBIBYTE])
def test_a_file_of_another_length_is_made_anew_for_a_cold_start_only(directory: Path, length: int) -> None:
    wanted = block(directory)
    make(wanted)
    os.truncate(wanted.path, length)
    with pytest.raises(Refused, match=f"{length} bytes long instead of {MEBIBYTE}"):
        plan_present([wanted], ME, fresh=False)
    make(wanted, fresh=True)
    assert os.stat(wanted.path).st_size == MEBIBYTE


def test_open_demands_the_very_file_and_lists_near_misses(directory: Path) -> None:
    make(block(directory), block(directory, offset=MEBIBYTE, id="ram1"))
    make(block(directory, mode="open"))
    with pytest.raises(Refused) as refusal:
        plan_present([block(directory, mode="open", size=2 * MEBIBYTE)], ME, fresh=False)
    assert "does not exist" in refusal.value.message
    assert "qemu_back_mem.0+100000.ram0 (other size)" in refusal.value.cause
    assert "qemu_back_mem.100000+100000.ram1 (other offset, size, name)" in refusal.value.cause


def test_open_refuses_another_length(directory: Path) -> None:
    wanted = block(directory, mode="open")
    make(block(directory))
    os.truncate(wanted.path, 4096)
    with pytest.raises(Refused, match="4096 bytes long") as refusal:
        plan_present([wanted], ME, fresh=True)
    assert "length 4096" in refusal.value.cause


def test_open_keeps_the_content_for_a_cold_start(directory: Path) -> None:
    wanted = block(directory, mode="open")
    make(block(directory))
    Path(wanted.path).write_bytes(b"kept" + bytes(MEBIBYTE - 4))
    assert not make(wanted, fresh=True).changed
    assert Path(wanted.path).read_bytes()[:4] == b"kept"


def test_a_mapped_file_is_neither_removed_nor_emptied_nor_cut(directory: Path) -> None:
    wanted = block(directory)
    make(wanted)
    with open(wanted.path, "r+b") as file:
        file.write(b"memory" * 1000)
        os.fsync(file.fileno())
    with mapped(wanted.path) as pid:
        assert file_state(wanted.path).mapped_by == (pid,)
        for attempt in (
            lambda: plan_absent([wanted]),
            lambda: plan_present([wanted], ME, fresh=True),
        ):
            with pytest.raises(Refused, match=f"mapped by process {pid}"):
                attempt()
        os.truncate(wanted.path, 2 * MEBIBYTE)
        with pytest.raises(Refused, match="mapped by process"):
            plan_present([wanted], ME, fresh=False)
        os.truncate(wanted.path, MEBIBYTE)
        assert not plan_present([wanted], ME, fresh=False).changed
    assert Path(wanted.path).read_bytes()[:6] == b"memory"


def test_a_file_mapped_after_the_plan_was_made_is_left_alone(directory: Path) -> None:
    wanted = block(directory)
    make(wanted)
    plan = plan_absent([wanted])
    with mapped(wanted.path), pytest.raises(Refused, match="mapped by process"):
        apply_absent(plan)
    assert os.path.exists(wanted.path)


def test_removal_takes_the_directory_with_the_last_file(directory: Path) -> None:
    first, second = block(directory), block(directory, offset=MEBIBYTE, id="ram1")
    make(first, second)
    plan = plan_absent([first])
    assert plan.diff()["after"][str(directory)]["state"] == "directory"
    apply_absent(plan)
    assert directory.exists()
    plan = plan_absent([first, second])
    assert plan.diff()["after"][str(directory)] == {"state": "absent"}
    apply_absent(plan)
    assert not directory.exists()
    assert not plan_absent([first, second]).changed


def test_removal_overwrites_what_a_disk_would_keep() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as base:
        wanted = block(Path(base) / "guest")
        make(wanted)
        with open(wanted.path, "r+b") as file:
            file.write(b"secret" * 1000)
            file.flush()
            apply_absent(plan_absent([wanted]))
            file.seek(0)
            assert file.read() == bytes(MEBIBYTE)


def test_a_link_or_second_name_is_refused(directory: Path) -> None:
    wanted = block(directory)
    make(wanted)
    os.link(wanted.path, directory / "other")
    with pytest.raises(Refused, match="2 names"):
        plan_present([wanted], ME, fresh=False)
    os.unlink(wanted.path)
    os.symlink("other", wanted.path)
    with pytest.raises(Refused, match="not a plain file"):
        plan_present([wanted], ME, fresh=False)
    with pytest.raises(Refused, match="not a plain file"):
        plan_absent([wanted])


def test_only_a_directory_of_its_own_is_taken(directory: Path) -> None:
    directory.mkdir(mode=0o755)
    (directory / "photo.jpg").touch()
    with pytest.raises(Refused, match="cannot become") as refusal:
        plan_present([block(directory)], ME, fresh=True)
    assert "photo.jpg" in refusal.value.cause
    for place in ("/dev/shm", "/tmp", "/srv"):
        with pytest.raises(Refused, match="cannot become a directory of RAM files"):
            plan_present([block(Path(place))], ME, fresh=True)


def test_a_directory_that_others_could_exchange_is_refused(directory: Path) -> None:
    directory.mkdir()
    os.chmod(directory, 0o777)
    with pytest.raises(Refused, match="not a safe place"):
        plan_present([block(directory / "guest")], ME, fresh=True)
