# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A unit's ExecStop. There is no systemd here to tell whether the host goes down: a guest that wants to be saved is saved then."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.checkpoints import checkpoint, went_on
from support.engine import EngineHost
from support.host import USER
from support.sound import refuses
from support.unit_lines import run_line

NAME = "beat"
MIB = 1 << 20


def lasting(host: EngineHost, **changes: Any) -> Any:
    """Boot a guest whose memory lasts; its status page."""
    block = host.block(NAME, backing="file", directory=str(host.root / "memory"))
    return host.boot(NAME, memory={"blocks": [block]}, on_host_shutdown="save", **changes)


@pytest.fixture
def stuck(host: EngineHost) -> Iterator[tuple[Path, Path]]:
    """A directory on a disk that lies on another disk; while fsfreeze(8) holds the file system of that one, the disk answers nothing,
    and who waits for it cannot even be killed.
    """
    places = host.root / "below", host.root / "slow"
    image = host.root / "below.img"
    for place in places:
        subprocess.run(["truncate", "-s", "128M" if place is places[0] else "64M", image], check=True)
        subprocess.run(["mkfs.ext4", "-q", image], check=True)
        place.mkdir()
        subprocess.run(["mount", "-o", "loop", image, place], check=True)
        host.later.callback(subprocess.run, ["umount", place], check=True)
        image = place / "inner.img"
    shutil.chown(places[1], USER, USER)
    yield places
    subprocess.run(["fsfreeze", "-u", places[0]], check=False, capture_output=True)


def freeze(place: Path, on: bool) -> None:
    subprocess.run(["fsfreeze", "-f" if on else "-u", place], check=True)


def last_shutdown(host: EngineHost) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(host.settings["state"]) / NAME / "last-shutdown.json").read_text())
    return found


def test_saved(host: EngineHost) -> None:
    page = lasting(host)
    result = run_line(host, "stop", NAME)
    assert (result["ok"], result["how"]) == (True, "saved")
    assert last_shutdown(host)["outcome"] == "saved"
    host.one("start", NAME)
    went_on(host, NAME, page.counter)


@pytest.mark.parametrize("what", ["ram", "nvdimm"])
def test_a_device_that_does_not_answer(host: EngineHost, stuck: tuple[Path, Path], what: str) -> None:
    """The guest is powered down when the time for the sync is over, although nobody can end what waits for the device."""
    below, slow = stuck
    if what == "nvdimm":
        nvdimm = {"id": "nv0", "path": str(slow / "nv0"), "size": "16M", "label_size": 0}
        lasting(host, nvdimms=[nvdimm]).close()
        file = slow / "nv0"
    else:
        block = host.block(NAME, backing="file", directory=str(slow / "memory"), size="32M")
        host.start(host.heartbeat(NAME, on_host_shutdown="save", memory={"blocks": [block]}))
        file = host.ram_file(NAME)
        with host.qmp(NAME) as qmp:  # its own writes would wait for the device, too
            qmp("stop")
    os.sync()
    with open(file, "r+b") as memory:
        memory.seek(8 * MIB)
        memory.write(b"not on the device yet")
    freeze(below, True)
    result = run_line(host, "stop", NAME, "--timeout", "0", "--save-timeout", "2")
    assert last_shutdown(host)["outcome"] == result["how"] == "quit"
    refuses(last_shutdown(host)["error"], "not on its device within 2 s", "Raise hypervisor_save_timeout")
    assert host.qemu_pids(NAME) == []
    assert not checkpoint(host, NAME).exists()
    freeze(below, False)
