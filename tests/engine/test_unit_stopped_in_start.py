# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A unit that is stopped while it starts: systemd sends SIGTERM to the line that starts it, leaves ExecStop out, runs ExecStopPost, and
then kills what is left. The guest is still saved, or it was stopped, or saved again, in order.
"""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from support.checkpoints import checkpoint, save, went_on
from support.cut_points import RESTORE_POINTS, fault, names
from support.engine import EngineHost, wait_until
from support.sound import assert_alive
from support.unit_lines import begin_line, request, run_line

NAME = "beat"
TERM = "os.kill(os.getpid(), 15)"
MAY_HAVE_RUN = [point for point in RESTORE_POINTS if not point[3]]
COLD_POINTS = [
    ("_guest/journal.py", "cold-starting", "after"),
    ("_guest/lifecycle.py", "launch", "after"),
    ("_guest/journal.py", "cold-verified", "after"),
    ("_guest/qmp.py", "cont", "after"),
    ("_guest/lifecycle.py", "mark_running", "after"),
]


def stopped_in_start(host: EngineHost, path: str, name: str, when: str, **asked: Any) -> dict[str, Any]:
    """What systemd does; the answer that ExecStopPost leaves, empty when it found nothing to stop.

    :param asked: options of the stop when the runtime was asked for it.
    """
    answer = host.run_directory(NAME) / "result.json"
    answer.unlink(missing_ok=True)
    assert run_line(host, "prepare", NAME)["ok"]
    with fault(host, path, name, when, TERM):
        line = begin_line(host, "start", NAME)
        line.communicate()
        assert line.returncode == -signal.SIGTERM
        if asked:
            request(host, "stop", NAME, **asked)
        assert run_line(host, "release", NAME, "--timeout", "30")["ok"]
    for pid in host.qemu_pids(NAME):
        os.kill(pid, signal.SIGKILL)
    host.wait_quiet()
    wait_until(lambda: host.qemu_pids(NAME) == [], "QEMU lives")
    return dict(json.loads(answer.read_text())["result"]) if answer.exists() else {}


def lasting(host: EngineHost) -> Any:
    block = host.block(NAME, backing="file", directory=str(host.root / "memory"))
    return host.boot(NAME, memory={"blocks": [block]}, on_host_shutdown="save")


@pytest.mark.parametrize(("path", "name", "when", "saved"), RESTORE_POINTS, ids=names(RESTORE_POINTS))
def test_stopped_in_a_restore(host: EngineHost, path: str, name: str, when: str, saved: bool) -> None:
    page = host.boot(NAME)
    save(host, NAME)
    counter = page.counter
    page.close()
    result = stopped_in_start(host, path, name, when)
    assert checkpoint(host, NAME).exists() == saved
    if saved:
        assert result.get("how", "stopped already") == "stopped already"
        assert host.one("start", NAME)["how"] == "restored"
        went_on(host, NAME, counter)
    else:
        assert result["how"] == "powered down"
        assert host.one("start", NAME)["how"] == "started"


@pytest.mark.parametrize(("path", "name", "when", "_saved"), MAY_HAVE_RUN, ids=names(MAY_HAVE_RUN))
def test_stopped_in_a_restore_as_the_host_goes_down(
    host: EngineHost, path: str, name: str, when: str, _saved: bool
) -> None:
    page = lasting(host)
    save(host, NAME)
    counter = page.counter
    page.close()
    assert stopped_in_start(host, path, name, when)["how"] == "saved"
    assert host.one("start", NAME)["how"] == "restored"
    went_on(host, NAME, counter)


@pytest.mark.parametrize(
    ("path", "name", "when"), COLD_POINTS, ids=[f"{when}-{name}" for _path, name, when in COLD_POINTS]
)
def test_stopped_in_a_start(host: EngineHost, path: str, name: str, when: str) -> None:
    host.define(host.heartbeat(NAME))
    result = stopped_in_start(host, path, name, when)
    assert result.get("how", "stopped already") in ("stopped already", "powered down", "quit")
    assert not host.ram_file(NAME).exists()
    assert host.one("start", NAME)["how"] == "started"
    assert_alive(host.page(NAME))


def test_asked_for_by_the_runtime(host: EngineHost) -> None:
    """Who asked for the stop gets an answer, and what was asked for."""
    page = lasting(host)
    save(host, NAME)
    page.close()
    result = stopped_in_start(host, "_guest/restore.py", "make_current", "after", timeout=0)
    assert result["how"] == "quit"
    assert json.loads((host.run_directory(NAME) / "result.json").read_text())["token"] == "of a test"


def test_a_start_that_waits_for_the_stop(host: EngineHost) -> None:
    """What was asked of the next line stays asked."""
    host.boot(NAME).close()
    host.one("stop", "--timeout", "0", NAME)
    request(host, "start", NAME, older=True)
    assert run_line(host, "release", NAME)["ok"]
    assert (host.run_directory(NAME) / "request.json").exists()
