# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which memory blocks are still there after a reboot of the host, as far as their definition tells. Pure: no I/O."""

from __future__ import annotations

from .memory_block import MemoryBlock


def volatile_reason(block: MemoryBlock) -> str:
    """Why what the guest has written to this block is lost when the host reboots; empty when it is not."""
    if block.backing == "memfd":
        return "is a memfd, which ends with QEMU"
    if block.mode == "temp":
        return "is an unlinked file (mode temp), which ends with QEMU"
    if block.mmap == "private":
        return "is mapped private: what the guest writes is in no file"
    if "tmpfs" in (block.backing, block.filesystem):
        return "lies on tmpfs, which the host's reboot empties"
    if "hugetlbfs" in (block.backing, block.filesystem):
        return "lies on hugetlbfs, which the host's reboot empties"
    return ""
