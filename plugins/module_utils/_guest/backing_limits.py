# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the control group that a guest will run in lets it have its memory. Beyond a limit the kernel kills it, or sends SIGBUS."""

from __future__ import annotations

from collections.abc import Callable

from .._host.cgroups import hierarchy
from .._host.hugetlb_cgroups import hugetlb_limits_of
from .._host.memory_cgroups import memory_limits_of
from .definition import Definition
from .errors import Refused
from .memory_block import MemoryBlock
from .sizes import format_size

_SLICE = "machine.slice"  # Slice= of hostmem-guest@.service


Groups = Callable[[str], "tuple[str, list[str]]"]


def slice_groups(controller: str) -> tuple[str, list[str]]:
    """The groups that the units of guests will run in, as far as they are there before: root of the hierarchy, and directories."""
    root = hierarchy(controller)
    return (root, [f"{root}/{_SLICE}", root]) if root else ("", [])


def check_limits(definition: Definition, groups_of: Groups) -> None:
    """Hold a guest's memory against the limits of the groups that its QEMU will run in.

    Only what can never fit is refused, since much of what counts now can be reclaimed, or is the guest's own already.

    :param groups_of: ``own_groups`` where QEMU is started, ``slice_groups`` elsewhere.
    :raises Refused: with the limit and where it is set.
    """
    needed = sum(block.size for block in definition.blocks if _counts_as_memory(block))
    for limit in memory_limits_of(*groups_of("memory")):
        if limit.limits == "memory" and needed > limit.limit:
            raise _beyond(definition, needed, limit.limit, limit.file, "It would be killed for want of memory.")
    for size in sorted({block.page_size for block in definition.blocks if block.page_size}):
        needed = sum(block.size for block in definition.blocks if block.page_size == size)
        root, groups = groups_of("hugetlb")
        for huge in hugetlb_limits_of(root, groups, size):
            if needed > huge.limit:
                raise _beyond(definition, needed, huge.limit, huge.file, "In huge pages; beyond it ends with SIGBUS.")


def _counts_as_memory(block: MemoryBlock) -> bool:
    """Pages of plain files can be written back, DAX and huge pages are not counted here."""
    return block.backing in ("memfd", "tmpfs") and block.page_size is None


def _beyond(definition: Definition, needed: int, left: int, file: str, cause: str) -> Refused:
    return Refused(
        f"Guest {definition.name} needs {format_size(needed)}, its control group may have {format_size(left)} ({file}).",
        cause=cause,
        cure="Raise the limit (MemoryMax= of the unit or slice; hugetlb files by hand), or give the guest less memory.",
    )
