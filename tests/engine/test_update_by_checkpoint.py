# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Live updates by cpr-reboot: RAM stays in its file, everything else goes through a file of device state."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.journal import UPDATE_STEPS
from support.engine import EngineHost, process_state
from support.materials import block_of, digests, disk, image, small_tmpfs
from support.sound import assert_alive, assert_sound, refuses, undisturbed

UPDATE = ("update", "--method", "checkpoint")
KILL = "os.kill(os.getpid(), 9)"
KILL_NEW = "[os.kill(pid, 9) for pid in qemu(facts['to'])]"
STOP_NEW = "[os.kill(pid, 19) for pid in qemu(facts['to'])]"
FORWARD = {("handover", "after"), ("continued", "before"), ("continued", "after")}
VIDEO = "0000:00:01.0/vga.vram"
LOAD = "        await self.of_new(load_state(self.new, uri, self.found"
STATE = "self.qemu.generation.device_state"
NO_COMPARISON = ("_guest/update_attempt.py", "if compared.differences:", "if False:")


def test_forth_and_back(host: EngineHost) -> None:
    """To the next version and back to the older one, again and again."""
    page = host.boot("g")
    for version in ("11.1", "10.0", "11.1", "10.0"):
        host.install(version)
        result = host.one(*UPDATE, "g")
        assert (result["method"], result["method_reason"]) == ("checkpoint", "asked for")
        assert result["to"]["version"].startswith(version)
        assert result["pause_ms"] > 0
        assert_alive(page)
    assert_sound(host, "g", page)


@pytest.mark.parametrize(
    "kind", ["tmpfs", "tmpfs temp", "tmpfs prealloc", "file", "file temp", "hugetlbfs", "hugetlbfs temp"]
)
def test_memory(host: EngineHost, kind: str) -> None:
    """It stays in its file, and the state does not grow with it."""
    sizes = host.root / "sizes"
    sizes.touch()
    sizes.chmod(0o666)  # the part of the runtime that writes it is QEMU's user
    page = host.boot("g", memory={"blocks": [block_of(host, kind)]})
    host.install("11.1")
    measure = (
        f"open({str(sizes)!r}, 'w').write(str(os.path.getsize(os.path.dirname(journal._path) + '/gen-1/device-state')))"
    )
    with host.at_step("handover", measure):
        assert host.one(*UPDATE, "g")["changed"]
    assert int(sizes.read_text()) < 2 << 20  # the guest has filled 16 MiB
    assert b"prealloc=on" not in Path(f"/proc/{host.only_qemu('g')}/cmdline").read_bytes()
    assert_sound(host, "g", page)


def test_unlinked_and_replaced_ram_file(host: EngineHost) -> None:
    page = host.boot("g")
    file = host.ram_file("g")
    file.rename(host.memory / "moved")
    host.baseline["g"] = host.listing("g")
    host.install("11.1")
    assert host.one(*UPDATE, "g")["changed"]
    shutil.copy(host.memory / "moved", file)
    assert host.one(*UPDATE, "--force", "g")["changed"]
    file.unlink()
    assert_sound(host, "g", page)


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        ({"backing": "memfd", "directory": None}, ("Memory block ram0 is a memfd", "another backing")),
        ({"backing": "file", "mmap": "private"}, ("Memory block ram0 is mapped private", "mmap: shared")),
    ],
    ids=["memfd", "private"],
)
def test_memory_that_would_be_copied_is_refused(
    host: EngineHost, kind: dict[str, str | None], texts: tuple[str, ...]
) -> None:
    wanted = {"directory": str(host.root / "ram"), **kind}
    block = host.block("g", **wanted)
    page = host.boot("g", memory={"blocks": [{key: value for key, value in block.items() if value is not None}]})
    host.install("11.1")
    with undisturbed(host, "g", page):
        refuses(host.refused(*UPDATE, "g"), *texts)


