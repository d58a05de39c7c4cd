# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real Linux guest with disk, NIC and agent is saved and restored: one boot, disk and memory whole, and its TCP connection lives."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from support.checkpoints import checkpoint, digest, save
from support.engine import EngineHost, wait_until
from support.linux import LINUX, NAME, LinuxGuest
from support.sound import refuses


def test_saved_and_restored_in_a_newer_qemu(host: EngineHost) -> None:
    guest = LinuxGuest(host, 50)
    ram = host.ram_file(NAME)
    with guest.stream():
        save(host, NAME)
        content = digest(ram)
        host.install("11.1")
        assert digest(ram) == content
        assert host.one("start", NAME)["how"] == "restored"
        guest.wait_for_more("D")
    guest.assert_whole()
    with guest.stream():
        host.one("update", "--force", NAME)
        save(host, NAME)
        host.install("10.0")
        host.one("restore", "--older", NAME)
    guest.assert_whole()


def test_save_that_fails(host: EngineHost) -> None:
    """The guest stood still and goes on in its old QEMU."""
    guest = LinuxGuest(host, 51)
    with guest.stream(), host.at_command("migrate", 'raise HostmemError("by a test")'):
        assert "by a test" in host.refused("save", NAME)["message"]
    guest.assert_whole()
    assert not checkpoint(host, NAME).exists()


def test_larger_queues(host: EngineHost) -> None:
    """Debian's QEMU 10.0.13 gives virtio queues 1024 entries, which QEMU 11.1 cannot load: refused, and nothing is spent."""
    host.install("10.0.13")
    guest = LinuxGuest(host, 52)
    with guest.stream():
        save(host, NAME)
        host.install("11.1")
        refuses(host.refused("restore", NAME), "virtio queues", "1024", "256")
        host.install("10.0.13")
        host.one("restore", NAME)
    guest.assert_whole()


def with_agent(host: EngineHost, network: int) -> LinuxGuest:
    """A guest that can suspend itself: by its agent, and with a kernel that QEMU does not load again when it wakes."""
    cmdline = f"{(LINUX / 'cmdline').read_text().strip()} hm.ip=10.98.{network}.2/24"
    kernel: dict[str, Any] = {"image": str(LINUX / "vmlinuz"), "initrd": str(LINUX / "initrd"), "cmdline": cmdline}
    # A Q35 machine does not come back from S3 as it was: its second sleep ends at once (QEMU 10.0 and 11.1 with their SeaBIOS).
    guest = LinuxGuest(host, network, kernel=kernel, machine="pc-i440fx-10.0")
    wait_until(lambda: agent_answers(host), "the guest's agent does not answer", 60)
    return guest


def agent_answers(host: EngineHost) -> bool:
    with socket.socket(socket.AF_UNIX) as agent:
        agent.settimeout(5)
        agent.connect(f"{host.run_directory(NAME)}/gen-0/qga.sock")
        agent.sendall(b'{"execute": "guest-ping"}\n')
        try:
            return b"return" in agent.recv(4096)
        except TimeoutError:
            return False


def told_of_vfio(host: EngineHost) -> contextlib.AbstractContextManager[None]:
    """The engine believes that each guest has a vfio device, which cannot exist here."""
    look = 'return any(kind.startswith("child<vfio-") for kind in types)'
    return host.patched("_guest/suspend.py", look, "return True")


def test_saved_asleep(host: EngineHost) -> None:
    """As a guest with a vfio device must be."""
    guest = with_agent(host, 53)
    with told_of_vfio(host), guest.stream():
        save(host, NAME)
        host.install("11.1")
        host.one("restore", NAME)
        with host.qmp(NAME) as qmp:
            assert qmp("query-status")["status"] == "running"
    guest.assert_whole()


def test_save_asleep_that_fails(host: EngineHost) -> None:
    """It is woken in its old QEMU."""
    guest = with_agent(host, 54)
    fault = host.at_command("migrate", 'raise HostmemError("by a test")', "before")
    with told_of_vfio(host), guest.stream(), fault:
        assert "by a test" in host.refused("save", NAME)["message"]
    guest.assert_whole()


def test_save_asleep_that_fails_late(host: EngineHost) -> None:
    """QEMU has written its state and would end if the guest were told to go on: the save is finished."""
    guest = with_agent(host, 55)
    with told_of_vfio(host), guest.stream():
        with host.at_function("_guest/save.py", "sha256_of", 'raise HostmemError("by a test")', "before"):
            refuses(host.refused("save", NAME), "by a test", "finished the save")
        assert host.qemu_pids(NAME) == []
        assert host.one("start", NAME)["how"] == "restored"
    guest.assert_whole()


def test_save_asleep_that_is_killed_late(host: EngineHost) -> None:
    """The next verb finishes it."""
    guest = with_agent(host, 56)
    with told_of_vfio(host), guest.stream():
        with (
            host.patched("_guest/verbs.py", "lambda: _recover_all(config, names))", "lambda: None)"),
            host.at_function("_guest/save.py", "sha256_of", "os.kill(os.getpid(), 9)", "before"),
        ):
            refuses(host.refused("save", NAME), "was ended")
        assert len(host.qemu_pids(NAME)) == 1
        assert "finished the save" in host.one("recover", NAME)["outcome"]
        assert host.qemu_pids(NAME) == []
        assert host.one("start", NAME)["how"] == "restored"
    guest.assert_whole()


def test_vfio_without_an_agent(host: EngineHost) -> None:
    host.boot("g").close()
    with told_of_vfio(host):
        refuses(host.refused("save", "g"), "agent")
