# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Live updates by cpr-exec: QEMU replaces itself in its process, while a standby that maps the guest's memory waits beside it."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.journal import UPDATE_STEPS
from support.engine import EngineHost
from support.host import QEMU_TREES, USER
from support.materials import block_of, digests, disk, image, small_tmpfs
from support.sound import assert_alive, assert_lost, assert_sound, refuses, undisturbed

UPDATE = ("update", "--force", "--method", "exec")
KILL = "os.kill(os.getpid(), 9)"
KILL_STANDBY = "[os.kill(pid, 9) for pid in qemu(facts['standby'])]"
SPAWN = {"spawn": True}
REPLACE = "        await self._replace()\n"
OUTCOME = "        won = await outcome("


@pytest.fixture
def new_host(host: EngineHost) -> EngineHost:
    """cpr-exec came with QEMU 10.2."""
    host.install("11.1")
    return host


def boot(host: EngineHost, **changes: Any) -> Any:
    return host.boot("g", sandbox=SPAWN, **changes)


def assert_same_process(host: EngineHost, pid: int) -> None:
    assert host.only_qemu("g") == pid


def test_same_process(new_host: EngineHost) -> None:
    page = boot(new_host)
    pid = new_host.only_qemu("g")
    for _number in range(3):
        result = new_host.one(*UPDATE, "g")
        assert (result["method"], result["method_reason"]) == ("exec", "asked for")
        assert result["warnings"] == []
        assert result["pid"] == pid
        assert result["pause_ms"] > 0
        assert_same_process(new_host, pid)
        assert_alive(page)
    assert_sound(new_host, "g", page)


def test_check_foretells(new_host: EngineHost) -> None:
    page = boot(new_host)
    with undisturbed(new_host, "g", page):
        foretold = new_host.one(*UPDATE, "--check", "g")
    told = new_host.one(*UPDATE, "g")
    assert {key: told[key] for key in foretold} == {**foretold, "generation": told["generation"]}
    assert_sound(new_host, "g", page)


@pytest.mark.parametrize("kind", ["memfd", "tmpfs", "tmpfs temp", "file", "hugetlbfs", "hugetlbfs temp"])
def test_memory(new_host: EngineHost, kind: str) -> None:
    page = boot(new_host, memory={"blocks": [block_of(new_host, kind)]})
    pid = new_host.only_qemu("g")
    for _number in range(2):
        new_host.one(*UPDATE, "g")
    assert_same_process(new_host, pid)
    assert_sound(new_host, "g", page)


def test_many_devices(new_host: EngineHost) -> None:
    disks = [
        disk(image(new_host, "a"), id="a", interface="virtio"),
        disk(image(new_host, "b"), id="b", interface="scsi", cache="none", aio="native"),
        disk(image(new_host, "c", "raw"), id="c", interface="sata", format="raw"),
    ]
    arguments = [
        *("-device", "virtio-rng-pci,id=rng"),
        *("-device", "virtio-balloon-pci,id=balloon"),
        *("-device", "qemu-xhci,id=xhci"),
        *("-device", "usb-tablet,id=tablet,bus=xhci.0"),
        *("-device", "pcie-root-port,id=port0,chassis=1"),
    ]
    consoles = [{"id": "c0"}, {"id": "c1", "type": "virtio", "to": "socket"}]
    page = boot(new_host, disks=disks, consoles=consoles, video="std", vnc=True, guest_agent=True, arguments=arguments)
    before = digests(new_host, "g")
    assert any(name.endswith("vga.vram") for name in before)
    new_host.one(*UPDATE, "g")
    assert digests(new_host, "g") == before
    assert_sound(new_host, "g", page)


def test_paused_guest_stays_paused(new_host: EngineHost) -> None:
    page = boot(new_host)
    with new_host.qmp("g") as qmp:
        qmp("stop")
    counter = page.counter
    assert new_host.one(*UPDATE, "g")["pause_ms"] is None
    with new_host.qmp("g") as qmp:
        assert qmp("query-status")["status"] == "paused"
        assert page.counter == counter
        qmp("cont")
    assert_sound(new_host, "g", page)


