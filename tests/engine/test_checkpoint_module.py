# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module guest_checkpoint as Ansible runs it, with the real runtime and real QEMUs: check mode foretells what a run does."""

from __future__ import annotations

import re
import shutil
from typing import Any

from support.engine import EngineHost
from support.modules import run_module
from support.sound import assert_alive

NAME = "g"


def module(host: EngineHost, check: bool = False, name: str = "guest_checkpoint", **arguments: Any) -> dict[str, Any]:
    where = {"runtime": str(host.tree / "bin" / "hostmem"), "config": str(host.config), "names": [NAME]}
    return run_module(name, check, **{**where, **arguments})


def boot(host: EngineHost, **changes: Any) -> int:
    """A guest whose memory nobody but its QEMU maps any more; its counter."""
    page = host.boot(NAME, **changes)
    counter = int(page.counter)
    page.close()
    return counter


def foretold(host: EngineHost, **arguments: Any) -> dict[str, Any]:
    """A run, before it the same in check mode, which must leave the guest as it was, and after it once more, which must change nothing."""
    state, pids = host.info(NAME)["state"], host.qemu_pids(NAME)
    checked = module(host, check=True, **arguments)
    assert (host.info(NAME)["state"], host.qemu_pids(NAME)) == (state, pids)
    done = module(host, **arguments)
    assert not done.get("failed"), done
    assert (checked["changed"], checked["diff"]) == (done["changed"], done["diff"])
    again = module(host, **arguments)
    assert (again.get("failed"), again["changed"]) == (None, False), again
    assert again["diff"] == {"before": {}, "after": {}}
    return done


def refused(host: EngineHost, **arguments: Any) -> str:
    """In check mode and without it, in the same words."""
    checked, done = module(host, check=True, **arguments), module(host, **arguments)
    assert (checked["failed"], done["failed"]) == (True, True)
    # How long a copy takes is measured each time.
    messages = [re.sub(r"about \d+ s", "about N s", result["msg"]) for result in (checked, done)]
    assert messages[0] == messages[1]
    return messages[0]


def test_saved_and_restored(host: EngineHost) -> None:
    counter = boot(host)
    assert not foretold(host, state="restored")["changed"]
    assert not foretold(host, state="absent")["changed"]
    saved = foretold(host, state="saved")
    assert saved["changed"]
    assert saved["diff"] == {"before": {NAME: "on"}, "after": {NAME: "saved"}}
    checkpoint = saved["checkpoints"][0]["saved"]
    assert (checkpoint["copied_bytes"], checkpoint["in_place_bytes"], checkpoint["was_running"]) == (0, 64 << 20, True)
    assert host.qemu_pids(NAME) == []
    known = module(host, name="guest_info")["guests"][0]
    assert (known["state"], known["checkpoint"]["restorable"]) == ("saved", True)
    # The run directory is in memory: after a boot it is not there.
    shutil.rmtree(host.run_directory(NAME))
    assert module(host, name="guest_info")["guests"][0]["checkpoint"] == known["checkpoint"]
    restored = foretold(host, state="restored")
    assert restored["diff"] == {"before": {NAME: "saved"}, "after": {NAME: "on"}}
    asleep = restored["checkpoints"][0]["asleep_seconds"]
    known = module(host, name="guest_info")["guests"][0]["restored"]
    assert known["saved_at"] == checkpoint["at"]
    assert 0 < known["asleep_seconds"] <= asleep
    page = host.page(NAME)
    assert page.counter >= counter
    assert_alive(page)


def test_given_up(host: EngineHost) -> None:
    boot(host)
    foretold(host, state="saved")
    shutil.rmtree(host.run_directory(NAME))
    given_up = foretold(host, state="absent")
    assert given_up["diff"] == {"before": {NAME: "saved"}, "after": {NAME: "stopped"}}
    assert host.info(NAME)["state"] == "stopped"
    for state in ("saved", "restored"):
        assert refused(host, state=state)
    host.one("start", NAME)
    assert host.info(NAME)["restored"] == {}


def test_memory_that_ends_with_qemu(host: EngineHost) -> None:
    memory = {"blocks": [{"id": "ram0", "size": "64M", "backing": "memfd"}]}
    boot(host, memory=memory)
    assert "does not outlive its QEMU" in refused(host, state="saved")
    cost = module(host, check=True, state="saved", full=True)["checkpoints"][0]["would"]
    assert (cost["copied_bytes"], cost["in_place_bytes"]) == (64 << 20, 0)
    foretold(host, state="saved", full=True)
    foretold(host, state="restored")
    assert_alive(host.page(NAME))


def test_an_older_qemu(host: EngineHost) -> None:
    host.install("11.1")
    boot(host)
    foretold(host, state="saved")
    host.install("10.0")
    assert "older" in refused(host, state="restored")
    foretold(host, state="restored", older=True)
    assert_alive(host.page(NAME))


def test_one_failing_guest_does_not_hide_the_other(host: EngineHost) -> None:
    boot(host)
    result = module(host, names=[NAME, "h"])
    assert result["failed"]
    assert "h: There is no guest h on this host." in result["msg"]
    assert [item["ok"] for item in result["checkpoints"]] == [True, False]
    assert result["diff"]["after"] == {NAME: "saved"}
