# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes in bytes, read and written."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.sizes import format_size, parse_size, round_up


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (1, 1),
        (268435456, 1 << 28),
        ("1", 1),
        ("0256", 256),
        ("1B", 1),
        ("4k", 4096),
        ("4KB", 4096),
        ("4KiB", 4096),
        ("4 kib", 4096),
        ("256M", 1 << 28),
        ("1G", 1 << 30),
        ("16T", 1 << 44),
    ],
)
def test_read(value: Any, wanted: int) -> None:
    assert parse_size(value) == wanted


@pytest.mark.parametrize(
    "value",
    [
        0,
        -4096,
        True,
        False,
        1.5,
        None,
        [],
        "",
        " ",
        "0",
        "-1M",
        "+1M",
        "1.5G",
        "1,5G",
        "1_000",
        "0x10",
        "1e3",
        "M",
        "1P",
        "1Mi B",
        "1M2K",
        " 1M",
        "1M ",
        "1M\n",
        "1M,share=off",
        "\u0662M",
        "4\u212a",  # the Kelvin sign, a K to some
    ],
)
def test_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"size|larger than 0"):
        parse_size(value)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (1, "1"),
        (1023, "1023"),
        (1024, "1K"),
        (256 << 20, "256M"),
        ((1 << 30) + 4096, "1048580K"),
        (5 << 40, "5T"),
        (0, "0"),
    ],
)
def test_format_size(size: int, text: str) -> None:
    assert format_size(size) == text
    assert size == 0 or parse_size(text) == size


@pytest.mark.parametrize(
    ("value", "step", "wanted"), [(0, 4096, 0), (1, 4096, 4096), (4096, 4096, 4096), (4097, 4096, 8192)]
)
def test_round_up(value: int, step: int, wanted: int) -> None:
    assert round_up(value, step) == wanted
