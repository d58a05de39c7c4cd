# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Save and restore of guests on real QEMUs: memory in its place, the guest never started anew, nothing loaded twice."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.checkpoints import checkpoint, digest, save, went_on
from support.engine import EngineHost, wait_until
from support.sound import assert_alive, assert_sound, refuses

NAME = "beat"


def test_save_and_restore(host: EngineHost) -> None:
    page = host.boot(NAME)
    ram = host.ram_file(NAME)
    inode = ram.stat().st_ino
    result = save(host, NAME)
    assert result["changed"]
    assert result["saved"]["copied_bytes"] == 0
    assert result["saved"]["in_place_bytes"] == 64 << 20
    assert result["saved"]["state_bytes"] < 1 << 20
    counter, content = page.counter, digest(ram)
    assert host.info(NAME)["state"] == "saved"
    assert host.info(NAME)["checkpoint"]["restorable"]
    assert host.one("save", NAME) == {**host.one("save", NAME), "changed": False, "how": "saved already"}
    assert (ram.stat().st_ino, digest(ram)) == (inode, content)
    host.install("11.1")
    back = host.one("restore", NAME)
    assert back["changed"]
    assert back["asleep_seconds"] > 0
    assert ram.stat().st_ino == inode
    page = went_on(host, NAME, counter)
    assert not checkpoint(host, NAME).exists()
    assert not list(ram.parent.glob("hostmem_checkpoint.*"))
    assert not host.one("start", NAME)["changed"]
    assert_sound(host, NAME, page)


@pytest.mark.parametrize("status", ["running", "paused"])
def test_check_and_run_agree(host: EngineHost, status: str) -> None:
    """Whatever a save can know of the checkpoint beforehand is what it makes."""
    copied = {"id": "ram0", "size": "64M", "backing": "memfd"}
    page = host.boot(NAME, memory={"blocks": [copied if status == "running" else host.block(NAME)]})
    if status == "paused":
        with host.qmp(NAME) as qmp:
            qmp("stop")
    would = host.one("save", "--full", "--check", NAME)["would"]
    saved = save(host, NAME, "--full")["saved"]
    assert would == {**{key: saved[key] for key in saved.keys() - {"at", "state_bytes"}}, "seconds": would["seconds"]}
    assert saved["was_running"] == (status == "running")
    page.close()


def test_check_looks_at_the_memory(host: EngineHost) -> None:
    """What a save would have to put into the manifest, and cannot look at, is found beforehand."""
    nvdimm = {"id": "nv0", "path": str(host.root / "nv0"), "size": "16M", "label_size": 0}
    page = host.boot(NAME, nvdimms=[nvdimm])
    (host.root / "nv0").rename(host.root / "moved")
    refuses(host.refused("save", "--check", NAME), "nv0", "No such file")
    assert_alive(page)


def test_start_restores(host: EngineHost) -> None:
    page = host.boot(NAME)
    save(host, NAME)
    counter = page.counter
    page.close()
    assert host.one("start", NAME)["how"] == "restored"
    went_on(host, NAME, counter)


def test_paused_guest_stays_paused(host: EngineHost) -> None:
    page = host.boot(NAME)
    with host.qmp(NAME) as qmp:
        qmp("stop")
    save(host, NAME)
    counter = page.counter
    host.one("restore", NAME)
    assert host.page(NAME).counter == counter
    with host.qmp(NAME) as qmp:
        assert qmp("query-status")["status"] == "paused"
        qmp("cont")
    went_on(host, NAME, counter)


@pytest.mark.parametrize(
    "block", [{"backing": "memfd"}, {"mode": "temp"}, {"mmap": "private", "backing": "file"}], ids=str
)
def test_memory_that_ends_with_qemu(host: EngineHost, block: dict[str, Any]) -> None:
    """It is refused, with size and time; in full it comes back all the same."""
    changes = {
        key: value
        for key, value in host.block(NAME, **block).items()
        if block.get("backing") != "memfd" or key != "directory"
    }
    if block.get("backing") == "file":
        changes["directory"] = str(host.root / "memory")
    page = host.boot(NAME, memory={"blocks": [changes]})
    refuses(host.refused("save", NAME), "ram0", "64M", " s ")
    would = host.one("save", "--full", "--check", NAME)["would"]
    assert would["copied_bytes"] == 64 << 20
    assert would["seconds"] > 0
    assert_alive(page)
    counter = page.counter
    page.close()
    assert save(host, NAME, "--full")["saved"]["copied_bytes"] == 64 << 20
    host.one("restore", NAME)
    went_on(host, NAME, counter)