def test_guest_lock_is_kept(new_host: EngineHost) -> None:
    """The descriptor goes through execve: a cold start beside the guest is impossible, as before."""
    page = boot(new_host)
    new_host.one(*UPDATE, "g")
    lock = (new_host.run_directory("g") / "guest.lock").stat()
    held = [os.stat(path) for path in Path(f"/proc/{new_host.only_qemu('g')}/fd").iterdir() if path.exists()]
    assert any((item.st_dev, item.st_ino) == (lock.st_dev, lock.st_ino) for item in held)
    assert_sound(new_host, "g", page)


# --- refused


def test_qemu_that_knows_no_cpr_exec(host: EngineHost) -> None:
    page = host.boot("g", sandbox=SPAWN)
    host.install("11.1")
    with undisturbed(host, "g", page):
        refuses(host.refused(*UPDATE, "g"), "knows no cpr-exec", "10.2")


def test_sandbox_that_forbids_it(new_host: EngineHost) -> None:
    page = new_host.boot("g")
    with undisturbed(new_host, "g", page):
        refuses(new_host.refused(*UPDATE, "g"), "lets it start no program", "sandbox: {spawn: true}")


def test_sandbox_without_protection(new_host: EngineHost) -> None:
    """execve is refused by the kernel: the guest stays where it is, and is continued there."""
    page = new_host.boot("g")
    with new_host.patched(
        "_guest/update_methods.py", 'if not may_spawn(found.generation.record["argv"]):', "if False:"
    ):
        refuses(new_host.refused(*UPDATE, "g"), "did not replace itself", "Operation not permitted")
    assert new_host.generation("g") == 0
    assert_sound(new_host, "g", page)


def test_private_memory(new_host: EngineHost) -> None:
    """QEMU names no blocker for cpr-exec: those of cpr-transfer are asked."""
    block = new_host.block("g", backing="file", directory=str(new_host.root / "ram"), mmap="private")
    page = boot(new_host, memory={"blocks": [block]})
    with undisturbed(new_host, "g", page):
        refuses(new_host.refused(*UPDATE, "g"), "is mapped private", "share=on is required")


def test_private_memory_is_found_by_the_standby_too(new_host: EngineHost) -> None:
    """What no preflight knew: the transfer to the standby is refused by QEMU, before anything is replaced."""
    block = new_host.block("g", backing="file", directory=str(new_host.root / "ram"), mmap="private")
    page = boot(new_host, memory={"blocks": [block]})
    with (
        new_host.patched(
            "_guest/update_methods.py", "return refusals + await _transfer(found, qmp)", "return refusals"
        ),
        undisturbed(new_host, "g", page),
    ):
        refuses(new_host.refused(*UPDATE, "g"), "share=on is required")


# --- the new program fails


ONLY_HEIR = 'words.count("-incoming") == 1'


def spoiled(host: EngineHost, code: str) -> None:
    """A QEMU that fails only when it replaces the old one: the standby has two -incoming."""
    host.install_altered(f'words.append("-no-reboot"); {ONLY_HEIR} and {code}')


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ('words.extend(["-device", "nosuch"])', "'nosuch' is not a valid device model name"),
        ('words.extend(["-m", "32"])', "Machine memory size does not match"),
        ("sys.exit(3)", ""),
        ("os.kill(os.getpid(), 9)", ""),
        ('(__import__("time").sleep(1000))', ""),
    ],
    ids=["bad-argument", "other-size", "exits", "killed", "hangs"],
)
@pytest.mark.parametrize("kind", ["tmpfs", "memfd"])
def test_new_program_that_fails(new_host: EngineHost, kind: str, code: str, said: str) -> None:
    """The standby goes on, in the new program as well, with all the guest's memory, VRAM and ROMs."""
    page = boot(new_host, memory={"blocks": [block_of(new_host, kind)]}, video="std")
    old = new_host.only_qemu("g")
    before = digests(new_host, "g")
    spoiled(new_host, code)
    result = new_host.one(*UPDATE, "g")
    assert result["changed"]
    assert "stood by" in result["warnings"][0]
    assert result["pid"] == new_host.only_qemu("g") != old
    assert digests(new_host, "g") == before
    logs = "".join(path.read_text(errors="replace") for path in Path(new_host.settings["log"]).rglob("qemu-*.log"))
    assert said in logs
    new_host.install("11.1")
    assert_sound(new_host, "g", page)