def test_auxiliary_memory_that_is_not_shared(host: EngineHost) -> None:
    """As it is in QEMUs before 10.0, which have no aux-ram-share: VRAM and ROMs arrive in the state, byte by byte."""
    page = host.boot("g", video="std", aux_ram_share=False)
    assert b"aux-ram-share" not in Path(f"/proc/{host.only_qemu('g')}/cmdline").read_bytes()
    before = digests(host, "g")
    assert {VIDEO, "pc.bios", "pc.rom"} <= set(before)
    for version in ("11.1", "10.0"):
        host.install(version)
        result = host.one("update", "g")
        assert result["method"] == "checkpoint"
        assert "aux-ram-share is off" in result["method_reason"]
        assert digests(host, "g") == before
    assert_sound(host, "g", page)


def test_many_devices(host: EngineHost) -> None:
    disks = [
        disk(image(host, "a"), id="a", interface="virtio"),
        disk(image(host, "b"), id="b", interface="scsi", cache="none", aio="native"),
        disk(image(host, "c", "raw"), id="c", interface="sata", format="raw"),
    ]
    arguments = [
        *("-device", "virtio-rng-pci,id=rng"),
        *("-device", "virtio-balloon-pci,id=balloon"),
        *("-device", "qemu-xhci,id=xhci"),
        *("-device", "usb-tablet,id=tablet,bus=xhci.0"),
        *("-device", "pcie-root-port,id=port0,chassis=1"),
        *("-device", "i6300esb,id=watchdog"),
    ]
    nics = [{"id": "n0", "type": "user", "mac": "52:54:00:00:00:01"}]
    consoles = [{"id": "c0"}, {"id": "c1", "type": "virtio", "to": "socket"}]
    page = host.boot(
        "g", disks=disks, nics=nics, consoles=consoles, video="virtio", vnc=True, guest_agent=True, arguments=arguments
    )
    for version in ("11.1", "10.0"):
        host.install(version)
        assert host.one(*UPDATE, "g")["changed"]
    assert_sound(host, "g", page)


def test_paused_guest_stays_paused(host: EngineHost) -> None:
    page = host.boot("g")
    with host.qmp("g") as qmp:
        qmp("stop")
    counter = page.counter
    host.install("11.1")
    assert host.one(*UPDATE, "g")["pause_ms"] is None
    with host.qmp("g") as qmp:
        assert qmp("query-status")["status"] == "paused"
        assert page.counter == counter
        qmp("cont")
    assert_sound(host, "g", page)


# --- faults


@pytest.mark.parametrize("step", ["started", "migrating"])
def test_new_qemu_killed_before_the_pause(host: EngineHost, step: str) -> None:
    page = host.boot("g")
    host.install("11.1")
    with host.at_step(step, KILL_NEW), undisturbed(host, "g", page):
        host.refused(*UPDATE, "g")
    assert_sound(host, "g", page)


@pytest.mark.parametrize("act", ["kill", "stop"])
def test_new_qemu_killed_or_silent_in_the_pause(host: EngineHost, act: str) -> None:
    page = host.boot("g")
    host.install("11.1")
    with (
        host.patched("_guest/qmp.py", "COMMAND_TIMEOUT = 10.0", "COMMAND_TIMEOUT = 2.0"),
        host.at_step("incoming", KILL_NEW if act == "kill" else STOP_NEW),
    ):
        host.refused(*UPDATE, "g")
    assert host.generation("g") == 0
    assert_sound(host, "g", page)


@pytest.mark.parametrize("spoil", ["cut", "empty"])
def test_state_that_cannot_be_loaded(host: EngineHost, spoil: str) -> None:
    """The new QEMU says why, and the guest goes on in the old one, which has everything."""
    page = host.boot("g")
    host.install("11.1")
    size = "0" if spoil == "empty" else f"os.path.getsize({STATE}) // 2"
    with host.patched(
        "_guest/update_by_checkpoint.py", LOAD, f"        import os\n        os.truncate({STATE}, {size})\n{LOAD}"
    ):
        error = host.refused(*UPDATE, "g")
    refuses(error, "could not load the guest", "Not a migration stream" if spoil == "empty" else "Input/output error")
    assert host.generation("g") == 0
    assert_sound(host, "g", page)


