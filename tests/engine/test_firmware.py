# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which firmware a guest has, by its ROMs byte by byte, and what is said of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from support.engine import EngineHost, wait_until
from support.host import QEMU_TREES
from support.materials import digests
from support.sound import assert_alive

# In the order of their paths: the machine's, a network card's, a video card's.
ROMS = {"pc.bios": "bios-256k.bin", "e1000e.rom": "efi-e1000e.rom", "vga.rom": "vgabios-stdvga.bin"}
FIRMWARE = {"video": "std", "nics": [{"id": "n0", "type": "user", "model": "e1000e", "mac": "52:54:00:00:00:01"}]}


def install_copy(host: EngineHost, version: str) -> None:
    """Install a QEMU with firmware files of its own."""
    tree = host.root / "copy"
    shutil.copytree(QEMU_TREES / version, tree, symlinks=True, copy_function=_link)
    new = host.root / "qemu.new"
    new.symlink_to(tree)
    new.rename(host.root / "qemu")


def replace(host: EngineHost, name: str, changed: bool = True) -> None:
    """Put a new file in the place of one of the firmware, as dpkg does; with another byte, none that anything looks at."""
    path = next(path for path in sorted((host.root / "copy").rglob(name)) if path.is_file()).resolve()
    content = bytearray(path.read_bytes())
    if changed:
        content[-0x11000 if name.startswith("bios") else -0x40] ^= 0x20
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.rename(path)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def roms(host: EngineHost) -> dict[str, str]:
    """A digest of each ROM that is filled from a file."""
    return {name: digest for name, digest in digests(host, "g").items() if name.rpartition("/")[2] in ROMS}


def said(host: EngineHost) -> tuple[bool, list[str]]:
    info = host.info("g")
    return info["firmware_outdated_until_restart"], sorted(Path(path).name for path in info["firmware_changed"])


def reset(host: EngineHost, boots: int) -> None:
    page = host.page("g")
    with host.qmp("g") as qmp:
        qmp("system_reset")
        qmp.event("RESET")
    wait_until(lambda: page.boots == boots and page.ready, "the guest did not start again")
    page.close()


def test_other_firmware_comes_with_a_cold_start_only(host: EngineHost) -> None:
    """Neither a live update nor a reset of the guest, in the old QEMU or in the new one, changes a byte of it."""
    install_copy(host, "11.1")
    host.boot("g", **FIRMWARE).close()
    first = roms(host)
    assert sorted(name.rpartition("/")[2] for name in first) == sorted(ROMS)
    assert said(host) == (False, [])
    for name in ROMS.values():
        replace(host, name)
    outdated = (True, sorted(ROMS.values()))
    assert said(host) == outdated
    reset(host, 2)
    assert (roms(host), said(host)) == (first, outdated)
    assert host.one("update", "--force", "g")["changed"]
    assert (roms(host), said(host)) == (first, outdated)
    reset(host, 3)
    assert (roms(host), said(host)) == (first, outdated)
    page = host.page("g")
    assert_alive(page, boots=3)
    page.close()
    host.one("stop", "g")
    host.one("start", "g")
    assert not set(roms(host).values()) & set(first.values())
    assert said(host) == (False, [])


def test_firmware_packed_anew_is_not_outdated(host: EngineHost) -> None:
    """Content counts, not time or inode."""
    install_copy(host, "11.1")
    host.boot("g", **FIRMWARE).close()
    for name in ROMS.values():
        replace(host, name, changed=False)
    assert said(host) == (False, [])
    replace(host, "efi-e1000e.rom")
    assert said(host) == (True, ["efi-e1000e.rom"])


def test_firmware_of_the_next_version(host: EngineHost) -> None:
    """That of real packages: the guest keeps QEMU 10.0's in 11.1."""
    host.boot("g", **FIRMWARE).close()
    assert said(host) == (False, [])
    first = roms(host)
    host.install("11.1")
    host.one("update", "g")
    assert roms(host) == first
    outdated, files = said(host)
    assert outdated
    assert {"bios-256k.bin", "vgabios-stdvga.bin"} <= set(files)
    host.one("stop", "g")
    host.one("start", "g")
    assert said(host) == (False, [])
