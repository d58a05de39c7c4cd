# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the control group that a guest will run in lets it have its memory. Beyond a limit the kernel kills it, or sends SIGBUS."""

from __future__ import annotations

from collections.abc import Callable

from .._host.cgroups import group_and_above, hierarchy
from .._host.hugetlb_cgroups import hugetlb_limits_of
from .._host.memory_cgroups import memory_limits_of
from .definition import Definition
from .errors import Refused
from .memory_block import MemoryBlock
from .sizes import format_size
from .systemd import properties, unit_name

_SLICE = "machine.slice"  # Slice= of hostmem-guest@.service, where systemd does not tell
_ROOT = "-.slice"

Groups = Callable[[str], "tuple[str, list[str]]"]


def unit_groups(guest: str) -> Groups:
    """The groups that the unit of a guest will run in, as far as they are there before it starts."""
    slices = _slices(guest)
    # systemd runs in a group itself in some containers. A slice that is not active has no group.
    asked = (properties(unit, "ControlGroup").get("ControlGroup") for unit in (slices[0], slices[-1]))
    group = next(filter(None, asked), f"/{slices[0]}")

    def groups_of(controller: str) -> tuple[str, list[str]]:
        root = hierarchy(controller)
        return (root, group_and_above(root, group)) if root else ("", [])

    return groups_of


def check_unit(definition: Definition) -> None:
    """Hold a guest's memory against what systemd will set for its unit, and for slices that are not active yet.

    :raises Refused: with the limit and where it is set.
    """
    for unit in (unit_name(definition.name), *_slices(definition.name)):
        limit = properties(unit, "MemoryMax").get("MemoryMax", "")
        if limit.isdigit():  # not: infinity
            _check_memory(definition, int(limit), f"MemoryMax= of {unit}")


def _slices(guest: str) -> list[str]:
    """The slice of the guest's unit, and those that it lies in: b.slice is in -.slice, and a-b.slice in a.slice (systemd.slice(5))."""
    own = properties(unit_name(guest), "Slice").get("Slice") or _SLICE
    words = own.removesuffix(".slice").split("-")
    below = [] if own == _ROOT else [f"{'-'.join(words[:count])}.slice" for count in range(len(words), 0, -1)]
    return [*below, _ROOT]


def check_limits(definition: Definition, groups_of: Groups) -> None:
    """Hold a guest's memory against the limits of the groups that its QEMU will run in.

    Only what can never fit is refused, since much of what counts now can be reclaimed, or is the guest's own already.

    :param groups_of: ``own_groups`` where QEMU is started, ``unit_groups`` elsewhere.
    :raises Refused: with the limit and where it is set.
    """
    for limit in memory_limits_of(*groups_of("memory")):
        if limit.limits == "memory":
            _check_memory(definition, limit.limit, limit.file)
    for size in sorted({block.page_size for block in definition.blocks if block.page_size}):
        needed = sum(block.size for block in definition.blocks if block.page_size == size)
        root, groups = groups_of("hugetlb")
        for huge in hugetlb_limits_of(root, groups, size):
            if needed > huge.limit:
                raise _beyond(definition, needed, huge.limit, huge.file, "In huge pages; beyond it ends with SIGBUS.")


def _check_memory(definition: Definition, limit: int, where: str) -> None:
    needed = sum(block.size for block in definition.blocks if _counts_as_memory(block))
    if needed > limit:
        raise _beyond(definition, needed, limit, where, "It would be killed for want of memory.")


def _counts_as_memory(block: MemoryBlock) -> bool:
    """Pages of plain files can be written back, DAX and huge pages are not counted here."""
    return block.backing in ("memfd", "tmpfs") and block.page_size is None


def _beyond(definition: Definition, needed: int, left: int, where: str, cause: str) -> Refused:
    return Refused(
        f"Guest {definition.name} needs {format_size(needed)}, its control group may have {format_size(left)} ({where}).",
        cause=cause,
        cure="Raise the limit (MemoryMax= of the unit or slice; hugetlb files by hand), or give the guest less memory.",
    )
