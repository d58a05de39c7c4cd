# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""NVDIMMs of guests, on real QEMU: their files last, and go through live updates. MAP_SYNC needs a host with DAX: molecule/vm."""

from __future__ import annotations

import mmap
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from support.engine import EngineHost
from support.host import USER
from support.sound import assert_alive, assert_sound, refuses

MIB = 1 << 20


def nvdimm(host: EngineHost, **changes: Any) -> dict[str, Any]:
    return {"id": "nv0", "path": str(host.root / "nv0"), "size": "32M", "label_size": "128K", **changes}


def mapped_inodes(pid: int) -> set[int]:
    return {int(line.split()[4]) for line in Path(f"/proc/{pid}/maps").read_text().splitlines()}


def devices(host: EngineHost) -> list[dict[str, Any]]:
    """The NVDIMMs as QEMU tells them."""
    with host.qmp("g") as qmp:
        return [item["data"] for item in qmp("query-memory-devices") if item["type"] == "nvdimm"]


@pytest.mark.parametrize("version", ["10.0", "10.0.13", "11.1"])
def test_made_and_used(host: EngineHost, version: str) -> None:
    host.install(version)
    page = host.boot("g", nvdimms=[nvdimm(host)])
    found = (host.root / "nv0").stat()
    assert (found.st_size, found.st_blocks * 512, found.st_mode & 0o777) == (32 * MIB, 32 * MIB, 0o600)
    (device,) = devices(host)
    assert (device["size"], device["memdev"]) == (30 * MIB, "/objects/nv0")
    with host.qmp("g") as qmp:
        assert qmp("qom-get", path="/machine/peripheral/nvdimm-nv0", property="label-size") == 128 << 10
    assert found.st_ino in mapped_inodes(host.only_qemu("g"))
    assert host.ram_file("g").exists()  # the NVDIMM does not move the offsets that name the RAM files
    assert_sound(host, "g", page)


def test_content_outlives_updates_and_cold_starts(host: EngineHost) -> None:
    page = host.boot("g", nvdimms=[nvdimm(host)])
    file = host.root / "nv0"
    file.open("r+b").write(b"written")
    inode = file.stat().st_ino
    host.install("11.1")
    assert host.one("update", "g")["changed"]
    assert inode in mapped_inodes(host.only_qemu("g"))
    (device,) = devices(host)
    assert device["size"] == 30 * MIB
    assert_sound(host, "g", page)
    page.close()
    host.one("stop", "g")
    host.one("start", "g")
    assert (file.read_bytes()[:7], file.stat().st_ino) == (b"written", inode)
    host.one("stop", "g")
    host.one("undefine", "g")
    assert file.read_bytes()[:7] == b"written"


def test_read_only(host: EngineHost) -> None:
    file = host.root / "nv0"
    file.write_bytes(b"frozen" + bytes(32 * MIB - 6))
    file.chmod(0o444)
    page = host.boot("g", nvdimms=[nvdimm(host, read_only=True, label_size=0)])
    with host.qmp("g") as qmp:
        assert qmp("qom-get", path="/machine/peripheral/nvdimm-nv0", property="unarmed") is True
    assert file.stat().st_mode & 0o777 == 0o444
    assert_sound(host, "g", page)


class Case(NamedTuple):
    """Something wrong about the file or the definition."""

    prepare: Callable[[Path], object]
    changes: dict[str, Any]
    texts: tuple[str, str]


def nothing(_file: Path) -> None:
    """There is no file."""


REFUSED = {
    "another size": Case(lambda file: file.write_bytes(b"x"), {}, ("the definition says 32M", "moves the labels")),
    "a link": Case(lambda file: file.symlink_to("/dev/null"), {}, ("is not a plain file", "another path")),
    "no such file to read": Case(nothing, {"read_only": True}, ("does not exist", "Make it")),
    "no DAX": Case(nothing, {"pmem": True}, ("cannot be mapped with MAP_SYNC", "dax_mount")),
    "no space": Case(nothing, {"size": "4096G"}, ("not enough space", "are needed")),
    "no such device": Case(nothing, {"path": "/dev/dax9.9"}, ("no device-DAX device", "pmem_namespace")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(host: EngineHost, name: str) -> None:
    case = REFUSED[name]
    case.prepare(host.root / "nv0")
    host.define(host.heartbeat("g", nvdimms=[nvdimm(host, **case.changes)]))
    there = (host.root / "nv0").is_symlink() or (host.root / "nv0").exists()
    for words in (("start", "--check", "g"), ("start", "g")):
        refuses(host.refused(*words), *case.texts)
    assert ((host.root / "nv0").is_symlink() or (host.root / "nv0").exists()) is there
    assert not host.qemu_pids("g")


def test_mapped_by_another_process_is_refused(host: EngineHost) -> None:
    file = host.root / "nv0"
    file.write_bytes(bytes(32 * MIB))
    shutil.chown(file, USER, USER)
    host.define(host.heartbeat("g", nvdimms=[nvdimm(host)]))
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0):
        refuses(host.refused("start", "g"), f"is mapped by process {os.getpid()}", "destroy what is on it")
    page = host.boot("g", nvdimms=[nvdimm(host)])
    assert page.boots == 1


def test_another_guest_cannot_have_it_too(host: EngineHost) -> None:
    page = host.boot("g", nvdimms=[nvdimm(host)])
    with pytest.raises(AssertionError, match=r"Guest g has .*/nv0 already, which guest other would write to"):
        host.define(host.heartbeat("other", nvdimms=[nvdimm(host)]))
    assert_alive(page)
