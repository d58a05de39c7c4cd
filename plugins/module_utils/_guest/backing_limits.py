# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the control group that a guest will run in lets it have its memory. Beyond a limit the kernel kills it, or sends SIGBUS."""

from __future__ import annotations

from .._host.cgroups import own_groups
from .._host.hugetlb_cgroups import hugetlb_limits_of
from .._host.memory_cgroups import memory_limits_of
from .definition import Definition
from .errors import Refused
from .memory_block import MemoryBlock
from .sizes import format_size


def check_limits(definition: Definition) -> None:
    """Hold a guest's memory against the limits of this process's own groups: its QEMU is started in them.

    Of ordinary memory only what can never fit is refused, since much of what counts now can be reclaimed.

    :raises Refused: with the limit and where it is set.
    """
    needed = sum(block.size for block in definition.blocks if _counts_as_memory(block))
    for limit in memory_limits_of(*own_groups("memory")):
        if limit.limits == "memory" and needed > limit.limit:
            raise _beyond(definition, needed, limit.limit, limit.file, "It would be killed for want of memory.")
    for size in sorted({block.page_size for block in definition.blocks if block.page_size}):
        needed = sum(block.size for block in definition.blocks if block.page_size == size)
        root, groups = own_groups("hugetlb")
        for huge in hugetlb_limits_of(root, groups, size):
            if needed > huge.limit - huge.usage:
                cause = f"Of its {format_size(huge.limit)} in huge pages {format_size(huge.usage)} are taken; a guest beyond it ends with SIGBUS."
                raise _beyond(definition, needed, huge.limit - huge.usage, huge.file, cause)


def _counts_as_memory(block: MemoryBlock) -> bool:
    """Pages of plain files can be written back, DAX and huge pages are not counted here."""
    return block.backing in ("memfd", "tmpfs") and block.page_size is None


def _beyond(definition: Definition, needed: int, left: int, file: str, cause: str) -> Refused:
    return Refused(
        f"Guest {definition.name} needs {format_size(needed)}, its control group may have {format_size(max(0, left))} ({file}).",
        cause=cause,
        cure="Raise the limit (MemoryMax= of the unit or slice; hugetlb files by hand), or give the guest less memory.",
    )
