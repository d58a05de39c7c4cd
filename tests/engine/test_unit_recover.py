# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The last line of a unit's reload: what it says, and whether it fails, is what has become of the guest."""

from __future__ import annotations

from typing import Any

import pytest

from support.engine import EngineHost
from support.sound import assert_alive, assert_sound, refuses
from support.unit_lines import request, run_line

KILL = "os.kill(os.getpid(), 9)"
KILL_ALL = f"[os.kill(pid, 9) for number in (facts['from'], facts['to']) for pid in qemu(number)]; {KILL}"
OUTCOME = "        won = await outcome("


def reload(host: EngineHost, method: str) -> dict[str, Any]:
    """Both lines, of which the first is cut off by what the test has planted."""
    request(host, "update", "g", force=True, method=method)
    with pytest.raises(AssertionError, match="the line ended with -9"):
        run_line(host, "update", "g")
    return run_line(host, "recover", "g")


@pytest.mark.parametrize("method", ["transfer", "checkpoint"])
def test_back(host: EngineHost, method: str) -> None:
    page = host.boot("g")
    pid = host.only_qemu("g")
    host.install("11.1")
    with host.at_step("incoming", KILL):
        result = reload(host, method)
    refuses(result["error"], "went back to the old QEMU", f"generation 0, process {pid}")
    assert_sound(host, "g", page)


def test_forward(host: EngineHost) -> None:
    page = host.boot("g")
    host.install("11.1")
    with host.at_step("handover", KILL):
        result = reload(host, "transfer")
    assert (result["ok"], result["outcome"]) == (True, "finished the hand-over to the new QEMU")
    assert_sound(host, "g", page)


@pytest.mark.parametrize("heir", [True, False], ids=["in-its-process", "by-the-standby"])
def test_forward_after_exec(host: EngineHost, heir: bool) -> None:
    """The journal does not tell that the guest went forward."""
    host.install("11.1")
    page = host.boot("g", sandbox={"spawn": True})
    pid = host.only_qemu("g")
    if not heir:  # of the two, it has one -incoming
        host.install_altered('words.append("-no-reboot"); words.count("-incoming") == 1 and sys.exit(3)')
    with host.patched("_guest/update_by_exec.py", OUTCOME, f"        {KILL}\n{OUTCOME}"):
        result = reload(host, "exec")
    assert (host.only_qemu("g") == pid) == heir
    assert result["ok"]
    assert result["outcome"] == (
        "finished the hand-over to the new QEMU" if heir else "the guest goes on in the QEMU that stood by"
    )
    assert_alive(page)


def test_lost(host: EngineHost) -> None:
    """Nobody says that a guest runs on which does not."""
    host.boot("g").close()
    host.install("11.1")
    with host.at_step("handover", KILL_ALL):
        result = reload(host, "transfer")
    refuses(result["error"], "no QEMU was left", "No QEMU carries it")


def test_failed(host: EngineHost) -> None:
    """An update that took itself back leaves nothing to repair; the reload has failed all the same."""
    page = host.boot("g")
    host.install_impostor("exit 3")
    request(host, "update", "g", force=True)
    assert not run_line(host, "update", "g")["ok"]
    refuses(run_line(host, "recover", "g")["error"], "nothing was interrupted", "generation 0, process")
    assert_alive(page)
