# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Firmware that a guest has in its ROMs, held against the files of the installed QEMU.

ROMs are memory that QEMU fills once, at a cold start. A live update hands them over as they are, and a reset leaves them alone:
rom_reset() (hw/core/loader.c) frees what it has written to a ROM, and in a QEMU that takes a guest over before it writes anything;
pci_add_option_rom() (hw/pci/pci.c) loads no file then. So what is in them is read from there.

Files that the guest fetches through fw_cfg (kvmvapic.bin and the like, "fw=" in x-query-roms) belong to the program of each QEMU.
"""

from __future__ import annotations

import asyncio
import os
import re
from typing import Any

from .inventory import children
from .qmp import Qmp

# QEMU 10.0 and 11.1, hmp_info_roms(): the file that the machine starts from.
_BIOS = re.compile(r'^addr=\S+ size=\S+ mem=rom name="([^"]+)"', re.M)
_BIOS_BLOCK = "pc.bios"
_OPTION_ROM = ".rom"
_DEVICES = ("/machine/peripheral", "/machine/peripheral-anon")


async def changed_firmware(qmp: Qmp, pid: int, blocks: list[dict[str, Any]], directories: list[str]) -> list[str]:
    """Firmware files that are not what the guest has in its ROMs, which the next cold start would load.

    :param blocks: the RAMBlocks of the running QEMU, with their addresses.
    :param directories: where the installed QEMU looks for firmware.
    :raises OSError: the memory of the QEMU cannot be read; that takes root (ptrace(2), PTRACE_MODE_ATTACH).
    """
    wanted = await _bios(qmp)
    if any(block["name"].endswith(_OPTION_ROM) and "/" in block["name"] for block in blocks):  # pc.rom is no device's
        wanted.update(await _option_roms(qmp))
    changed = set()
    for block in blocks:
        files = wanted.get(block["name"].rpartition("/")[2], ())
        paths = [path for path in (_find(file, directories) for file in files) if path]
        if paths and not any(_same(_read(pid, block), path) for path in paths):
            changed.update(paths)
    return sorted(changed)


async def _bios(qmp: Qmp) -> dict[str, set[str]]:
    text = (await qmp.execute("x-query-roms"))["human-readable-text"]
    return {_BIOS_BLOCK: set(_BIOS.findall(text))}


async def _option_roms(qmp: Qmp) -> dict[str, set[str]]:
    """The files of devices' ROMs by the last part of their RAMBlocks' names (``e1000e.rom``).

    Asked for all devices at once: one after the other takes a millisecond each.
    """
    lists = await asyncio.gather(*(children(qmp, place) for place in _DEVICES))
    devices = [f"{place}/{name}" for place, found in zip(_DEVICES, lists) for name in found]
    roms = [
        (device, name.partition("[")[0])
        for device, parts in zip(devices, await asyncio.gather(*(children(qmp, device) for device in devices)))
        for name in parts
        if name.partition("[")[0].endswith(_OPTION_ROM)
    ]
    files = await asyncio.gather(*(qmp.execute("qom-get", path=device, property="romfile") for device, _rom in roms))
    found: dict[str, set[str]] = {}
    for (_device, rom), file in zip(roms, files):
        found.setdefault(rom, set()).add(file)
    return found


def _find(name: str, directories: list[str]) -> str:
    """The path of a firmware file, as QEMU finds it; empty when there is none."""
    paths = [name] if name.startswith("/") else [f"{directory}/{name}" for directory in directories]
    return next((path for path in paths if os.path.isfile(path)), "")


def _read(pid: int, block: dict[str, Any]) -> bytes:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        return os.pread(memory.fileno(), block["used"], block["address"])


def _same(rom: bytes, path: str) -> bool:
    """The ROM of a device is larger than its file: a power of two."""
    with open(path, "rb") as file:
        content = file.read()
    return len(content) <= len(rom) and _without_identity(rom[: len(content)]) == _without_identity(content)


def _without_identity(rom: bytes) -> bytes:
    """A PCI ROM without the IDs of vendor and device and the checksum over them: pci_patch_ids() (hw/pci/pci.c) writes the device's."""
    data_structure = int.from_bytes(rom[0x18:0x1A], "little")
    ids = data_structure + 4
    if rom[:2] != b"\x55\xaa" or rom[data_structure:ids] != b"PCIR":
        return rom
    return rom[:6] + b"\0" + rom[7:ids] + bytes(4) + rom[ids + 4 :]
