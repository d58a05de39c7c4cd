# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A saved guest's memory under the hands of others, and copies of its state that somebody puts back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.checkpoints import checkpoint, copy_of, digest, put_back, save, went_on
from support.engine import EngineHost, wait_until
from support.modules import run_module
from support.sound import assert_alive, refuses

NAME = "g"


def saved_counter(host: EngineHost, **changes: Any) -> int:
    """Start and save a guest; its counter."""
    page = host.boot(NAME, **changes)
    counter: int = page.counter
    page.close()
    save(host, NAME)
    return counter


def test_opened_by_another_guest(host: EngineHost) -> None:
    """Nobody maps the file while its guest is saved, and it has the name that the other one asks for."""
    counter = saved_counter(host)
    ram = host.ram_file(NAME)
    content = digest(ram)
    host.define(host.heartbeat("other", memory={"blocks": [host.block(NAME, mode="open")]}))
    for words in (["start", "--check", "other"], ["start", "other"]):
        refuses(host.refused(*words), "is the memory of the saved guest g", "hostmem discard g")
    assert digest(ram) == content
    host.one("restore", NAME)
    went_on(host, NAME, counter)


@pytest.mark.parametrize("arguments", [{"state": "absent"}, {"content": "zero"}], ids=["absent", "zero"])
def test_backing_file(host: EngineHost, arguments: dict[str, Any]) -> None:
    counter = saved_counter(host)
    ram = host.ram_file(NAME)
    content = digest(ram)
    where = {"runtime": str(host.tree / "bin" / "hostmem"), "config": str(host.config)}
    result = run_module("backing_file", False, definition=host.heartbeat(NAME), **where, **arguments)
    assert "is the memory of the saved guest g" in result["msg"]
    assert digest(ram) == content
    host.one("restore", NAME)
    went_on(host, NAME, counter)


def test_a_copy_while_the_guest_runs(host: EngineHost) -> None:
    """What was put back says nothing of the guest that runs: no verb takes its QEMU for one that is left over."""
    counter = saved_counter(host)
    copy = copy_of(host, NAME)
    host.one("restore", NAME)
    page = went_on(host, NAME, counter)
    pid = host.only_qemu(NAME)
    put_back(copy, checkpoint(host, NAME))
    assert not host.one("recover", NAME)["changed"]
    assert not host.one("start", NAME)["changed"]
    assert host.only_qemu(NAME) == pid
    assert host.one("update", "--force", NAME)["changed"]
    assert_alive(page)
    page.close()
    save(host, NAME)
    assert host.one("restore", NAME)["changed"]
    went_on(host, NAME, counter)


def test_a_copy_of_copied_memory(host: EngineHost) -> None:
    """No mark lies beside memory that is in the state itself: the disks may be newer all the same."""
    host.boot(NAME, memory={"blocks": [{"id": "ram0", "size": "64M", "backing": "memfd"}]}).close()
    save(host, NAME, "--full")
    copy = copy_of(host, NAME)
    host.one("restore", NAME)
    host.one("stop", NAME)
    put_back(copy, checkpoint(host, NAME))
    for verb in ("restore", "start"):
        refuses(host.refused(verb, NAME), "was spent, or given up, before")
    assert host.qemu_pids(NAME) == []


def test_a_copy_of_what_was_given_up(host: EngineHost) -> None:
    host.boot(NAME, memory={"blocks": [{"id": "ram0", "size": "64M", "backing": "memfd"}]}).close()
    save(host, NAME, "--full")
    copy = copy_of(host, NAME)
    host.one("discard", NAME)
    put_back(copy, checkpoint(host, NAME))
    refuses(host.refused("restore", NAME), "was spent, or given up, before")


def test_definition_changed_while_the_guest_is_saved(host: EngineHost) -> None:
    """A save can take minutes, and only when it is over no other definition is taken."""
    page = host.boot(NAME)
    with host.at_function("_guest/save.py", "sha256_of", "import time; time.sleep(3)", "before"):
        saving = host.begin("save", NAME)
        wait_until((checkpoint(host, NAME).with_suffix(".new") / "state").exists, "nothing is saved")
        assert host.define(host.heartbeat(NAME, max_pause=3.0))["changed"]
        saving.communicate()
    counter = page.counter
    page.close()
    assert host.one("restore", NAME)["changed"]
    went_on(host, NAME, counter)


def test_the_definition_it_was_saved_with_is_taken(host: EngineHost) -> None:
    """It is the way back when the definition was changed by other means."""
    counter = saved_counter(host)
    kept = Path(host.settings["definitions"]) / f"{NAME}.json"
    data = json.loads(kept.read_text())
    data["definition"]["max_pause"] = 3.0
    kept.write_text(json.dumps(data))
    refuses(host.refused("restore", NAME), "definition was changed since")
    with pytest.raises(AssertionError, match="is saved; its definition is not changed"):
        host.define(host.heartbeat(NAME, max_pause=4.0))
    host.define(host.heartbeat(NAME))
    assert host.one("restore", NAME)["changed"]
    went_on(host, NAME, counter)
