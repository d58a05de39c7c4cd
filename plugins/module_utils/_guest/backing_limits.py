# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the control group that a guest will run in lets it have its memory. Beyond a limit the kernel kills it, or sends SIGBUS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .._host.cgroups import group_and_above, hierarchy
from .._host.hugetlb_cgroups import hugetlb_limits_of
from .._host.memory_cgroups import memory_limits_of
from .._host.unit_properties import Properties, first, unit_properties
from .definition import Definition
from .errors import HostmemError, Refused
from .memory_block import MemoryBlock
from .sizes import format_size
from .systemd import unit_name

_SLICE = "machine.slice"  # Slice= of hostmem-guest@.service, where systemd does not tell
_ROOT = "-.slice"

Groups = Callable[[str], "tuple[str, list[str]]"]


@dataclass(frozen=True)
class GuestUnit:
    """What systemd would do with a guest: ``limits`` has MemoryMax= in bytes by the unit or slice that sets it, ``group`` is the group that
    there is already.
    """

    group: str
    limits: dict[str, int]

    def groups_of(self, controller: str) -> tuple[str, list[str]]:
        """The groups that it will run in, as far as they are there before it starts."""
        root = hierarchy(controller)
        return (root, group_and_above(root, self.group)) if root else ("", [])


def guest_unit(guest: str) -> GuestUnit:
    """What systemd says of a guest's unit, and of the slices that it lies in; where it does not answer, the unit's usual slice."""
    own = unit_name(guest)
    unit = _told([own], "Slice", "MemoryMax")[0]
    slices = _slices(first(unit, "Slice") or _SLICE)
    above = _told(slices, "ControlGroup", "MemoryMax")
    limits = {name: first(found, "MemoryMax") for name, found in zip([own, *slices], [unit, *above])}
    # systemd runs in a group itself in some containers. A slice that is not active has no group.
    groups = [first(found, "ControlGroup") for found in (above[0], above[-1])]
    return GuestUnit(
        next(filter(None, groups), f"/{slices[0]}"),
        {name: int(limit) for name, limit in limits.items() if limit.isdigit()},  # not: infinity
    )


def _told(units: Sequence[str], *names: str) -> list[Properties]:
    try:
        return unit_properties(units, names)
    except HostmemError:  # the start will tell
        return [{} for _unit in units]


def _slices(own: str) -> list[str]:
    """A slice and those that it lies in: b.slice is in -.slice, and a-b.slice in a.slice (systemd.slice(5))."""
    words = own.removesuffix(".slice").split("-")
    below = [] if own == _ROOT else [f"{'-'.join(words[:count])}.slice" for count in range(len(words), 0, -1)]
    return [*below, _ROOT]


def check_unit(definition: Definition, unit: GuestUnit) -> None:
    """Hold a guest's memory against what systemd will set for its unit, and for slices that are not active yet.

    :raises Refused: with the limit and where it is set.
    """
    for name, limit in unit.limits.items():
        _check_memory(definition, limit, f"MemoryMax= of {name}")


def check_limits(definition: Definition, groups_of: Groups) -> None:
    """Hold a guest's memory against the limits of the groups that its QEMU will run in.

    Only what can never fit is refused, since much of what counts now can be reclaimed, or is the guest's own already.

    :param groups_of: ``own_groups`` where QEMU is started, those of a ``GuestUnit`` elsewhere.
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