def test_saved_guest_is_not_touched(host: EngineHost) -> None:
    """No start anew, no change of definition, no removal, until the guest is given up."""
    definition = host.heartbeat(NAME)
    host.boot_defined(definition).close()
    ram = host.ram_file(NAME)
    save(host, NAME)
    content = digest(ram)
    other = {**definition, "cpu": {"model": "qemu64", "count": 2}}
    with pytest.raises(AssertionError, match="is saved"):
        host.define(other)
    assert not host.define(definition)["changed"]
    refuses(host.refused("undefine", NAME), "is saved", "discard")
    assert not host.one("stop", NAME)["changed"]
    assert digest(ram) == content
    assert host.one("discard", "--check", NAME)["changed"]
    assert digest(ram) == content
    assert host.one("discard", NAME)["changed"]
    assert not host.one("discard", NAME)["changed"]
    assert not ram.exists()
    refuses(host.refused("restore", NAME), "is not saved")
    assert host.one("start", NAME)["how"] == "started"


def test_a_later_release(host: EngineHost) -> None:
    """It has one key more in definitions, asks QEMU for more, and renders other arguments: what runs, or is saved, is the same guest."""
    definition = host.heartbeat(NAME)
    page = host.boot_defined(definition)
    with later_release(host):
        assert host.info(NAME)["definition"]["on_crash"] == "restart"
        assert not host.info(NAME)["definition_pending"]
        assert host.define(definition) == {**host.define(definition), "changed": False, "definition_pending": False}
    save(host, NAME)
    counter = page.counter
    with later_release(host):
        assert not host.define(definition)["changed"]
        assert host.define_altered(definition, "prealloc=off", "prealloc=off,merge=off")["changed"]
        with pytest.raises(AssertionError, match="is saved"):
            host.define({**definition, "max_pause": 3})
        assert host.one("restore", NAME)["changed"]
    went_on(host, NAME, counter)


@contextmanager
def later_release(host: EngineHost) -> Iterator[None]:
    """This runtime with one key more in its definitions, and one more in its inventories."""
    old_field = '    on_power_cut: str = "start"\n'
    old_key = "        sandbox_spawn=_sandbox(top),\n"
    new_key = f'{old_key}        on_crash=top.choice("on_crash", ("restart", "stop"), "restart"),\n'
    with (
        host.patched("_guest/definition.py", old_field, f'{old_field}    on_crash: str = "restart"\n'),
        host.patched("_guest/definition.py", old_key, new_key),
        host.patched(
            "_guest/inventory.py",
            '    return {\n        "machine":',
            '    return {\n        "later": [],\n        "machine":',
        ),
    ):
        yield


@pytest.mark.parametrize("policy", ["refuse", "start"])
def test_start_after_a_power_cut(host: EngineHost, policy: str) -> None:
    """The host went down under the guest: here by a mark of another boot, as this kernel goes on (tests/vm cuts the power of a host)."""
    host.boot(NAME, on_power_cut=policy).close()
    ram = host.ram_file(NAME)
    os.kill(host.only_qemu(NAME), 9)
    wait_until(lambda: not host.qemu_pids(NAME), "QEMU lives")
    mark = Path(host.settings["state"]) / NAME / "running.json"
    mark.write_text(json.dumps({**json.loads(mark.read_text()), "boot_id": "of another boot"}))
    if policy == "refuse":
        content = digest(ram)
        for words in (["start", "--check", NAME], ["start", NAME]):
            refuses(host.refused(*words), "ran when its host went down", "discard")
        assert digest(ram) == content
        assert host.one("discard", NAME)["changed"]
        assert not ram.exists()
    assert host.one("start", NAME)["how"] == "started"
    host.one("stop", "--timeout", "0", NAME)
    assert not mark.exists()


def test_start_after_a_crash_of_qemu(host: EngineHost) -> None:
    """That is no power cut: the guest starts anew."""
    host.boot(NAME, on_power_cut="refuse").close()
    os.kill(host.only_qemu(NAME), 9)
    wait_until(lambda: not host.qemu_pids(NAME), "QEMU lives")
    assert host.one("start", NAME)["how"] == "started"
