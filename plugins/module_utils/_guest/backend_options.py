# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What QEMU's memory backends have and a memory block has not by the same name, and why (QEMU backends/hostmem*.c). Pure."""

from __future__ import annotations

NO_RAM = (
    "ram is left out: memory-backend-ram is a memfd when it is shared (QEMU >= 10.0), and no other QEMU can take it over"
    " when it is private; use memfd, which has all its options"
)
NOT_KEYS = {
    "discard-data": "stays off: a RAM file is removed when the guest stops, and one that was opened keeps its content",
    "hugetlb": "is on with page_size",
    "hugetlbsize": "is page_size",
    "mem-path": "follows from directory, device or namespace",
    "prealloc-context": "is made for the block's host_nodes",
    "readonly": "is read_only",
    "rom": "leaves no choice: QEMU refuses on for what can be written, and off for what is shared and read-only;"
    " a private block that is read_only gets off, as the guest could not write to its RAM otherwise",
    "share": "is mmap: shared or private",
    "x-use-canonical-path-for-ramblock-id": "is the machine type's",
}
"""Options that are no keys, and what stands for them."""
