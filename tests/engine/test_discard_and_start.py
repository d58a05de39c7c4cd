# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A saved guest is given up while systemd starts its unit, whose lines are programs of their own: no guest runs in memory that nobody prepared."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator

from support.checkpoints import save
from support.engine import EngineHost, wait_until, waits_for_lock
from support.sound import assert_alive, refuses
from support.unit_lines import answer, begin_line, run_line

NAME = "beat"
STOP = "os.kill(os.getpid(), 19)"


def saved_guest(host: EngineHost) -> None:
    host.boot(NAME).close()
    save(host, NAME)


@contextlib.contextmanager
def in_the_middle_of_a_discard(host: EngineHost, line: str, complaint: str) -> Iterator[subprocess.Popen[str]]:
    """A line of the unit that begins while a discard is about to drop what it drops, and must wait; within, the discard is over."""
    with host.at_function("_guest/verbs.py", "release_guest", STOP, "before"):
        discard = host.begin("discard", NAME)
        wait_until(host.stopped_runtimes, "the discard has not come as far")
        begun = begin_line(host, line, NAME)
        wait_until(lambda: begun.poll() is not None or waits_for_lock(begun.pid), "the line neither waits nor ends")
        assert begun.poll() is None, complaint
        os.kill(host.stopped_runtimes()[0], signal.SIGCONT)
        discard.communicate()
        yield begun


def test_prepared_while_memory_is_dropped(host: EngineHost) -> None:
    """The line that prepares waits until the discard has dropped what it drops, and then makes it anew."""
    saved_guest(host)
    with in_the_middle_of_a_discard(host, "prepare", "it has prepared what is about to be dropped") as prepare:
        assert answer(prepare)["ok"]
    made = host.ram_file(NAME).stat().st_ino
    assert run_line(host, "start", NAME)["how"] == "started"
    assert host.ram_file(NAME).stat().st_ino == made
    page = host.page(NAME)
    wait_until(lambda: page.ready, "the guest did not start")
    assert_alive(page)


def test_discarded_after_it_was_prepared(host: EngineHost) -> None:
    """What was prepared is gone by then: QEMU would make files of its own, without anything that was checked."""
    saved_guest(host)
    assert run_line(host, "prepare", NAME)["ok"]
    assert host.one("discard", NAME)["changed"]
    refuses(run_line(host, "start", NAME)["error"], "is not there", "discarded", f"hostmem start {NAME}")
    assert host.qemu_pids(NAME) == []
    assert not host.ram_file(NAME).exists()
    assert run_line(host, "prepare", NAME)["ok"]
    assert run_line(host, "start", NAME)["how"] == "started"


def test_started_while_memory_is_dropped(host: EngineHost) -> None:
    """The start does not find memory that is about to go."""
    saved_guest(host)
    assert run_line(host, "prepare", NAME)["ok"]
    with in_the_middle_of_a_discard(host, "start", "it has started in memory that is about to be dropped") as start:
        refuses(answer(start)["error"], "is not there", f"hostmem start {NAME}")
    assert host.qemu_pids(NAME) == []
