# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A new QEMU that is not like the old one. QEMU notices late, in the pause, or never; here the guest is never paused for it."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from support.engine import EngineHost, as_version, wait_until, with_other_answers
from support.host import MACHINE, USER
from support.materials import disk, disk_io, image, top_image
from support.sound import assert_alive, assert_sound, refuses, undisturbed

RNG = ["-device", "virtio-rng-pci,id=rng0"]

DIFFERENT: dict[str, tuple[dict[str, Any], str, str]] = {
    "extra device": ({}, 'words += ["-device", "virtio-rng-pci"]', "nameless_devices"),
    "extra device with a name": ({}, 'words += ["-device", "virtio-rng-pci,id=x"]', "devices: x is not in the running"),
    "missing device": (
        {"arguments": RNG},
        'text = text.replace("-device\\nvirtio-rng-pci,id=rng0\\n", "")',
        "devices: rng0 is in the running guest only",
    ),
    "another slot": ({"arguments": RNG}, 'text = text.replace("id=rng0", "id=rng0,addr=9")', "pci: 00:09.0"),
    "another kind of device": (
        {"arguments": RNG},
        'text = text.replace("virtio-rng-pci,id=rng0", "virtio-balloon-pci,id=rng0")',
        "devices.rng0",
    ),
    "extra CPU": ({}, 'text = text.replace("cpus=1", "cpus=2")', "cpus"),
    "extra console": ({}, 'words += ["-chardev", "null,id=x"]', "character_devices: x is not in the running guest"),
    "extra object": ({}, 'words += ["-object", "rng-random,id=x,filename=/dev/urandom"]', "objects: x"),
    "auxiliary memory not shared": (
        {"video": "std"},
        'text = text.replace("aux-ram-share=on", "aux-ram-share=off")',
        "machine.aux_ram_share: True in the running guest, False otherwise",
    ),
    "another machine": ({}, f'text = text.replace("{MACHINE}", "pc-q35-9.2")', "machine.type"),
    "alias of a machine": ({}, f'text = text.replace("{MACHINE}", "q35")', "machine.type"),
    "another name of the memory": (
        {},
        'text = text.replace("backend=ram0", "backend=ramx").replace("id=ram0", "id=ramx")',
        "ram_blocks: ram0 is in the running guest only",
    ),
    "another RAM file": (
        {},
        'text = text.replace("qemu_back_mem.0+4000000.ram0", "other")',
        "RAMBlock ram0 lies in",
    ),
    "RAM file without a name": (
        {},
        'text = text.replace("/qemu_back_mem.0+4000000.ram0", "")',
        "RAMBlock ram0 lies in",
    ),
    "memory backend forgotten": ({}, 'text = text.replace("memory-backend=ram0,", "")', "memory_backend"),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_different(host: EngineHost, case: str) -> None:
    changes, code, text = DIFFERENT[case]
    other = host.memory / "g" / "other"  # what some of them would make
    page = host.boot("g", **changes)
    host.install_altered(code)
    other.touch()
    shutil.chown(other, USER, USER)
    with undisturbed(host, "g", page):
        error = host.refused("update", "g")
    refuses(error, text, "is not like the running one", "while it is paused, or lose data", "Undo the change")
    other.unlink()
    host.install("11.1")
    assert_sound(host, "g", page)


def test_different_size(host: EngineHost) -> None:
    """This one QEMU finds itself, before it has anything of the guest."""
    page = host.boot("g")
    host.install_altered('text = text.replace("size=67108864", "size=33554432")')
    with undisturbed(host, "g", page):
        error = host.refused("update", "g")
    assert "does not match the size of the memory backend" in error["qemu"]
    host.install("11.1")
    assert_sound(host, "g", page)


def test_different_disk(host: EngineHost) -> None:
    page = host.boot("g", disks=[disk(image(host, "a"))])
    other = image(host, "b")
    host.install_altered(f'text = text.replace("{host.root}/disks/a", "{other}")')
    host.baseline["g"] = host.listing("g")
    with undisturbed(host, "g", page):
        refuses(host.refused("update", "g"), "disks.d0", "is not like the running one")
    host.install("11.1")
    assert_sound(host, "g", page)


def test_smaller_virtio_queues(host: EngineHost) -> None:
    page = host.boot("g", disks=[disk(image(host, "a"))])
    host.install_altered('text = text.replace("virtio-blk-pci,", "virtio-blk-pci,queue-size=64,")')
    with undisturbed(host, "g", page):
        refuses(host.refused("update", "g"), "virtio queues of", "256 entries in the running guest, at most 64")
    host.install("11.1")
    assert_sound(host, "g", page)


def test_virtio_queues_of_10_0_13(host: EngineHost) -> None:
    """Debian's 10.0.13 has queues that no other QEMU takes: refused when there are any, done when there are none."""
    host.install("10.0.13")
    page = host.boot("g", arguments=RNG)
    bare = host.boot("bare")
    for name in ("g", "bare"):
        host.baseline[name] = host.listing(name)
    host.install("11.1")
    with undisturbed(host, "g", page):
        refuses(host.refused("update", "g"), "virtio queues of", "1024 entries in the running guest, at most 8")
    assert host.one("update", "bare")["changed"]
    assert_sound(host, "bare", bare)


def test_older_qemu(host: EngineHost) -> None:
    host.install("11.1")
    page = host.boot("g")
    host.install("10.0")
    with undisturbed(host, "g", page):
        error = host.refused("update", "--method", "transfer", "g")
    refuses(error, "is older than the running 11.1", "Install the newer package again")
    host.install("11.1")
    assert_sound(host, "g", page)


def test_machine_type_removed(host: EngineHost) -> None:
    page = host.boot("g")
    host.install_impostor("exit 1", asked=with_other_answers(f's/"{MACHINE}"/"none-any-more"/g'))
    with undisturbed(host, "g", page):
        refuses(host.refused("update", "g"), f"has no machine type {MACHINE} any more", "Keep the older QEMU")
    host.install("11.1")
    assert_sound(host, "g", page)


def test_qemu_without_cpr(host: EngineHost) -> None:
    page = host.boot("g")
    host.install_impostor("exit 1", asked=with_other_answers(as_version("9.2.1")))
    with undisturbed(host, "g", page):
        error = host.refused("update", "--method", "transfer", "g")
    refuses(error, "QEMU 9.2.1 knows no cpr-transfer", "Restart the guest in a newer QEMU")
    host.install("11.1")
    assert_sound(host, "g", page)


# --- what happens without these comparisons

NO_COMPARISON = ("_guest/update_attempt.py", "if compared.differences:", "if False:")


def test_dead_guest_without_protection(host: EngineHost) -> None:
    """Another RAM file: both QEMUs say that all is well, and the guest is dead."""
    page = host.boot("g", arguments=["-global", "apic.vapic=off"])
    host.install_altered('text = text.replace("qemu_back_mem.0+4000000.ram0", "other")')
    with host.patched(*NO_COMPARISON):
        assert host.one("update", "g")["changed"]
    with host.qmp("g") as qmp:
        assert qmp("query-status")["status"] == "running"
    assert host.page("g").magic == 0
    counter = page.counter
    lines = host.console("g")
    with pytest.raises(AssertionError, match="stands still"):
        wait_until(lambda: page.counter != counter or host.console("g") != lines, "stands still", 2)


def test_rolled_back_disk_without_protection(host: EngineHost) -> None:
    """A snapshot taken while the guest runs, and a new QEMU that opens the image of the definition: silently older data."""
    base = image(host, "a")
    page = host.boot("g", disks=[disk(base)])
    with host.qmp("g") as qmp:
        disk_io(qmp, "d0", "write -P 0x11 0 64k")
        qmp(
            "blockdev-snapshot-sync",
            node_name="disk-d0",
            snapshot_file=f"{base}.1",
            format="qcow2",
            snapshot_node_name="s",
        )
        disk_io(qmp, "d0", "write -P 0x22 0 64k")
    host.install("11.1")
    with (
        host.patched(*NO_COMPARISON),
        host.patched(
            "_guest/update_attempt.py",
            'self.argv = with_images(self.old.record["argv"], found.images)',
            'self.argv = self.old.record["argv"]',
        ),
    ):
        assert host.one("update", "g")["changed"]
    assert_alive(page)
    with host.qmp("g") as qmp:
        assert top_image(qmp, "d0") == str(base)
        assert "Pattern verification failed" not in disk_io(qmp, "d0", "read -P 0x11 0 64k")


def test_truncated_console_without_protection(host: EngineHost) -> None:
    """Without append=on the new QEMU empties the log of the old one as it starts."""
    with host.unchecked():
        assert host.define_altered(host.heartbeat("g"), ",append=on", "")["ok"]
        host.one("start", "g")
        wait_until(lambda: "\nT" in host.console("g"), "the guest did not start")
        host.one("update", "--force", "g")
    assert not host.console("g").startswith("B\n")
