# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Save and restore of guests on real QEMUs: memory in its place, the guest never started anew, nothing loaded twice."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from support.engine import EngineHost, wait_until
from support.sound import assert_alive, assert_sound, refuses

NAME = "beat"


def checkpoint(host: EngineHost, name: str = NAME) -> Path:
    return Path(host.settings["state"]) / name / "checkpoint"


def saved(host: EngineHost, *options: str, name: str = NAME) -> dict[str, Any]:
    """Save a guest; nothing of its QEMU may be left."""
    result = host.one("save", *options, name)
    assert host.qemu_pids(name) == []
    assert (checkpoint(host, name) / "manifest").is_file()
    return result


def restored_page(host: EngineHost, counter: int, name: str = NAME) -> Any:
    """The status page of a restored guest, which must have gone on from where it was, in its first boot."""
    page = host.page(name)
    wait_until(lambda: page.counter > counter, "the guest does not go on from where it was")
    assert_alive(page)
    return page


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_save_and_restore(host: EngineHost) -> None:
    page = host.boot(NAME)
    ram = host.ram_file(NAME)
    inode = ram.stat().st_ino
    result = saved(host)
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
    page = restored_page(host, counter)
    assert not checkpoint(host).exists()
    assert not list(ram.parent.glob("hostmem_checkpoint.*"))
    assert not host.one("start", NAME)["changed"]
    assert_sound(host, NAME, page)


def test_start_restores(host: EngineHost) -> None:
    page = host.boot(NAME)
    saved(host)
    counter = page.counter
    page.close()
    assert host.one("start", NAME)["how"] == "restored"
    restored_page(host, counter)


def test_paused_guest_stays_paused(host: EngineHost) -> None:
    page = host.boot(NAME)
    with host.qmp(NAME) as qmp:
        qmp("stop")
    saved(host)
    counter = page.counter
    host.one("restore", NAME)
    assert host.page(NAME).counter == counter
    with host.qmp(NAME) as qmp:
        assert qmp("query-status")["status"] == "paused"
        qmp("cont")
    restored_page(host, counter)


@pytest.mark.parametrize(
    "block", [{"backing": "memfd"}, {"mode": "temp"}, {"mmap": "private", "backing": "file"}], ids=str
)
def test_memory_that_ends_with_qemu(host: EngineHost, block: dict[str, Any]) -> None:
    """It is refused, with size and time; in full it comes back all the same."""
    changes = {key: value for key, value in host.block(NAME, **block).items() if block.get("backing") != "memfd" or key != "directory"}
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
    assert saved(host, "--full")["saved"]["copied_bytes"] == 64 << 20
    host.one("restore", NAME)
    restored_page(host, counter)


def test_saved_guest_is_not_touched(host: EngineHost) -> None:
    """No start anew, no change of definition, no removal, until the guest is given up."""
    definition = host.heartbeat(NAME)
    host.boot_defined(definition).close()
    ram = host.ram_file(NAME)
    saved(host)
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


def test_restored_only_once(host: EngineHost, tmp_path: Path) -> None:
    """A copy of the checkpoint that is put back later belongs to older memory."""
    page = host.boot(NAME)
    saved(host)
    shutil.copytree(checkpoint(host), tmp_path / "copy")
    counter = page.counter
    host.one("restore", NAME)
    restored_page(host, counter)
    saved(host)
    shutil.rmtree(checkpoint(host))
    put_back(tmp_path / "copy", checkpoint(host))
    refuses(host.refused("restore", NAME), "no mark of this checkpoint")
    refuses(host.refused("start", NAME), "no mark of this checkpoint")
    assert host.qemu_pids(NAME) == []


def put_back(copy: Path, place: Path) -> None:
    shutil.copytree(copy, place)
    owner = place.parent.stat()
    for path in [place, *place.iterdir()]:
        os.chown(path, owner.st_uid, owner.st_gid)
