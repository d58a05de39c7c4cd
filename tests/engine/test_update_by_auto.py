# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which method a live update takes when none is asked for, and what it says of it, beforehand too."""

from __future__ import annotations

import pytest

from support.engine import EngineHost, as_version, with_other_answers
from support.sound import assert_sound, refuses, undisturbed


def foretold_and_done(host: EngineHost) -> tuple[str, str]:
    """Method and its reason, the same in check mode and in earnest."""
    keys = ("method", "method_reason", "reason", "from", "to")
    foretold, done = host.one("update", "--check", "g"), host.one("update", "g")
    assert {key: foretold[key] for key in keys} == {key: done[key] for key in keys}
    return str(done["method"]), str(done["method_reason"])


def test_transfer_where_it_is_possible(host: EngineHost) -> None:
    page = host.boot("g")
    host.install("11.1")
    method, reason = foretold_and_done(host)
    assert (method, "is possible" in reason) == ("transfer", True)
    assert_sound(host, "g", page)


def test_checkpoint_back_to_an_older_qemu(host: EngineHost) -> None:
    host.install("11.1")
    page = host.boot("g")
    host.install("10.0")
    assert host.info("g")["live_update_blockers"] == []
    method, reason = foretold_and_done(host)
    assert method == "checkpoint"
    assert "is older than the running 11.1" in reason
    assert_sound(host, "g", page)


def test_checkpoint_without_shared_auxiliary_memory(host: EngineHost) -> None:
    page = host.boot("g", aux_ram_share=False)
    host.install("11.1")
    method, reason = foretold_and_done(host)
    assert method == "checkpoint"
    assert "aux-ram-share is off" in reason
    assert_sound(host, "g", page)


def test_neither_is_refused_with_both_reasons(host: EngineHost) -> None:
    host.install("11.1")
    page = host.boot("g", memory={"blocks": [{"id": "ram0", "size": "64M", "backing": "memfd"}]})
    host.install("10.0")
    with undisturbed(host, "g", page):
        for check in ([], ["--check"]):
            refuses(
                host.refused("update", *check, "g"), "is older than the running 11.1", "Memory block ram0 is a memfd"
            )
        blockers = [item["message"] for item in host.info("g")["live_update_blockers"]]
    assert len(blockers) == 2
    host.install("11.1")
    assert_sound(host, "g", page)


@pytest.mark.parametrize(("version", "modes"), [("8.1.5", 2), ("8.2.0", 1)])
def test_qemu_by_its_version(host: EngineHost, version: str, modes: int) -> None:
    """cpr-reboot came with QEMU 8.2, cpr-transfer with 10.0: an older QEMU is refused by name of both."""
    page = host.boot("g")
    host.install_impostor("exit 1", asked=with_other_answers(as_version(version)))
    with undisturbed(host, "g", page):
        error = host.refused("update", "g")
        if modes == 2:
            refuses(error, f"QEMU {version} knows no cpr-transfer", f"QEMU {version} knows no cpr-reboot", "8.2")
        else:
            refuses(error, "ended while starting")  # it is tried: the impostor exits
    host.install("11.1")
    assert_sound(host, "g", page)


def test_exec_is_never_chosen(host: EngineHost) -> None:
    host.install("11.1")
    page = host.boot("g", sandbox={"spawn": True})
    assert host.one("update", "--force", "g")["method"] == "transfer"
    assert_sound(host, "g", page)


@pytest.mark.parametrize("method", ["transfer", "checkpoint"])
def test_unknown_and_known_words(host: EngineHost, method: str) -> None:
    page = host.boot("g")
    host.install("11.1")
    with undisturbed(host, "g", page):
        assert host.one("update", "--check", "--method", method, "g")["method_reason"] == "asked for"
    assert host.one("update", "--method", method, "g")["method"] == method
    assert_sound(host, "g", page)
