# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the kernel swaps to (proc_swaps(5))."""

from __future__ import annotations

from dataclasses import dataclass

from .mounts import unescape


@dataclass(frozen=True)
class Swap:
    """A device or a file; ``kind`` is ``partition`` or ``file``."""

    path: str
    kind: str


def swaps(path: str = "/proc/swaps") -> list[Swap]:
    """All that is in use; nothing where the kernel has no swapping at all (CONFIG_SWAP)."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            rows = [line.split() for line in file.read().split("\n")[1:]]
    except OSError:
        return []
    return [Swap(unescape(row[0]), row[1]) for row in rows if len(row) > 1]
