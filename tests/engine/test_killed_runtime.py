# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runtime killed or hung at each step of its journal: the watchdog brings the guest back to one QEMU, with nobody's help."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.journal import (
    COLD_STARTING,
    COLD_VERIFIED,
    UPDATE_STEPS,
)
from ansible_collections.hostmem.qemu.plugins.module_utils._host.processes import processes_with_open
from support.engine import EngineHost, wait_until
from support.sound import assert_never_two, assert_sound

KILL = "os.kill(os.getpid(), 9)"
HANG = "os.kill(os.getpid(), 19)"
TERMINATED = -15
# Where the guest goes on: before the hand-over is written down in the old QEMU, from then on in the new one.
FORWARD = {("handover", "after"), ("continued", "before"), ("continued", "after")}


def hung(host: EngineHost) -> int:
    """The runtime's process that stopped itself."""
    wait_until(host.stopped_runtimes, "nothing hangs")
    return host.stopped_runtimes()[0]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", UPDATE_STEPS)
def test_killed_at(host: EngineHost, step: str, when: str) -> None:
    page = host.boot("g")
    host.install("11.1")
    with host.at_step(step, KILL, when):
        host.begin("update", "g").communicate()
        host.wait_quiet()
    assert host.generation("g") == (1 if (step, when) in FORWARD else 0)
    assert_sound(host, "g", page)


@pytest.mark.parametrize("step", UPDATE_STEPS)
def test_hung_at_then_killed(host: EngineHost, step: str) -> None:
    page = host.boot("g")
    host.install("11.1")
    with host.at_step(step, HANG):
        verb = host.begin("update", "g")
        os.kill(hung(host), signal.SIGKILL)
        verb.communicate()
        host.wait_quiet()
    assert host.generation("g") == (1 if (step, "after") in FORWARD else 0)
    assert_sound(host, "g", page)


@pytest.mark.parametrize("step", ["starting", "incoming", "handover", "continued"])
def test_hung_at(host: EngineHost, step: str) -> None:
    """Nobody kills it but the watchdog, once the step's time is over, which the test makes short."""
    page = host.boot("g")
    host.install("11.1")
    journal = host.tree / "hostmem" / "_guest" / "journal.py"
    limit = next(line for line in journal.read_text().splitlines() if line.startswith(f"    {step.upper()}: "))
    with host.patched("_guest/journal.py", limit, f"    {step.upper()}: 1.0,"), host.at_step(step, HANG):
        host.begin("update", "g").communicate()
        host.wait_quiet()
    assert host.generation("g") == (1 if (step, "after") in FORWARD else 0)
    assert_sound(host, "g", page)


@pytest.mark.parametrize("step", UPDATE_STEPS)
def test_controller_and_its_session_killed_at(host: EngineHost, step: str) -> None:
    """The whole process group goes, as when an SSH session is torn down; only the watchdog has a session of its own."""
    page = host.boot("g")
    host.install("11.1")
    with host.at_step(step, HANG):
        verb = host.begin("update", "g")
        hung(host)
        os.killpg(verb.pid, signal.SIGKILL)
        verb.communicate()
        host.wait_quiet()
    assert_sound(host, "g", page)


def test_root_part_killed(host: EngineHost) -> None:
    """Whoever asked is gone; the part that works on the guest ends what it began."""
    page = host.boot("g")
    host.install("11.1")
    with host.at_step("migrating", HANG):
        verb = host.begin("update", "g")
        worker = hung(host)
        verb.kill()
        verb.wait()
        os.kill(worker, signal.SIGCONT)
        verb.communicate()
        host.wait_quiet()
    assert host.generation("g") == 1
    assert_sound(host, "g", page)


@pytest.mark.parametrize("whole_group", [False, True])
def test_terminated(host: EngineHost, whole_group: bool) -> None:
    page = host.boot("g")
    host.install("11.1")
    with host.at_step("incoming", HANG):
        verb = host.begin("update", "g")
        worker = hung(host)
        if whole_group:
            os.killpg(verb.pid, signal.SIGTERM)
        else:
            os.kill(worker, signal.SIGTERM)
        os.kill(worker, signal.SIGCONT)
        verb.communicate()
        host.wait_quiet()
    assert_sound(host, "g", page)


