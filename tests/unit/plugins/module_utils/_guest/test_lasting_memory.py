# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a block's definition tells of how long its content lasts."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.definition import parse_definition
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.lasting_memory import (
    ends_with_qemu,
    left_in_place,
    volatile_reason,
)

from .definitions import memory

FILE = {"backing": "file", "directory": "/srv/ram"}
HUGE = {"backing": "hugetlbfs", "page_size": "2M"}
DEVICE = {"backing": "dax", "device": "/dev/dax0.0", "size": "256M"}
NAMESPACE = {"backing": "dax", "namespace": "guests", "size": "256M"}


@pytest.mark.parametrize(
    ("block", "with_qemu", "with_boot", "in_place"),
    [
        ({"backing": "memfd"}, "is a memfd", "is a memfd", False),
        ({**FILE, "mmap": "private"}, "is mapped private", "is mapped private", False),
        ({**FILE, "mmap": "private", "mode": "temp"}, "is mapped private", "is mapped private", False),
        ({**FILE, "mode": "temp"}, "is an unlinked file", "is an unlinked file", True),
        ({"mode": "temp"}, "is an unlinked file", "is an unlinked file", True),
        ({}, "", "lies on tmpfs", True),
        (HUGE, "", "lies on hugetlbfs", True),
        (FILE, "", "", True),
        ({"backing": "dax", "directory": "/srv/dax"}, "", "", True),
        (DEVICE, "", "", True),
        (NAMESPACE, "", "", True),
    ],
)
def test_how_long_it_lasts(block: dict[str, Any], with_qemu: str, with_boot: str, in_place: bool) -> None:
    found = parse_definition(memory(block)).blocks[0]
    assert (ends_with_qemu(found).startswith(with_qemu), bool(ends_with_qemu(found))) == (True, bool(with_qemu))
    assert (volatile_reason(found).startswith(with_boot), bool(volatile_reason(found))) == (True, bool(with_boot))
    assert left_in_place(found) is in_place
