# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Live updates that succeed, of guests with every kind of memory and device."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest

from support.engine import EngineHost, wait_until
from support.host import QEMU_TREES
from support.materials import block_of, digests, disk, image
from support.sound import assert_alive, assert_never_two, assert_sound, refuses, undisturbed


def test_to_the_next_version(host: EngineHost) -> None:
    page = host.boot("g")
    host.install("11.1")
    info = host.info("g")
    assert info["outdated"]
    assert info["live_update_blockers"] == []
    result = host.one("update", "g")
    assert result["changed"]
    assert result["from"]["version"].startswith("10.0.")
    assert result["to"]["version"].startswith("11.1.")
    assert "installed is 11.1" in result["reason"]
    assert result["pause_ms"] > 0
    assert result["pid"] == host.only_qemu("g")
    assert not host.info("g")["outdated"]
    assert_sound(host, "g", page)


def test_ten_in_a_row(host: EngineHost) -> None:
    page = host.boot("g")
    host.install("11.1")
    for number in range(10):
        assert host.one("update", "--force", "g")["to"]["generation"] == number + 1
    assert_sound(host, "g", page)


def test_twice_is_once(host: EngineHost) -> None:
    page = host.boot("g")
    host.install("11.1")
    assert host.one("update", "g")["changed"]
    with undisturbed(host, "g", page):
        assert not host.one("update", "g")["changed"]
        assert not host.one("update", "--check", "g")["changed"]


def test_check_foretells(host: EngineHost) -> None:
    page = host.boot("g")
    host.install("11.1")
    with undisturbed(host, "g", page):
        foretold = host.one("update", "--check", "g")
    told = host.one("update", "g")
    assert {key: told[key] for key in foretold} == {**foretold, "generation": told["generation"]}
    assert_sound(host, "g", page)


def test_same_version_packed_anew(host: EngineHost) -> None:
    """A rebuild with the same version: known by the program file, not by its version."""
    page = host.boot("g")
    again = host.root / "fake-again" / "usr"
    (again / "bin").mkdir(parents=True)
    for name in ("lib", "share"):
        (again / name).symlink_to(QEMU_TREES / "10.0" / "usr" / name)
    (again / "bin" / "qemu-bundle").symlink_to("../..")
    shutil.copy(QEMU_TREES / "10.0" / "usr" / "bin" / "qemu-system-x86_64", again / "bin")
    (host.root / "qemu").unlink()
    (host.root / "qemu").symlink_to(again.parent)
    result = host.one("update", "g")
    assert result["from"]["version"] == result["to"]["version"]
    assert "was replaced since the guest's QEMU started" in result["reason"]
    assert_sound(host, "g", page)


# --- memory


@pytest.mark.parametrize(
    "kind",
    [
        "memfd",
        "memfd prealloc",
        "tmpfs",
        "tmpfs temp",
        "tmpfs prealloc",
        "file",
        "file temp",
        "hugetlbfs",
        "hugetlbfs temp",
    ],
)
def test_memory(host: EngineHost, kind: str) -> None:
    page = host.boot("g", memory={"blocks": [block_of(host, kind)]})
    host.install("11.1")
    assert host.one("update", "g")["changed"]
    assert b"prealloc=on" not in Path(f"/proc/{host.only_qemu('g')}/cmdline").read_bytes()
    assert_sound(host, "g", page)


def test_numa_nodes(host: EngineHost) -> None:
    blocks = [
        host.block("g", id="low", numa_node=0),
        {"id": "fd", "size": "32M", "backing": "memfd", "numa_node": 1},
        host.block("g", id="top", size="32M", numa_node=2, mode="temp"),
    ]
    definition = host.heartbeat("g", memory={"blocks": blocks}, cpu={"model": "qemu64", "count": 3})
    host.start(definition)
    page = host.page("g", "low")
    wait_until(lambda: page.ready, "the guest did not fill its memory")
    host.baseline["g"] = host.listing("g")
    host.install("11.1")
    assert host.one("update", "g")["changed"]
    assert_sound(host, "g", page)


def test_unlinked_ram_file(host: EngineHost) -> None:
    """The name was taken away under the guest: the file is reached through the old QEMU, again and again."""
    page = host.boot("g")
    host.ram_file("g").unlink()
    host.baseline["g"] = host.listing("g")
    host.install("11.1")
    for _number in range(3):
        assert host.one("update", "--force", "g")["changed"]
    assert_sound(host, "g", page)


def test_replaced_ram_file(host: EngineHost) -> None:
    """Another file got the name: the guest goes on in its own."""
    page = host.boot("g")
    file = host.ram_file("g")
    file.rename(host.memory / "moved")
    shutil.copy(host.memory / "moved", file)
    os.chown(file, (host.memory / "moved").stat().st_uid, (host.memory / "moved").stat().st_gid)
    host.baseline["g"] = host.listing("g")
    host.install("11.1")
    assert host.one("update", "g")["changed"]
    assert_sound(host, "g", page)


# --- run states


def test_paused_guest_stays_paused(host: EngineHost) -> None:
    page = host.boot("g")
    with host.qmp("g") as qmp:
        qmp("stop")
    counter = page.counter
    host.install("11.1")
    result = host.one("update", "g")
    assert result["changed"]
    assert result["pause_ms"] is None
    with host.qmp("g") as qmp:
        assert qmp("query-status")["status"] == "paused"
        assert page.counter == counter
        qmp("cont")
    assert_sound(host, "g", page)


# --- what is seen from outside

VIDEO = "0000:00:01.0/vga.vram"


