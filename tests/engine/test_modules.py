# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules as Ansible runs them on a host, with the real runtime and real QEMUs: check mode foretells what a run does."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.definition import parse_definition
from ansible_collections.hostmem.qemu.plugins.plugin_utils._render import render_argv
from support.engine import EngineHost
from support.modules import run_module

# What nobody can foretell.
UNFORESEEABLE = ("generation", "pid", "how", "updates")


def module(host: EngineHost, module_name: str, check: bool = False, **arguments: Any) -> dict[str, Any]:
    """Run a module in a process of its own, as Ansible does; its result, well or failed."""
    where = {"runtime": str(host.tree / "bin" / "hostmem"), "config": str(host.config)}
    return run_module(module_name, check, **{**where, **arguments})


def guest(host: EngineHost, check: bool = False, **arguments: Any) -> dict[str, Any]:
    """The module guest for g1; a definition is rendered."""
    if "definition" in arguments:
        arguments["argv"] = render_argv(parse_definition(arguments["definition"]))
    host.names = ["g1"]
    return module(host, "guest", check, name="g1", **arguments)


def foretold(host: EngineHost, **arguments: Any) -> dict[str, Any]:
    """A run, and before it the same in check mode: both must tell the same, and the guest must be left as it was."""
    before = host.qemu_pids("g1")
    checked = guest(host, check=True, **arguments)
    assert host.qemu_pids("g1") == before
    done = guest(host, **arguments)
    assert _foreseeable(checked) == _foreseeable(done)
    return done


def _foreseeable(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key not in UNFORESEEABLE}


def test_a_guests_whole_life_is_foretold(host: EngineHost) -> None:
    definition = host.heartbeat("g1")
    made = foretold(host, definition=definition, power="on")
    assert made["changed"]
    assert made["running"]
    assert made["diff"]["before"] == {}
    assert made["diff"]["after"]["power"] == "on"
    assert host.qemu_pids("g1") == [made["pid"]]
    assert not foretold(host, definition=definition, power="on")["changed"]
    assert not foretold(host)["changed"]
    stopped = foretold(host, power="off", stop_timeout=0)
    assert stopped["changed"]
    assert (stopped["diff"]["before"]["power"], stopped["diff"]["after"]["power"]) == ("on", "off")
    assert not foretold(host, power="off")["changed"]
    assert foretold(host, power="on")["changed"]
    removed = foretold(host, state="absent", power="off", stop_timeout=0)
    assert removed["changed"]
    assert removed["diff"]["after"] == {}
    assert removed["diff"]["before"]["power"] == "on"
    assert not foretold(host, state="absent", power="off")["changed"]
    assert not foretold(host, state="absent")["changed"]


def test_a_new_definition_is_pending_while_the_guest_runs(host: EngineHost) -> None:
    guest(host, definition=host.heartbeat("g1"), power="on")
    changed = host.heartbeat("g1", max_pause=1.0)
    assert foretold(host, definition=changed)["definition_pending"]
    again = foretold(host, definition=changed)
    assert (again["changed"], again["definition_pending"]) == (False, True)
    renamed = host.heartbeat("g1", size="128M")
    for check in (True, False):
        refused = guest(host, check, definition=renamed, power="on")
        assert refused["failed"]
        assert "would move its RAM from" in refused["error"]["message"]
    stopped = foretold(host, definition=renamed, power="off", stop_timeout=0)
    assert (stopped["changed"], stopped["definition_pending"]) == (True, False)


def test_a_wrong_definition_stops_nothing(host: EngineHost) -> None:
    page = host.boot("g1")
    argv = render_argv(parse_definition(host.heartbeat("g1")))
    wrong = host.heartbeat("g1", machine="q35", colour="red")
    refused = module(host, "guest", name="g1", definition=wrong, argv=argv, power="off")
    assert "machine: 'q35' is an alias" in refused["msg"]
    assert "colour: is not known here" in refused["msg"]
    assert not refused["changed"]
    assert host.qemu_pids("g1")
    assert page.errors == 0


