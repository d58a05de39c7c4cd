# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sizes in bytes, read and written the way QEMU and the kernel write them."""

from __future__ import annotations

import re

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"([0-9]+)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE | re.ASCII)


def parse_size(value: int | str) -> int:
    """Bytes of ``268435456``, ``"256M"`` or ``"1GiB"`` (powers of 1024, as in QEMU).

    :raises ValueError: not a positive whole number of bytes.
    """
    if isinstance(value, bool):
        raise ValueError("a size is a number of bytes or a text like 256M, not a boolean")
    if isinstance(value, int):
        size = value
    else:
        match = _SIZE.fullmatch(str(value))
        if match is None:
            raise ValueError(f"{value!r} is not a size like 268435456, 256M or 4G")
        size = int(match.group(1)) * _UNITS[match.group(2).upper()]
    if size <= 0:
        raise ValueError(f"{value!r} is not larger than 0")
    return size


def format_size(size: int) -> str:
    """The shortest exact text: ``268435456`` -> ``256M``."""
    for unit in ("T", "G", "M", "K"):
        if size and size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit}"
    return str(size)


def round_up(value: int, step: int) -> int:
    """The least multiple of ``step`` that is not below ``value``."""
    return -(-value // step) * step
