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

import os
import re
from typing import Any

from .inventory import children
from .qmp import Qmp

# QEMU 10.0 and 11.1, hmp_info_roms(): the file that the machine starts from.
_BIOS = re.compile(r'^addr=\S+ size=\S+ mem=rom name="([^"]+)"', re.M)
_BIOS_BLOCK = "pc.bios"
_OPTION_ROM = ".rom"


async def changed_firmware(qmp: Qmp, pid: int, blocks: list[dict[str, Any]], directories: list[str]) -> list[str]:
    """Firmware files that are not what the guest has in its ROMs, which the next cold start would load.

    :param blocks: the RAMBlocks of the running QEMU, with their addresses.
    :param directories: where the installed QEMU looks for firmware.
    :raises OSError: the memory of the QEMU cannot be read; that takes root (ptrace(2), PTRACE_MODE_ATTACH).
    """
    wanted = await _firmware(qmp)
    changed = set()
    for block in blocks:
        name = block["name"].rpartition("/")[2]
        paths = [path for path in (_find(file, directories) for file in wanted.get(name, ())) if path]
        if paths and not any(_same(_read(pid, block), path) for path in paths):
            changed.update(paths)
    return sorted(changed)


async def _firmware(qmp: Qmp) -> dict[str, set[str]]:
    """Names of the files that fill RAMBlocks, by the last part of the block's name (``pc.bios``, ``e1000e.rom``)."""
    text = (await qmp.execute("x-query-roms"))["human-readable-text"]
    found = {_BIOS_BLOCK: set(_BIOS.findall(text))}
    for place in ("/machine/peripheral", "/machine/peripheral-anon"):
        for device in await children(qmp, place):
            path = f"{place}/{device}"
            for child in await children(qmp, path):
                name = child.partition("[")[0]
                if name.endswith(_OPTION_ROM):
                    file = await qmp.execute("qom-get", path=path, property="romfile")
                    found.setdefault(name, set()).add(file)
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