def test_qemu_that_cannot_load_the_guest(host: EngineHost) -> None:
    """Its reason is told. Nothing but the load itself finds it here, with the comparison taken out."""
    host.install("10.0.13")
    page = host.boot("g", arguments=["-device", "virtio-rng-pci,id=rng"])
    host.install("11.1")
    with undisturbed(host, "g", page):
        refuses(host.refused(*UPDATE, "g"), "virtio queues of")
    with host.patched(*NO_COMPARISON):
        error = host.refused(*UPDATE, "g")
    refuses(error, "could not load the guest", "exceeds allocated max 8")
    assert host.generation("g") == 0
    host.install("10.0.13")
    assert_sound(host, "g", page)


def test_no_space_for_the_state(host: EngineHost) -> None:
    run = Path(host.settings["run"])
    small_tmpfs(host, run, "size=512k,mode=755")
    page = host.boot("g")
    filler = host.run_directory("g") / "filler"
    fill = f"os.system('dd if=/dev/zero of={filler} bs=4k 2>/dev/null')"
    with host.at_step("incoming", fill):
        refuses(host.refused(*UPDATE, "--force", "g"), "The transfer failed")
    filler.unlink()
    assert host.generation("g") == 0
    assert_sound(host, "g", page)


@pytest.mark.parametrize("place", [LOAD, "        await self.loaded("], ids=["before-the-load", "in-the-load"])
def test_pause_has_an_end(host: EngineHost, place: str) -> None:
    page = host.boot("g")
    stuck = "        import os\n        os.kill(self.qemu.process.pid, 19)\n"
    with host.patched("_guest/update_by_checkpoint.py", place, f"{stuck}{place}"):
        refuses(host.refused(*UPDATE, "--force", "--max-pause", "0.5", "g"), "did not finish loading in time")
    assert_sound(host, "g", page)


def test_another_ram_file_is_refused(host: EngineHost) -> None:
    page = host.boot("g")
    other = host.memory / "other"
    shutil.copy(host.ram_file("g"), other)
    shutil.chown(other, "hostmem-test", "hostmem-test")
    host.install_altered(f'text = text.replace("mem-path={host.ram_file("g")}", "mem-path={other}")')
    host.baseline["g"] = host.listing("g")
    with undisturbed(host, "g", page):
        refuses(host.refused(*UPDATE, "g"), "RAMBlock ram0 lies in", "is not like the running one")
    host.install("11.1")
    assert_sound(host, "g", page)


def test_memory_is_lost_in_another_ram_file_without_protection(host: EngineHost) -> None:
    """What the comparison protects from: QEMU calls it completed, and the guest goes on in an older copy of its memory."""
    page = host.boot("g")
    other = host.memory / "other"
    shutil.copy(host.ram_file("g"), other)
    shutil.chown(other, "hostmem-test", "hostmem-test")
    host.install_altered(f'text = text.replace("mem-path={host.ram_file("g")}", "mem-path={other}")')
    with host.patched(*NO_COMPARISON):
        result = host.run(*UPDATE, "g")[0]
    assert result["ok"], result
    counter = page.counter
    time.sleep(0.2)  # 200 beats
    assert page.counter == counter
    assert process_state(host.only_qemu("g")) in "RS"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", UPDATE_STEPS)
def test_runtime_killed_at(host: EngineHost, step: str, when: str) -> None:
    page = host.boot("g")
    host.install("11.1")
    with host.at_step(step, KILL, when):
        host.begin(*UPDATE, "g").communicate()
        host.wait_quiet()
    assert host.generation("g") == (1 if (step, when) in FORWARD else 0)
    assert_sound(host, "g", page)


def test_runtime_killed_between_the_two_halves(host: EngineHost) -> None:
    """The state is written and nobody has loaded it: the old QEMU, which can go on, does; the state is thrown away."""
    page = host.boot("g")
    host.install("11.1")
    with host.patched("_guest/update_by_checkpoint.py", LOAD, f"        import os\n        {KILL}\n{LOAD}"):
        host.begin(*UPDATE, "g").communicate()
        host.wait_quiet()
    assert host.generation("g") == 0
    assert_sound(host, "g", page)
