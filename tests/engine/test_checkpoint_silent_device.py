# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Saves whose device falls silent when the guest stands still already: it does not stand still for as long as the device is silent."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from support.checkpoints import checkpoint, save, went_on
from support.engine import EngineHost, wait_until
from support.sound import refuses
from support.stuck_device import StuckDevice, stuck_device

NAME = "beat"
MIB = 1 << 20


def state_on(host: EngineHost, device: StuckDevice) -> None:
    """Let the state of the guest, which runs, lie on the device."""
    place = Path(host.settings["state"]) / NAME
    shutil.copytree(place, device.place / "state")
    for path in (device.place / "state", *(device.place / "state").iterdir()):
        shutil.chown(path, host.settings["user"], host.settings["user"])
    subprocess.run(["mount", "--bind", device.place / "state", place], check=True)
    host.later.callback(subprocess.run, ["umount", str(place)], check=True)


@pytest.mark.parametrize("where", ["memory", "state"])
def test_the_guest_goes_on(host: EngineHost, where: str) -> None:
    device = stuck_device(host)
    file = device.place / "nv0"
    nvdimms = [{"id": "nv0", "path": str(file), "size": "16M", "label_size": 0}] if where == "memory" else []
    page = host.boot(NAME, nvdimms=nvdimms)
    if where == "state":
        state_on(host, device)
    with (
        host.patched("_guest/save.py", "_SEAL_TIMEOUT = 50.0", "_SEAL_TIMEOUT = 2.0"),
        host.at_command("migrate", "os.kill(os.getpid(), 19)"),
    ):
        verb, output = host.begin("save", NAME), ""
        wait_until(host.stopped_runtimes, "the save has not come as far")
        with device.silent():
            if where == "memory":
                device.dirty(file, 8 * MIB)
            else:
                os.utime(Path(host.settings["state"]) / NAME / "checkpoint.new" / "state")
            (runtime,) = host.stopped_runtimes()
            before = page.counter
            os.kill(runtime, signal.SIGCONT)
            wait_until(lambda: page.counter > before, "the guest stands still", 30)
            if where == "memory":  # what was written beside the state cannot be removed as long as its device is silent
                output, _complaints = verb.communicate()
        output = output or verb.communicate()[0]
    refuses(json.loads(output)["results"][0]["error"], "not on its device within 2 s", "dmesg")
    assert not checkpoint(host, NAME).exists()
    save(host, NAME)
    counter = page.counter
    page.close()
    host.one("restore", NAME)
    went_on(host, NAME, counter)
