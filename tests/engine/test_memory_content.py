# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a guest finds in its memory at a cold start: nothing of anybody else's with ``create``, all of it with ``open``."""

from __future__ import annotations

import mmap
import os
import shutil
import signal
import struct
from pathlib import Path
from typing import Any

import pytest

from support.engine import EngineHost
from support.host import USER
from support.materials import huge_pages
from support.sound import assert_alive, refuses

MIB = 1 << 20
NAME = "qemu_back_mem.0+4000000.ram0"
SECRET = b"another guest's secret."
SECRET_AT = 10 * MIB  # memory that the heartbeat guest never touches


def places(host: EngineHost, backing: str) -> dict[str, Any]:
    if backing == "hugetlbfs":
        return {"backing": backing, "page_size": "2M", "directory": str(huge_pages(host, 40) / "g")}
    base = host.memory if backing == "tmpfs" else host.root / "ram"
    return {"backing": backing, "directory": str(base / "g")}


def old_file(directory: Path, size: int = 64 * MIB, name: str = NAME) -> Path:
    """A RAM file of an earlier guest, that was a heartbeat guest too; written through a mapping, as hugetlbfs wants it."""
    directory.mkdir(parents=True)
    path = directory / name
    with path.open("w+b") as file:
        file.truncate(size)
        with mmap.mmap(file.fileno(), size) as memory:
            memory[SECRET_AT : SECRET_AT + len(SECRET)] = SECRET
            memory[0x200000:0x200008] = struct.pack("<4sI", b"HMB1", 7)
    for place in (directory, path):
        shutil.chown(place, USER, USER)
    directory.chmod(0o700)
    path.chmod(0o600)
    return path


def content(path: Path) -> bytes:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory:
        return memory[SECRET_AT : SECRET_AT + len(SECRET)]


@pytest.mark.parametrize("prealloc", [False, True])
@pytest.mark.parametrize("backing", ["tmpfs", "file", "hugetlbfs"])
def test_create_never_shows_the_old_content(host: EngineHost, backing: str, prealloc: bool) -> None:
    block = host.block("g", **places(host, backing), prealloc=prealloc)
    file = old_file(Path(block["directory"]))
    page = host.boot("g", memory={"blocks": [block]})
    assert page.boots == 1
    assert not any(content(file))


def test_create_shows_the_old_content_without_protection(host: EngineHost) -> None:
    """QEMU itself lets a cold start see it, with prealloc too."""
    block = host.block("g", prealloc=True)
    file = old_file(Path(block["directory"]))
    with host.patched(
        "_guest/resources.py",
        "plan_present(layout(definition), config.user, True,",
        "plan_present(layout(definition), config.user, False,",
    ):
        page = host.boot("g", memory={"blocks": [block]})
    assert page.boots == 8
    assert content(file) == SECRET


@pytest.mark.parametrize("size", [32 * MIB, 96 * MIB])
def test_create_over_another_size(host: EngineHost, size: int) -> None:
    """QEMU refuses a smaller file and takes a larger one without a word."""
    file = old_file(host.memory / "g", size)
    page = host.boot("g")
    assert file.stat().st_size == 64 * MIB
    assert page.boots == 1
    assert not any(content(file))


def test_create_after_a_killed_qemu(host: EngineHost) -> None:
    host.boot("g").close()
    os.kill(host.only_qemu("g"), signal.SIGKILL)
    assert host.boot("g").boots == 1


def test_create_leaves_a_mapped_file_alone(host: EngineHost) -> None:
    """A RAM file that somebody maps is somebody's memory."""
    file = old_file(host.memory / "g")
    host.define(host.heartbeat("g"))
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0):
        refuses(host.refused("start", "g"), f"is mapped by process {os.getpid()}", "Stop the guest first")
    assert content(file) == SECRET
    assert host.boot("g").boots == 1


def test_create_refuses_a_link(host: EngineHost) -> None:
    target = old_file(host.root / "elsewhere")
    (host.memory / "g").mkdir(parents=True)
    (host.memory / "g" / NAME).symlink_to(target)
    host.define(host.heartbeat("g"))
    refuses(host.refused("start", "g"), "is not a plain file")
    assert content(target) == SECRET


def test_open_keeps_the_content(host: EngineHost) -> None:
    block = host.block("g", mode="open")
    file = old_file(Path(block["directory"]))
    page = host.boot("g", memory={"blocks": [block]})
    assert page.boots == 8
    assert content(file) == SECRET
    page.close()
    host.one("stop", "g")
    assert content(file) == SECRET


@pytest.mark.parametrize(
    ("name", "size", "miss"),
    [
        ("qemu_back_mem.0+4000000.ram1", 64, "other name"),
        ("qemu_back_mem.40000+4000000.ram0", 64, "other offset"),
        ("qemu_back_mem.0+2000000.ram0", 32, "other size"),
        (NAME, 32, "length 33554432"),
    ],
)
def test_open_demands_exactly_this_file(host: EngineHost, name: str, size: int, miss: str) -> None:
    block = host.block("g", mode="open")
    file = old_file(Path(block["directory"]), size * MIB, name)
    host.define(host.heartbeat("g", memory={"blocks": [block]}))
    refuses(host.refused("start", "g"), "mode open demands", f"{name} ({miss})", "Correct size, order or id")
    assert os.listdir(block["directory"]) == [name]
    assert content(file) == SECRET


def test_open_without_any_file(host: EngineHost) -> None:
    host.define(host.heartbeat("g", memory={"blocks": [host.block("g", mode="open")]}))
    refuses(host.refused("start", "g"), "does not exist", "none in this directory")


def test_running_guest_keeps_its_files_from_another_definition(host: EngineHost) -> None:
    """A change that would rename the file that holds a running guest is refused."""
    page = host.boot("g")
    for changes in ({"id": "memory"}, {"size": "32M"}, {"directory": str(host.memory / "other")}):
        definition = host.heartbeat("g", memory={"blocks": [host.block("g", **changes)]})
        result = host.define_altered(definition, "-nodefaults", "-nodefaults")
        assert not result["ok"]
        refuses(result["error"], "would move its RAM from", "Stop the guest first")
    assert_alive(page)


def test_another_guest_cannot_have_the_same_file(host: EngineHost) -> None:
    """Two starts at once would find it free, both of them."""
    page = host.boot("g")
    with pytest.raises(AssertionError, match=r"Guest g has .* already, which guest other would write to"):
        host.define(host.heartbeat("other", memory={"blocks": [host.block("g")]}))
    assert_alive(page)


def test_open_is_refused_while_another_guest_has_the_file(host: EngineHost) -> None:
    page = host.boot("g")
    host.define(host.heartbeat("other", memory={"blocks": [host.block("g", mode="open")]}))
    pid = host.only_qemu("g")
    refuses(host.refused("start", "other"), "is mapped by process", str(pid), "Stop the guest first")
    assert_alive(page)
