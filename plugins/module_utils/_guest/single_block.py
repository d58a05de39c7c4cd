# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A single memory block at an offset of the caller's choice, for who has no guest definition. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import DefinitionError
from .fields import Fields
from .layout import PlacedBlock, file_name
from .memory_block import parse_block

_BACKING = {"tmpfs": "tmpfs", "hugetlbfs": "hugetlbfs", "dax": "dax"}
_LARGEST_OFFSET = 1 << 52  # more than any guest's physical addresses


def parse_single_block(data: Mapping[str, Any]) -> PlacedBlock:
    """Check and complete ``size``, ``directory``, ``offset``, ``id``, ``filesystem``, ``page_size`` and ``mode``; None is as good as absent.

    :raises DefinitionError: listing every problem with its key.
    """
    problems: list[str] = []
    given = {key: value for key, value in data.items() if value is not None}
    offset = Fields({"offset": given.pop("offset", 0)}, "", problems).integer("offset", 0, 0, _LARGEST_OFFSET) or 0
    backing = _BACKING.get(str(given.get("filesystem")), "file")
    block = parse_block(Fields({**given, "backing": backing}, "", problems), "")
    if block.mode == "temp":
        problems.append("mode: temp has no file with a name")
    if offset % 4096:
        problems.append(f"offset: {offset} is not a multiple of the page size 4K")
    if problems:
        raise DefinitionError(problems, "memory block")
    return PlacedBlock(block, offset, file_name(offset, block.size, block.id))
