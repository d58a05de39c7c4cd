# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kernel's one-value files, in /sys and /proc/sys (sysfs(5)); numbers are decimal, or hexadecimal with 0x."""

from __future__ import annotations


def number(path: str) -> int:
    """The number in a file that must be there.

    :raises OSError: it is not.
    """
    with open(path, encoding="ascii") as file:
        return int(file.read(), 0)


def number_in(path: str) -> int | None:
    """The number in a file; None without such a file, or without a number in it."""
    try:
        return int(text_in(path), 0)
    except ValueError:
        return None


def text_in(path: str) -> str:
    """The text in a file, without blanks around it; empty without such a file."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
