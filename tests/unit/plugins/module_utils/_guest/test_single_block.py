# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A block that is given by its own parameters."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.errors import DefinitionError
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.single_block import parse_single_block

GOOD: dict[str, Any] = {"size": "256M", "directory": "/dev/shm/hostmem/web1"}


def test_names_are_those_of_the_layout() -> None:
    placed = parse_single_block({**GOOD, "offset": 0x10000000, "id": "ram1", "page_size": None})
    assert placed.path == "/dev/shm/hostmem/web1/qemu_back_mem.10000000+10000000.ram1"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"size": "many"}, "size: 'many' is not a size"),
        ({"size": 5000}, "size: 5000 is not a multiple of the page size 4K"),
        ({"offset": 5}, "offset: 5 is not a multiple of the page size 4K"),
        ({"offset": -4096}, "offset: must be a whole number"),
        ({"id": "a/b"}, "id: 'a/b' must begin with a letter"),
        ({"directory": "relative"}, "directory: 'relative' must be an absolute path"),
        ({"directory": "/srv/../etc"}, "directory: '/srv/../etc' must be an absolute path"),
        ({"mode": "temp"}, "mode: temp has no file with a name"),
        ({"filesystem": "hugetlbfs"}, "page_size: is required with backing hugetlbfs"),
        ({"filesystem": "tmpfs", "page_size": "2M"}, "page_size: has no meaning with backing tmpfs"),
        ({"colour": "red"}, "colour: is not known here"),
    ],
)
def test_wrong_parameters_are_refused_with_key_and_reason(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(DefinitionError) as refusal:
        parse_single_block({**GOOD, **changes})
    assert refusal.value.message.startswith("The memory block is not acceptable: ")
    assert any(problem.startswith(reason) for problem in refusal.value.problems)
