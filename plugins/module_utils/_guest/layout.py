# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where each memory block lies: RAMBlock offset, size and file name. A pure function of the definition."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from .definition import Definition
from .memory_block import MemoryBlock
from .sizes import round_up

# find_ram_offset() rounds to BITS_PER_LONG << TARGET_PAGE_BITS (QEMU system/physmem.c): 64 * 4 KiB.
_OFFSET_STEP = 64 * 4096
FILE_PREFIX = "qemu_back_mem."
_FILE_NAME = re.compile(r"qemu_back_mem\.([0-9a-f]+)\+([0-9a-f]+)\.(.+)")


@dataclass(frozen=True)
class PlacedBlock:
    """A memory block with its predicted offset in QEMU's RAM space; bytes throughout.

    ``path`` is the block's own file, and empty without one; ``place`` is what QEMU maps: that file, a device, or a directory
    for a file that QEMU unlinks at once.
    """

    block: MemoryBlock
    offset: int
    file_name: str

    @property
    def path(self) -> str:
        return f"{self.block.directory}/{self.file_name}" if self.file_name else ""

    @property
    def place(self) -> str:
        return self.path or self.block.device or self.block.directory

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self.block), "offset": self.offset, "file_name": self.file_name, "path": self.path}


def file_name(offset: int, size: int, name: str) -> str:
    """``qemu_back_mem.OFFSET+SIZE.NAME``, hexadecimal as ``%x`` prints it (Feiner, qemu-devel 2012).

    >>> file_name(0, 0x10000000, "ram0")
    'qemu_back_mem.0+10000000.ram0'
    """
    return f"{FILE_PREFIX}{offset:x}+{size:x}.{name}"


def parse_file_name(text: str) -> tuple[int, int, str] | None:
    """Offset, size and name of a RAM file's name; None for any other name."""
    match = _FILE_NAME.fullmatch(text)
    return (int(match.group(1), 16), int(match.group(2), 16), match.group(3)) if match else None


def layout(definition: Definition) -> list[PlacedBlock]:
    """The blocks in canonical order, as QEMU places backends that are given first on its command line.

    The offsets are a prediction for boot-time blocks; the runtime holds them against the real QEMU before its vCPUs run.
    """
    placed = []
    offset = 0
    for block in definition.blocks:
        name = file_name(offset, block.size, block.id) if block.named else ""
        placed.append(PlacedBlock(block, offset, name))
        offset += round_up(block.size, _OFFSET_STEP)
    return placed