def test_new_program_that_fails_without_the_standby(new_host: EngineHost) -> None:
    """What the standby protects from: the guest is lost."""
    boot(new_host).close()
    spoiled(new_host, "sys.exit(3)")
    with new_host.at_step("incoming", KILL_STANDBY):
        refuses(new_host.refused(*UPDATE, "g"), "lost")
    assert new_host.qemu_pids("g") == []
    new_host.install("11.1")
    assert new_host.one("start", "g")["changed"]


KILL_PROCESS = "        os.kill(process.pid, 9)\n"
MOMENTS = {
    "at-the-exec": "        qmp = await wait_for_qmp(QemuProcess(heir, process), deadline)\n",
    "while-it-loads": "        await _load_file(qmp, heir, cast.state, deadline)\n",
    "when-it-has-loaded": "        await _verify(qmp, heir, process)\n",
}


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS.keys())
def test_process_killed(new_host: EngineHost, moment: str) -> None:
    page = boot(new_host)
    old = new_host.only_qemu("g")
    with new_host.patched("_guest/exec_outcome.py", moment, KILL_PROCESS + moment):
        result = new_host.one(*UPDATE, "g")
    assert "stood by" in result["warnings"][0]
    assert new_host.only_qemu("g") != old
    assert_sound(new_host, "g", page)


@pytest.mark.parametrize(
    ("spoil", "said"), [("os.unlink", "No such file"), ("lambda path: os.chmod(path, 0)", "Permission denied")]
)
def test_program_that_cannot_be_run_at_the_exec(new_host: EngineHost, spoil: str, said: str) -> None:
    """It was there for the standby. The old QEMU says why it goes on, and does so when the runtime continues it."""
    page = boot(new_host)
    pid = new_host.only_qemu("g")
    new_host.install_file(f'#!/bin/sh\nexec {QEMU_TREES}/11.1/usr/bin/qemu-system-x86_64 "$@"\n')
    for path in (Path(new_host.qemu), Path(new_host.qemu).parent):
        shutil.chown(path, USER, USER)
    with new_host.at_step("incoming", f"({spoil})({new_host.qemu!r})"):
        refuses(new_host.refused(*UPDATE, "g"), "did not replace itself", "execvp", said)
    assert new_host.generation("g") == 0
    assert_same_process(new_host, pid)
    new_host.install("11.1")
    assert_sound(new_host, "g", page)


@pytest.mark.parametrize("protected", [True, False])
def test_failed_exec_and_then_all_but_the_standby_killed(new_host: EngineHost, protected: bool) -> None:
    """QEMU continues a guest by itself when execve fails, and its saved state is old then. One that was stopped it leaves stopped."""
    page = new_host.boot("g")
    allowed = ("_guest/update_methods.py", 'if not may_spawn(found.generation.record["argv"]):', "if False:")
    ends = "        __import__('time').sleep(1)\n        os.kill(self.old.alive.pid, 9)\n"
    stop = '            await self.old_qmp.execute("stop")\n        pause_end = await self.paused()\n'
    no_stop = "            pass\n        pause_end = __import__('time').monotonic() + 2\n"
    with contextlib.ExitStack() as planted:
        planted.enter_context(new_host.patched(*allowed))
        planted.enter_context(new_host.patched("_guest/update_by_exec.py", OUTCOME, f"{ends}        {KILL}\n{OUTCOME}"))
        if not protected:
            planted.enter_context(new_host.patched("_guest/update_by_exec.py", stop, no_stop))
        new_host.begin(*UPDATE, "g").communicate()
        new_host.wait_quiet()
    again = [state for state in new_host.run_states("g") if (state.generation, state.new) == (0, "running")]
    assert len(again) == (1 if protected else 2)
    if protected:
        assert_sound(new_host, "g", page)


