# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real Linux guest comes through live updates by checkpoint and by exec: disk and memory whole, its TCP connection alive."""

from __future__ import annotations

from support.engine import EngineHost
from support.linux import NAME, LinuxGuest
from support.sound import assert_never_two

SPAWN = {"spawn": True}
EXEC = ("update", "--force", "--method", "exec", NAME)


def test_checkpoint_forth_and_back(host: EngineHost) -> None:
    guest = LinuxGuest(host, 31)
    with guest.stream():
        for version in ("11.1", "10.0"):
            host.install(version)
            result = host.one("update", "--method", "checkpoint", NAME)
            assert result["to"]["version"].startswith(version)
            guest.wait_for_more("D")
    guest.assert_whole()
    assert_never_two(host, NAME)


def test_exec(host: EngineHost) -> None:
    """The taps stay as they are: their descriptors go through execve."""
    host.install("11.1")
    guest = LinuxGuest(host, 32, sandbox=SPAWN)
    pid = host.only_qemu(NAME)
    with guest.stream():
        for _number in range(2):
            result = host.one(*EXEC)
            assert (result["pid"], result["warnings"]) == (pid, [])
            guest.wait_for_more("D")
        assert host.one("update", "--force", NAME)["method"] == "transfer"
    guest.assert_whole()
    assert_never_two(host, NAME)
    assert host.one("stop", NAME)["how"] == "powered down"


def test_exec_in_which_the_new_program_dies(host: EngineHost) -> None:
    """The standby goes on, on the guest's other tap."""
    host.install("11.1")
    guest = LinuxGuest(host, 33, sandbox=SPAWN)
    pid = host.only_qemu(NAME)
    with guest.stream():
        host.install_altered('words.append("-no-reboot"); words.count("-incoming") == 1 and sys.exit(3)')
        result = host.one(*EXEC)
        assert result["pid"] != pid
        assert "stood by" in result["warnings"][0]
        guest.wait_for_more("D")
        host.install("11.1")
        host.one(*EXEC)
    guest.assert_whole()
    assert_never_two(host, NAME)


def test_exec_that_cannot_be_run(host: EngineHost) -> None:
    """The guest goes on in the old QEMU, with its network."""
    host.install("11.1")
    guest = LinuxGuest(host, 34)
    allowed = ("_guest/update_methods.py", 'if not may_spawn(found.generation.record["argv"]):', "if False:")
    with guest.stream(), host.patched(*allowed):
        host.refused(*EXEC)
    guest.assert_whole()
