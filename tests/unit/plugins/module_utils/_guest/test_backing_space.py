# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In a small tmpfs: blocks that do not fit are refused before anything is made, all blocks of a guest taken together."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.backing_files import plan_present
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.definition import parse_definition
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.errors import Refused
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.layout import layout

from .ram_files import ME, MEBIBYTE, block, make, mapped


@pytest.fixture(name="base")
def fixture_base() -> Iterator[Path]:
    """A tmpfs of 64 MiB of its own, which takes root."""
    with tempfile.TemporaryDirectory(prefix="hostmem-unit-") as base:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64M,mode=0755", "hostmem-unit", base], check=True)
        try:
            yield Path(base)
        finally:
            subprocess.run(["umount", base], check=True)


def test_one_block_that_does_not_fit(base: Path) -> None:
    with pytest.raises(Refused, match="not enough space in") as refusal:
        plan_present([block(base / "guest", size=65 * MEBIBYTE)], ME, fresh=True)
    assert "are needed" in refusal.value.cause
    assert not (base / "guest").exists()


def test_two_blocks_of_which_each_alone_would_fit(base: Path) -> None:
    half = 40 * MEBIBYTE
    blocks = [block(base / "guest", size=half), block(base / "guest", size=half, offset=half, id="ram1")]
    for one in blocks:
        plan_present([one], ME, fresh=True)
    with pytest.raises(Refused, match="ram0, ram1: not enough space"):
        plan_present(blocks, ME, fresh=True)


def test_what_another_guest_may_still_touch_is_taken(base: Path) -> None:
    size = 40 * MEBIBYTE
    make(block(base / "first", size=size))
    with pytest.raises(Refused, match="not enough space") as refusal:
        plan_present([block(base / "second", size=size)], ME, fresh=True)
    assert "belong to other guests" in refusal.value.cause
    assert not plan_present([block(base / "first", size=size)], ME, fresh=True).changed


def test_also_what_lies_elsewhere_but_is_mapped(base: Path) -> None:
    size = 40 * MEBIBYTE
    far = block(base / "far" / "away" / "first", size=size)
    make(far)
    second = block(base / "second", size=size)
    plan_present([second], ME, fresh=True)
    with mapped(far.path), pytest.raises(Refused, match="not enough space"):
        plan_present([second], ME, fresh=True)


def test_a_file_without_a_name_needs_space_too(base: Path) -> None:
    memory = {"blocks": [{"size": 65 * MEBIBYTE, "backing": "tmpfs", "directory": str(base / "g"), "mode": "temp"}]}
    definition = parse_definition({"name": "web1", "machine": "pc-q35-10.0", "accel": "tcg", "memory": memory})
    with pytest.raises(Refused, match="not enough space"):
        plan_present(layout(definition), ME, fresh=True)


@pytest.mark.parametrize("filesystem", ["hugetlbfs", "dax"])
def test_another_file_system_than_demanded(base: Path, filesystem: str) -> None:
    options = {"page_size": "2M", "size": 2 * MEBIBYTE} if filesystem == "hugetlbfs" else {}
    with pytest.raises(Refused, match=f"lies on tmpfs, the definition demands {filesystem}"):
        plan_present([block(base / "guest", filesystem=filesystem, **options)], ME, fresh=True)