@pytest.mark.parametrize("protected", [True, False])
def test_new_program_with_another_ram_file(new_host: EngineHost, protected: bool) -> None:
    """memory-backend-file is opened again by its path; QEMU calls that completed. The standby has the right one."""
    page = boot(new_host)
    pid = new_host.only_qemu("g")
    file = new_host.ram_file("g")
    other = new_host.memory / "other"
    shutil.copy(file, other)
    shutil.chown(other, USER, USER)
    new_host.baseline["g"] = new_host.listing("g")
    spoiled(
        new_host, f"words.__setitem__(slice(None), [word.replace({str(file)!r}, {str(other)!r}) for word in words])"
    )
    if protected:
        assert "stood by" in new_host.one(*UPDATE, "g")["warnings"][0]
        assert new_host.only_qemu("g") != pid
        new_host.install("11.1")
        assert_sound(new_host, "g", page)
        return
    with new_host.patched("_guest/exec_outcome.py", "        await _verify(qmp, heir, process)\n", ""):
        assert new_host.one(*UPDATE, "g")["warnings"] == []
    counter = page.counter
    time.sleep(0.5)
    assert page.counter == counter  # the guest's own memory stands still


def test_standby_killed_before(new_host: EngineHost) -> None:
    """Without it nothing is replaced."""
    page = boot(new_host)
    order = '        await self.old_qmp.send("migrate-set-parameters", {"cpr-exec-command": command})\n'
    with (
        new_host.patched("_guest/update_by_exec.py", order, f"{order}        self.qemu.process.kill()\n"),
        undisturbed(new_host, "g", page),
    ):
        refuses(new_host.refused(*UPDATE, "g"), "to stand by ended")
    assert_sound(new_host, "g", page)


def test_standby_killed_when_it_is_not_needed(new_host: EngineHost) -> None:
    page = boot(new_host)
    pid = new_host.only_qemu("g")
    with new_host.at_step("handover", KILL_STANDBY, "before"):
        assert new_host.one(*UPDATE, "g")["warnings"] == []
    assert_same_process(new_host, pid)
    assert_sound(new_host, "g", page)


def test_no_space_for_the_state(new_host: EngineHost) -> None:
    run = Path(new_host.settings["run"])
    small_tmpfs(new_host, run, "size=512k,mode=755")
    page = boot(new_host)
    filler = new_host.run_directory("g") / "filler"
    with new_host.at_step("incoming", f"os.system('dd if=/dev/zero of={filler} bs=4k 2>/dev/null')"):
        refuses(new_host.refused(*UPDATE, "g"), "did not replace itself")
    filler.unlink()
    assert new_host.generation("g") == 0
    assert_sound(new_host, "g", page)


def test_command_that_boots_anew_is_impossible(new_host: EngineHost) -> None:
    page = boot(new_host)
    with (
        new_host.patched("_guest/update_by_exec.py", '[*words, "-incoming", "defer"]', "[*words]"),
        undisturbed(new_host, "g", page),
    ):
        refuses(new_host.refused(*UPDATE, "g"), "would not just wait for the guest")
    assert_sound(new_host, "g", page)


# --- the runtime is killed


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", UPDATE_STEPS)
def test_runtime_killed_at(new_host: EngineHost, step: str, when: str) -> None:
    page = boot(new_host)
    pid = new_host.only_qemu("g")
    with new_host.at_step(step, KILL, when):
        new_host.begin(*UPDATE, "g").communicate()
        new_host.wait_quiet()
    # It is the old QEMU until it has replaced itself, and always the same process.
    assert new_host.generation("g") == (1 if step in ("handover", "continued") else 0)
    assert_same_process(new_host, pid)
    assert_sound(new_host, "g", page)


