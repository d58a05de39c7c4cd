# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A unit's ExecStop. There is no systemd here to tell whether the host goes down: a guest that wants to be saved is saved then."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.checkpoints import checkpoint, went_on
from support.engine import EngineHost, wait_until
from support.journal_records import journal_records
from support.sound import refuses
from support.stuck_device import stuck_device
from support.unit_lines import answer, begin_line, request, run_line

NAME = "beat"
MIB = 1 << 20
STOP = "os.kill(os.getpid(), 19)"


def lasting(host: EngineHost, **changes: Any) -> Any:
    """Boot a guest whose memory lasts; its status page."""
    block = host.block(NAME, backing="file", directory=str(host.root / "memory"))
    return host.boot(NAME, memory={"blocks": [block]}, on_host_shutdown="save", **changes)


def last_shutdown(host: EngineHost) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(host.settings["state"]) / NAME / "last-shutdown.json").read_text())
    return found


class Listener:
    """What systemd hears of a line."""

    def __init__(self, host: EngineHost) -> None:
        self.path = str(host.root / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        os.chmod(self.path, 0o777)
        self._socket.setblocking(False)
        host.later.callback(self._socket.close)

    def extensions(self) -> list[float]:
        """Seconds for which the line asked, each time."""
        found: list[float] = []
        while True:
            try:
                word, _equals, value = self._socket.recv(4096).decode().partition("=")
            except BlockingIOError:
                return found
            if word == "EXTEND_TIMEOUT_USEC":  # systemctl, which the line runs, tells how it ended
                found.append(int(value) / 1e6)


def test_saved(host: EngineHost) -> None:
    page = lasting(host)
    result = run_line(host, "stop", NAME)
    assert (result["ok"], result["how"]) == (True, "saved")
    assert last_shutdown(host)["outcome"] == "saved"
    host.one("start", NAME)
    went_on(host, NAME, page.counter)


@pytest.mark.parametrize("what", ["ram", "nvdimm"])
def test_a_device_that_does_not_answer(host: EngineHost, what: str) -> None:
    """The guest is powered down when the time for the sync is over, although nobody can end what waits for the device."""
    device = stuck_device(host)
    if what == "nvdimm":
        nvdimm = {"id": "nv0", "path": str(device.place / "nv0"), "size": "16M", "label_size": 0}
        lasting(host, nvdimms=[nvdimm]).close()
        file = device.place / "nv0"
    else:
        block = host.block(NAME, backing="file", directory=str(device.place / "memory"), size="32M")
        host.start(host.heartbeat(NAME, on_host_shutdown="save", memory={"blocks": [block]}))
        file = host.ram_file(NAME)
        with host.qmp(NAME) as qmp:  # its own writes would wait for the device, too
            qmp("stop")
    with device.silent():
        device.dirty(file, 8 * MIB)
        result = run_line(host, "stop", NAME, "--timeout", "0", "--save-timeout", "2")
        assert last_shutdown(host)["outcome"] == result["how"] == "quit"
        refuses(last_shutdown(host)["error"], "not on its device within 2 s", "Raise hypervisor_save_timeout")
        assert host.qemu_pids(NAME) == []
        assert not checkpoint(host, NAME).exists()


def test_a_device_that_falls_silent_in_the_pause(host: EngineHost) -> None:
    """The same when the guest stands still already."""
    device = stuck_device(host)
    file = device.place / "nv0"
    lasting(host, nvdimms=[{"id": "nv0", "path": str(file), "size": "16M", "label_size": 0}]).close()
    with host.at_command("migrate", STOP):
        line = begin_line(host, "stop", NAME, "--save-timeout", "2")
        wait_until(host.stopped_runtimes, "the save has not come as far")
        with device.silent():
            device.dirty(file, 8 * MIB)
            os.kill(host.stopped_runtimes()[0], signal.SIGCONT)
            assert answer(line)["how"] == "powered down"
            refuses(last_shutdown(host)["error"], "not on its device within 2 s", "dmesg")
            assert host.qemu_pids(NAME) == []
            assert not checkpoint(host, NAME).exists()


@contextlib.contextmanager
def impatient(host: EngineHost) -> Iterator[None]:
    """The engine that waits for a moment only for verbs that do not get on."""
    with (
        host.patched("_guest/lifecycle.py", "VERB_WAIT = 60.0", "VERB_WAIT = 0.5"),
        host.patched("_guest/save.py", "VERB_WAIT = 120.0", "VERB_WAIT = 0.5"),
    ):
        yield


@pytest.mark.parametrize("kind", ["asked", "not asked", "host goes down"])
def test_a_long_save_is_waited_for(host: EngineHost, kind: str) -> None:
    """systemd would end the QEMU in the middle of its save if the line gave up. It asks for the time that it waits."""
    last = kind == "host goes down"
    page = (
        lasting(host)
        if last
        else host.boot(NAME, memory={"blocks": [{"id": "ram0", "size": "64M", "backing": "memfd"}]})
    )
    counter = page.counter
    page.close()
    with impatient(host), host.at_function("_guest/save.py", "sha256_of", STOP, "before"):
        save = host.begin("save", "--full", NAME)
        wait_until(host.stopped_runtimes, "the save has not come as far")
        if kind == "asked":
            request(host, "stop", NAME, timeout=0)
        heard = Listener(host)
        line = begin_line(host, "stop", NAME, "--save-timeout", "1", notify=heard.path)
        time.sleep(5)
        assert line.poll() is None
        assert heard.extensions()
        os.kill(host.stopped_runtimes()[0], signal.SIGCONT)
        assert answer(line)["how"] == ("saved" if last else "stopped already")
        save.communicate()
    host.one("restore", NAME)
    went_on(host, NAME, counter)


def test_a_verb_that_does_not_get_on_is_not_waited_for(host: EngineHost) -> None:
    page = lasting(host)
    with (
        impatient(host),
        host.patched("_guest/journal.py", "    SAVING: 60.0,", "    SAVING: -120.0,"),
        host.patched("_guest/watchdog.py", "if hangs(watched):", "if False:"),
        host.at_function("_guest/save.py", "sha256_of", STOP, "before"),
    ):
        save = host.begin("save", NAME)
        wait_until(host.stopped_runtimes, "the save has not come as far")
        line = run_line(host, "stop", NAME, "--save-timeout", "1")
        refuses(line["error"], "Another verb works")
        os.kill(host.stopped_runtimes()[0], signal.SIGCONT)
        save.communicate()
    host.one("restore", NAME)
    went_on(host, NAME, page.counter)


def test_every_wait_is_asked_for(host: EngineHost) -> None:
    """A save asks for the time of its steps, a power-down for as long as the guest takes, however short the unit's own time is."""
    lasting(host).close()
    heard = Listener(host)
    assert answer(begin_line(host, "stop", NAME, notify=heard.path))["how"] == "saved"
    assert max(heard.extensions()) > 180  # the limits of a save, and what follows them
    host.one("start", NAME)
    request(host, "stop", NAME, timeout=600)
    assert answer(begin_line(host, "stop", NAME, notify=heard.path))["how"] == "powered down"
    assert heard.extensions()


def test_an_update_was_cut_off(host: EngineHost) -> None:
    """Its QEMU, of which nothing is recorded yet, is there beside the guest's: the guest is saved all the same."""
    page = lasting(host)
    with (
        host.patched("_guest/verbs.py", "lambda: _recover_all(config, names))", "lambda: None)"),
        host.at_function("_guest/update_attempt.py", "launch", "os.kill(os.getpid(), 9)"),
    ):
        host.begin("update", "--force", NAME).communicate()
        host.wait_quiet()
    assert len(host.qemu_pids(NAME)) == 2
    assert run_line(host, "stop", NAME)["how"] == "saved", last_shutdown(host)
    assert last_shutdown(host)["outcome"] == "saved"
    host.one("start", NAME)
    went_on(host, NAME, page.counter)


def test_an_error_after_the_guest_was_saved(host: EngineHost) -> None:
    """It is told of in the journal; the guest is saved, and that is what is recorded of it."""
    page = lasting(host)
    with (
        journal_records(host) as records,
        host.at_function("_guest/save.py", "unmark_running", "raise OSError(5, 'Input/output error')"),
    ):
        result = run_line(host, "stop", NAME)
        (told,) = [text for text in records() if "something is left over" in text]
    assert "Input/output error" in told
    assert (result["ok"], result["how"]) == (True, "saved")
    assert (last_shutdown(host)["outcome"], "error" in last_shutdown(host)) == ("saved", False)
    assert host.qemu_pids(NAME) == []
    host.one("start", NAME)
    went_on(host, NAME, page.counter)


def test_nobody_saves_without_units(host: EngineHost) -> None:
    """Who defines the guest is told; these tests run the unit's lines themselves."""
    block = host.block(NAME, backing="file", directory=str(host.root / "memory"))
    definition = host.heartbeat(NAME, memory={"blocks": [block]}, on_host_shutdown="save")
    (warning,) = host.define(definition)["warnings"]
    assert "No systemd units manage the guests of this host (manager is direct)" in warning
    assert f"hostmem save {NAME}" in warning
    assert host.define({**definition, "on_host_shutdown": "poweroff"})["warnings"] == []
