# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long a memory block's content lasts, as far as its definition tells: QEMU's end, the host's reboot. Pure: no I/O."""

from __future__ import annotations

from .memory_block import MemoryBlock


def ends_with_qemu(block: MemoryBlock) -> str:
    """Why what the guest has written to this block is lost with its QEMU; empty when it is not."""
    if block.backing == "memfd":
        return "is a memfd, which ends with QEMU"
    if block.mmap == "private":
        return "is mapped private: what the guest writes is in no file"
    if not block.named and not block.on_device:
        return "is an unlinked file (mode temp), which ends with QEMU"
    return ""


def volatile_reason(block: MemoryBlock) -> str:
    """Why what the guest has written to this block is lost when the host reboots; empty when it is not."""
    reason = ends_with_qemu(block)
    if reason:
        return reason
    for volatile in ("tmpfs", "hugetlbfs"):
        if volatile in (block.backing, block.filesystem):
            return f"lies on {volatile}, which the host's reboot empties"
    return ""


def left_in_place(block: MemoryBlock) -> bool:
    """Whether QEMU leaves the block out of its state with the capability x-ignore-shared: shared memory in a file, even an unlinked one.

    migrate_ram_is_ignored() in migration/ram.c, qemu_ram_is_named_file(), backends/hostmem-file.c; QEMU 8.2 to 11.1.
    """
    return block.mmap == "shared" and block.backing != "memfd"