@pytest.mark.parametrize("place", [REPLACE, OUTCOME], ids=["before-the-order", "after-the-order"])
def test_runtime_killed_around_the_order(new_host: EngineHost, place: str) -> None:
    """Whether QEMU has replaced itself is seen from its command line; it is waited for when it is about to."""
    page = boot(new_host)
    pid = new_host.only_qemu("g")
    with new_host.patched("_guest/update_by_exec.py", place, f"        {KILL}\n{place}"):
        new_host.begin(*UPDATE, "g").communicate()
        new_host.wait_quiet()
    assert new_host.generation("g") == (0 if place == REPLACE else 1)
    assert_same_process(new_host, pid)
    assert_sound(new_host, "g", page)


@pytest.mark.parametrize("code", ["sys.exit(3)", "os.kill(os.getpid(), 9)"], ids=["exits", "killed"])
def test_runtime_and_new_program_killed(new_host: EngineHost, code: str) -> None:
    """The watchdog lets the standby go on, with everything."""
    page = boot(new_host, video="std")
    pid = new_host.only_qemu("g")
    before = digests(new_host, "g")
    spoiled(new_host, code)
    with new_host.patched("_guest/update_by_exec.py", OUTCOME, f"        {KILL}\n{OUTCOME}"):
        new_host.begin(*UPDATE, "g").communicate()
        new_host.wait_quiet()
    assert new_host.only_qemu("g") != pid
    assert digests(new_host, "g") == before
    new_host.install("11.1")
    assert_sound(new_host, "g", page)


def test_runtime_and_loaded_process_killed(new_host: EngineHost) -> None:
    """Before HANDOVER the new program has never run the guest: the standby goes on."""
    page = boot(new_host)
    pid = new_host.only_qemu("g")
    with new_host.at_step("handover", f"[os.kill(pid, 9) for pid in qemu(facts['to'])]; {KILL}", "before"):
        new_host.begin(*UPDATE, "g").communicate()
        new_host.wait_quiet()
    assert new_host.only_qemu("g") != pid
    assert_sound(new_host, "g", page)


def test_process_killed_when_it_may_have_run(new_host: EngineHost) -> None:
    """Its old state is gone before the guest goes on, so the standby cannot bring the guest back to an earlier time."""
    boot(new_host).close()
    with new_host.at_step("continued", f"[os.kill(pid, 9) for pid in qemu(facts['to'])]; {KILL}"):
        new_host.begin(*UPDATE, "g").communicate()
        new_host.wait_quiet()
    assert_lost(new_host, "g")


def test_old_state_is_loaded_without_protection(new_host: EngineHost) -> None:
    """The same with the state left where it is: the standby brings back an earlier guest, over memory that has gone on."""
    page = boot(new_host)
    wait = "__import__('time').sleep(1)"
    with (
        new_host.patched(
            "_guest/update_by_exec.py",
            "        remove_file(self._cast().state)\n\n    async def end_loser",
            "        return\n\n    async def end_loser",
        ),
        new_host.at_step("continued", f"{wait}; [os.kill(pid, 9) for pid in qemu(facts['to'])]; {KILL}"),
    ):
        new_host.begin(*UPDATE, "g").communicate()
        new_host.wait_quiet()
    assert new_host.qemu_pids("g") != []
    del page


def test_all_killed(new_host: EngineHost) -> None:
    """Nobody is left: that is said, and a start begins anew."""
    boot(new_host).close()
    kill_all = "[os.kill(pid, 9) for number in facts.values() if type(number) is int for pid in qemu(number)]"
    with new_host.at_step("incoming", f"{kill_all}; {KILL}"):
        new_host.begin(*UPDATE, "g").communicate()
        new_host.wait_quiet()
    assert new_host.qemu_pids("g") == []
    assert new_host.one("start", "g")["changed"]