def test_a_running_guest_is_not_removed(host: EngineHost) -> None:
    guest(host, definition=host.heartbeat("g1"), power="on")
    for check in (True, False):
        refused = guest(host, check, state="absent")
        assert (refused["failed"], refused["error"]["message"]) == (True, "Guest g1 runs.")
    assert host.qemu_pids("g1")


def test_a_guest_that_is_not_defined_is_told(host: EngineHost) -> None:
    cases: list[dict[str, Any]] = [{}, {"power": "on"}, {"power": "off"}]
    for arguments in cases:
        refused = guest(host, **arguments)
        assert refused["error"]["code"] == "not_defined"


def test_live_updates_are_foretold_and_told(host: EngineHost) -> None:
    guest(host, definition=host.heartbeat("g1"), power="on")
    assert not module(host, "live_update", all=True)["changed"]
    host.install("11.1")
    facts = module(host, "guest_info", names=["g1"])["guests"][0]
    assert facts["outdated"]
    assert facts["live_update_blockers"] == []
    checked = module(host, "live_update", check=True, names=["g1"])
    done = module(host, "live_update", names=["g1"])
    assert checked["changed"]
    assert checked["diff"] == done["diff"]
    assert done["updates"][0]["pause_ms"] > 0
    assert done["updates"][0]["to"]["version"].startswith("11.1")
    assert not module(host, "guest_info")["guests"][0]["outdated"]
    assert not module(host, "live_update", all=True)["changed"]


@pytest.mark.parametrize("method", ["transfer", "checkpoint"])
def test_method_of_a_live_update(host: EngineHost, method: str) -> None:
    guest(host, definition=host.heartbeat("g1"), power="on")
    host.install("11.1")
    refused = module(host, "live_update", names=["g1"], method="exec")
    assert refused["failed"]
    assert "knows no cpr-exec" in refused["msg"]
    for check in (True, False):
        done = module(host, "live_update", check=check, names=["g1"], method=method)["updates"][0]
        assert (done["method"], done["method_reason"]) == (method, "asked for")


def test_one_failing_guest_does_not_hide_the_other(host: EngineHost) -> None:
    guest(host, definition=host.heartbeat("g1"), power="on")
    result = module(host, "live_update", names=["g1", "g2"], force=True)
    assert result["failed"]
    assert "g2: There is no guest g2 on this host." in result["msg"]
    assert [item["ok"] for item in result["updates"]] == [True, False]
    assert result["changed"]
    assert module(host, "guest_info", names=["g2"])["failed"]


def test_all_means_all_that_run(host: EngineHost) -> None:
    guest(host, definition=host.heartbeat("g1"), power="off")
    result = module(host, "live_update", all=True, force=True)
    assert not result["changed"]
    assert result["updates"] == [{"guest": "g1", "ok": True, "changed": False, "reason": "does not run"}]


def test_ram_files_of_a_running_guest_are_left_alone(host: EngineHost) -> None:
    definition = host.heartbeat("g1")
    guest(host, definition=definition, power="on")
    kept = module(host, "backing_file", definition=definition)
    assert not kept["changed"]
    assert kept["files"][0]["mapped_by"] == host.qemu_pids("g1")
    cases: list[dict[str, Any]] = [{"state": "absent"}, {"content": "zero"}]
    for arguments in cases:
        assert "is mapped by process" in module(host, "backing_file", definition=definition, **arguments)["msg"]
    guest(host, power="off", stop_timeout=0)
    assert not module(host, "backing_file", definition=definition, state="absent")["changed"]


def test_a_guest_that_nobody_would_save(host: EngineHost) -> None:
    """No units manage the guests of these tests."""
    block = host.block("g1", backing="file", directory=str(host.root / "memory"))
    made = foretold(host, definition=host.heartbeat("g1", memory={"blocks": [block]}, on_host_shutdown="save"))
    assert "manager is direct" in str(made["warnings"])
    made = foretold(host, definition=host.heartbeat("g1"))
    assert "manager is direct" not in str(made)