@pytest.mark.parametrize(
    "slowly", ["", "os.closerange(3, 256), __import__('time').sleep(2), "], ids=["at once", "slowly"]
)
def test_killed_in_the_middle_of_a_write(host: EngineHost, slowly: str) -> None:
    """The kernel closes a process's descriptors some time before the process is gone."""
    page = host.boot("g")
    rename = "        os.rename(temporary, path)\n"
    kill = (
        f"        ({slowly}os.kill(os.getpid(), 9)) if path.endswith('journal.json') else os.rename(temporary, path)\n"
    )
    with host.patched("_host/files.py", rename, kill):
        host.begin("update", "--force", "g").communicate()
        host.wait_quiet()
    assert_sound(host, "g", page)


def test_killed_at_any_time(host: EngineHost) -> None:
    """Twenty kills spread over the whole length of an update, wherever it is then."""
    page = host.boot("g")
    began = time.monotonic()
    host.one("update", "--force", "g")
    length = time.monotonic() - began
    for number in range(20):
        verb = host.begin("update", "--force", "g")
        time.sleep(length * (number + 0.5) / 20)
        os.killpg(verb.pid, signal.SIGKILL)
        verb.communicate()
        host.wait_quiet()
        host.only_qemu("g")
    assert_sound(host, "g", page)


@pytest.mark.parametrize("protected", [True, False])
def test_killed_while_it_makes_the_new_process(host: EngineHost, protected: bool) -> None:
    """The process that is to become the new QEMU lives, and shows nothing of it yet; the moment between is made five seconds long."""
    page = host.boot("g")
    host.install("11.1")
    found = (host.run_directory("g") / "guest.lock").stat()
    lock = found.st_dev, found.st_ino
    words = host.root / "fake-words"
    words.touch()
    words.chmod(0o666)
    with contextlib.ExitStack() as planted:
        planted.enter_context(host.appended("_host/programs.py", _LATE_QEMU.format(words=str(words))))
        if not protected:
            planted.enter_context(
                host.patched("_guest/recovery.py", "            unborn.kill()\n", "            pass\n")
            )
        host.begin("update", "g").communicate()
        host.wait_quiet()
        holders = processes_with_open(*lock)
    assert len(holders) == (1 if protected else 2)
    wait_until(lambda: len(processes_with_open(*lock)) == 1, "it never ended")
    assert host.generation("g") == 0
    assert_sound(host, "g", page)


_LATE_QEMU = """

# --- planted by a test
import json
import os

_LATE = "import json, os, time; time.sleep(5); words = json.load(open('{words}')); os.execv(words[0], words)"
_true_spawn = spawn


def _late_spawn(words, output, inherited):
    with open({words!r}, "w") as file:
        json.dump(words, file)
    _true_spawn(["/usr/bin/python3", "-c", _LATE], output, inherited)
    os.kill(os.getpid(), 9)


spawn = _late_spawn
"""


def test_nobody_recovers_without_the_watchdog(host: EngineHost) -> None:
    """That the tests above show the watchdog's work: without it the guest stays paused, until the next verb finds it."""
    page = host.boot("g")
    with (
        host.patched("_guest/watchdog.py", "                recover()\n", "                pass\n"),
        host.at_step("handover", KILL, "before"),
    ):
        host.begin("update", "--force", "g").communicate()
        host.wait_quiet()
    assert len(host.qemu_pids("g")) == 2
    counter = page.counter
    time.sleep(0.2)
    assert page.counter == counter
    assert host.one("recover", "g")["outcome"] == "went back to the old QEMU"
    assert_sound(host, "g", page)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", [COLD_STARTING, COLD_VERIFIED])
def test_start_killed_at(host: EngineHost, step: str, when: str) -> None:
    """A start that was verified is finished; one that was not never ran and leaves no QEMU."""
    host.define(host.heartbeat("g"))
    with host.at_step(step, KILL, when):
        host.begin("start", "g").communicate()
        host.wait_quiet()
    finished = (step, when) == (COLD_VERIFIED, "after")
    assert len(host.qemu_pids("g")) == int(finished)
    assert not (host.run_directory("g") / "journal.json").exists()
    assert host.one("start", "g")["changed"] is not finished
    page = host.page("g")
    wait_until(lambda: page.ready, "the guest did not fill its memory")
    host.baseline["g"] = host.listing("g")
    assert_sound(host, "g", page)
    assert_never_two(host, "g")
