# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is told of guests that are off or saved, before somebody reboots their host or starts them: what would be lost, what is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from support.checkpoints import checkpoint, save, went_on
from support.engine import EngineHost, wait_until
from support.journal_records import journal_records
from support.materials import small_tmpfs
from support.sound import assert_sound, refuses

NAME = "beat"
MEMFD = {"blocks": [{"id": "ram0", "size": "64M", "backing": "memfd"}]}


def told(host: EngineHost, state: str) -> dict[str, Any]:
    """What is known of the guest, which must be in this state."""
    found: dict[str, Any] = host.one("info", NAME)
    assert found["state"] == state
    return found


def on_a_disk(host: EngineHost) -> Path:
    """Boot a guest whose memory a reboot keeps; the directory of its memory."""
    directory = host.root / "memory"
    host.boot(NAME, memory={"blocks": [host.block(NAME, backing="file", directory=str(directory))]}).close()
    assert told(host, "running")["lost_by_reboot"] == []
    return directory


def test_a_saved_guest_on_tmpfs_would_be_lost(host: EngineHost) -> None:
    host.boot(NAME).close()
    why = ["memory block ram0 lies on tmpfs, which the host's reboot empties"]
    assert told(host, "running")["lost_by_reboot"] == why
    save(host, NAME)
    assert told(host, "saved")["lost_by_reboot"] == why


def test_a_guest_saved_in_full_would_not(host: EngineHost) -> None:
    host.boot(NAME, memory=MEMFD).close()
    assert told(host, "running")["lost_by_reboot"] == [
        "memory block ram0 is a memfd, which ends with QEMU",
    ]
    save(host, NAME, "--full")
    assert told(host, "saved")["lost_by_reboot"] == []


def test_a_file_system_mounted_over_the_memory_would_be_empty(host: EngineHost) -> None:
    directory = on_a_disk(host)
    small_tmpfs(host, directory, "size=1M")
    (reason,) = told(host, "running")["lost_by_reboot"]
    assert reason.startswith(f"memory block ram0 lies on tmpfs ({directory})")


def test_a_state_on_tmpfs_would_be_lost(host: EngineHost) -> None:
    """The memory of the guest would stay, and nobody could restore it."""
    state = host.root / "state" / NAME
    on_a_disk(host)
    small_tmpfs(host, state, "size=16M")
    shutil.chown(state, host.settings["user"], host.settings["user"])
    (reason,) = told(host, "running")["lost_by_reboot"]
    assert reason.startswith(f"the state of its devices lies on tmpfs ({state})")


def test_memory_without_its_state(host: EngineHost) -> None:
    """The guest looks like one that can be started; it cannot."""
    counter = host.boot(NAME).counter
    save(host, NAME)
    kept = host.root / "kept"
    checkpoint(host, NAME).rename(kept)
    refuses(told(host, "stopped")["start_refused"], "is that of a saved guest", "discard")
    kept.rename(checkpoint(host, NAME))
    host.one("restore", NAME)
    went_on(host, NAME, counter)


def test_a_guest_cut_off_with_its_host(host: EngineHost) -> None:
    host.boot(NAME, on_power_cut="refuse").close()
    mark = Path(host.settings["state"]) / NAME / "running.json"
    os.kill(host.only_qemu(NAME), 9)
    wait_until(lambda: not host.qemu_pids(NAME), "QEMU lives")
    assert "start_refused" not in told(host, "stopped")  # its QEMU alone ended
    mark.write_text(json.dumps({**json.loads(mark.read_text()), "boot_id": "of another boot"}))
    refuses(told(host, "stopped")["start_refused"], "ran when its host went down", f"hostmem discard {NAME}")
    host.one("discard", NAME)
    assert "start_refused" not in told(host, "stopped")


def test_no_space_for_the_mark(host: EngineHost) -> None:
    """The guest runs, and its next start after a power cut would not know: the journal says so."""
    definition = host.heartbeat(NAME)
    host.define(definition)
    state = host.root / "state" / NAME
    small_tmpfs(host, state, "size=4k,mode=777")
    (state / "filler").write_bytes(bytes(4096))
    with journal_records(host) as records:
        assert host.one("start", NAME)["how"] == "started"
        (told,) = [text for text in records() if "running.json" in text]
    assert "would not know that it had run" in told
    assert "No space left on device" in told
    assert not (state / "running.json").exists()


def test_a_file_in_the_way_of_a_save(host: EngineHost) -> None:
    """What the kernel refuses comes out with the file and a cure."""
    page = host.boot(NAME)
    unfinished = checkpoint(host, NAME).with_name("checkpoint.new")
    unfinished.touch()
    error = host.refused("save", NAME)
    refuses(error, f"{unfinished}: File exists.", "EEXIST", "Remove what is there")
    unfinished.unlink()
    assert_sound(host, NAME, page)