def test_video_and_firmware_memory(host: EngineHost) -> None:
    """VRAM and ROMs byte by byte; nothing else moves them but aux-ram-share."""
    page = host.boot("g", video="std")
    before = digests(host, "g")
    assert {VIDEO, "pc.bios", "pc.rom"} <= set(before)
    host.install("11.1")
    host.one("update", "g")
    assert digests(host, "g") == before
    assert_sound(host, "g", page)


def test_video_memory_is_lost_without_protection(host: EngineHost) -> None:
    """A new QEMU without aux-ram-share: QEMU calls that completed."""
    host.boot("g", video="std")
    before = digests(host, "g")
    host.install_altered('text = text.replace("aux-ram-share=on", "aux-ram-share=off")')
    with host.patched("_guest/update_attempt.py", "if compared.differences:", "if False:"):
        assert host.one("update", "g")["changed"]
    after = digests(host, "g")
    assert after[VIDEO] != before[VIDEO]


def wait_for_ticks(host: EngineHost, seen: int) -> None:
    wait_until(lambda: host.console("g").count("\nT") > seen, "the console is silent")


def test_console_log_goes_on(host: EngineHost) -> None:
    page = host.boot("g")
    host.install("11.1")
    for _number in range(3):
        host.one("update", "--force", "g")
        wait_for_ticks(host, host.console("g").count("\nT"))
    lines = [line for line in host.console("g").splitlines() if line]
    assert lines[0] == "B"
    assert lines.count("B") == lines.count("R") == 1
    ticks = [int(line[1:].split()[0]) for line in lines if line.startswith("T") and " " in line]
    assert ticks == sorted(set(ticks))
    assert_alive(page)


def greeting(path: Path, wanted: bytes) -> None:
    """Connect to a socket of the guest and wait for what it says."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(path))
        said = b""
        while wanted not in said:
            data = connection.recv(4096)
            assert data, f"{path} was closed"
            said += data


def test_sockets_of_the_current_generation(host: EngineHost) -> None:
    """Console, VNC and agent are reached at the same path before and after; the old QEMU's end does not take them away."""
    page = host.boot("g", consoles=[{"id": "c0", "to": "socket"}], vnc=True, video="std", guest_agent=True)
    current = host.run_directory("g") / "current"
    for version in ("10.0", "11.1", "11.1"):
        host.install(version)
        host.one("update", "--force", "g")
        greeting(current / "c0.sock", b"\nT")
        greeting(current / "vnc.sock", b"RFB 003.")
        with socket.socket(socket.AF_UNIX) as agent:
            agent.connect(str(current / "qga.sock"))
    assert_sound(host, "g", page)


def test_many_devices(host: EngineHost) -> None:
    """All devices that QEMU hands over, in one guest."""
    disks = [
        disk(image(host, "a"), id="a", interface="virtio"),
        disk(image(host, "b"), id="b", interface="scsi", cache="none", aio="native"),
        disk(image(host, "c", "raw"), id="c", interface="sata", format="raw"),
        disk(image(host, "d"), id="d", interface="virtio", read_only=True),
    ]
    arguments = [
        *("-device", "virtio-rng-pci,id=rng"),
        *("-device", "virtio-balloon-pci,id=balloon"),
        *("-device", "qemu-xhci,id=xhci"),
        *("-device", "usb-tablet,id=tablet,bus=xhci.0"),
        *("-device", "pcie-root-port,id=port0,chassis=1"),
        *("-device", "i6300esb,id=watchdog"),
    ]
    consoles = [{"id": "c0"}, {"id": "c1", "type": "virtio", "to": "socket"}]
    nics = [{"id": "n0", "type": "user", "mac": "52:54:00:00:00:01"}]
    page = host.boot(
        "g", disks=disks, nics=nics, consoles=consoles, video="virtio", vnc=True, guest_agent=True, arguments=arguments
    )
    host.install("11.1")
    assert host.one("update", "g")["changed"]
    assert_sound(host, "g", page)


_TELL_COMMANDS = """
_true_send = Qmp.send


async def _telling_send(self, command, arguments):
    with open({path!r}, "a") as file:
        file.write(command + "\\n")
    return await _true_send(self, command, arguments)


Qmp.send = _telling_send
"""


def test_commands_within_the_pause(host: EngineHost) -> None:
    """As few as can be: each one is a part of every guest's pause."""
    told = host.root / "commands"
    told.touch()
    told.chmod(0o666)  # the part of the runtime that does this is QEMU's user
    page = host.boot("g", disks=[disk(image(host, "a"))])
    host.install("11.1")
    with host.appended("_guest/qmp.py", _TELL_COMMANDS.format(path=str(told))):
        assert host.one("update", "g")["changed"]
    commands = told.read_text().split()
    within = commands[commands.index("migrate-incoming") + 1 : commands.index("cont")]
    assert sorted(within) == ["query-migrate", "query-status"]
    assert_sound(host, "g", page)


# --- many guests


def test_batch(host: EngineHost) -> None:
    """Four at once, two at a time; one of them cannot move, which hinders no other."""
    pages = {name: host.boot(name) for name in ("a", "b", "d")}
    private = host.block("c", backing="file", directory=str(host.root / "ram"), mmap="private")
    pages["c"] = host.boot("c", memory={"blocks": [private]})
    for name in pages:  # each was listed before the others came
        host.baseline[name] = host.listing(name)
    host.install("11.1")
    results = host.run("update", "d", "c", "b", "a")
    assert [(item["guest"], item["ok"]) for item in results] == [("d", True), ("c", False), ("b", True), ("a", True)]
    refuses(results[1]["error"], "Memory block ram0 is mapped private", "mmap: shared")
    assert [item["changed"] for item in host.run("update", "--all", "--parallel", "1")] == [False, False, False, False]
    for name in ("a", "b", "d"):
        assert_sound(host, name, pages[name])
    assert_alive(pages["c"])
    assert_never_two(host, "c")
