# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Namespaces of persistent memory as they should be: which one is meant, what it takes to get there, and getting there."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from .._guest.config import DEFAULT_PATH
from .._guest.sizes import format_size
from .._host.errors import HostmemError, Refused
from .._host.pmem import (
    Namespace,
    Region,
    create_namespace,
    destroy_namespace,
    initialise_labels,
    rebuild_namespace,
    regions,
)
from .._host.programs import find_program
from .foreseen import NOTHING, Foreseen
from .namespace_checks import (
    MODES,
    SMALLEST,
    check_free_to_destroy,
    check_region,
    check_size,
    contents,
    data_of,
    ending,
    gaps,
    is_named,
    next_sizes,
    step_of,
    why_counted_on,
    why_kept,
)


@dataclass(frozen=True)
class Wish:
    """A namespace as somebody wants it. ``size``, in bytes, is what it takes of the region, None for all that is free.

    ``destroy`` names the namespace whose data may be lost, by its device name or its name.
    """

    name: str
    region: str
    mode: str
    align: int
    map: str
    size: int | None
    destroy: str


@dataclass(frozen=True)
class Plan:
    """What is done, ``action`` being none, create, rebuild or destroy, to which namespace, and in which region.

    ``label``: labels are written first, so that the region can be divided. ``kept``: why a namespace that might go stays, as a sentence.
    ``forgotten``: guests that count on the namespace now, and would not be defined any more.
    """

    action: str
    wish: Wish
    region: Region | None
    target: Namespace | None
    label: bool = False
    kept: str = ""
    forgotten: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        return self.action != "none"

    def diff(self) -> dict[str, dict[str, Any]]:
        """Before and after, for --diff."""
        before = side(self.target)
        if self.action == "none":
            return {"before": before, "after": before}
        if self.action == "destroy":
            return {"before": before, "after": {"state": "absent"}}
        return {"before": before, "after": side(self.predicted())}

    def predicted(self) -> Namespace | None:
        """The namespace as it will be, as far as that is known before; ``size`` 0 and ``device`` empty are not."""
        if self.action == "destroy":
            return None
        if self.action == "none" or self.region is None:
            return self.target
        wish, old = self.wish, self.target
        return Namespace(
            dev=old.dev if old and self.action == "rebuild" else "",
            region=self.region.dev,
            mode=wish.mode,
            name=wish.name or (old.name if old and self.action == "rebuild" else ""),
            size=0,
            raw_size=planned_size(self),
            align=wish.align,
            map=wish.map,
            sector_size=None,
            device="",
            enabled=True,
            numa_node=self.region.numa_node,
            uuid="",
            start=None,
        )


def side(namespace: Namespace | None) -> dict[str, Any]:
    """One side of the diff."""
    if namespace is None:
        return {"state": "absent"}
    return {
        "state": "present" if namespace.enabled else "disabled",
        "region": namespace.region,
        "name": namespace.name,
        "mode": namespace.mode,
        "map": namespace.map,
        "align": namespace.align,
        "size": namespace.raw_size,
    }


def planned_size(plan: Plan) -> int:
    """Bytes that the namespace will take of its region."""
    if plan.wish.size is not None:
        return plan.wish.size
    if plan.action == "rebuild" and plan.target is not None:
        return plan.target.raw_size
    return _room(plan.region, None, plan.label) if plan.region else 0


def regions_seen(foreseen: Foreseen) -> list[Region]:
    """The regions as they are, or as the tasks before would leave them; of what ndctl cannot tell before it is installed, nothing.

    :raises HostmemError: ndctl is missing or fails.
    """
    if foreseen.regions is not None:
        return list(foreseen.regions)
    return [] if foreseen.brings("ndctl") else regions()


def plan_present(wish: Wish, foreseen: Foreseen = NOTHING) -> Plan:
    """What it takes that there is such a namespace.

    :raises HostmemError: it cannot be, would cost data nobody gave up, or is not clear; nothing was changed.
    """
    if foreseen.brings("ndctl"):
        return Plan("create", wish, _unseen_region(wish, foreseen), None)
    found = regions_seen(foreseen)
    target = find(wish, found)
    if target is not None:
        region = next(item for item in found if item.dev == target.region)
        return _plan_existing(wish, region, target)
    return _plan_new(wish, choose_region(wish, found))


def find(wish: Wish, found: Sequence[Region]) -> Namespace | None:
    """The namespace that is meant: by its name, or without one the only one of that mode in the region.

    :raises Refused: there are several.
    """
    chosen = _candidates(wish, found)
    if len(chosen) > 1:
        raise Refused(_several(wish, chosen), cure="Say which: set name, and region where names are not unique.")
    return chosen[0] if chosen else None


def _candidates(wish: Wish, found: Sequence[Region]) -> list[Namespace]:
    """All that may be meant."""
    items = [item for region in found if wish.region in ("", region.dev) for item in region.namespaces]
    return [item for item in items if (item.name == wish.name if wish.name else item.mode == wish.mode)]


def _several(wish: Wish, chosen: Sequence[Namespace]) -> str:
    what = f"named {wish.name}" if wish.name else f"of mode {wish.mode}"
    return f"There are several namespaces {what}: {', '.join(item.dev for item in chosen)}."


def choose_region(wish: Wish, found: Sequence[Region]) -> Region:
    """The region for a new namespace: the named one, or the only one.

    :raises Refused: there is none, or no single one.
    """
    if not found:
        raise Refused(
            "There is no region of persistent memory on this host.",
            cause="ndctl list --regions shows none.",
            cure="It takes memory modules that the firmware offers as persistent, or the kernel parameter memmap=SIZE!START.",
        )
    known = "; ".join(f"{item.dev}: {format_size(item.size)} on node {item.numa_node}" for item in found)
    if wish.region:
        for item in found:
            if item.dev == wish.region:
                return item
        raise Refused(f"There is no region {wish.region}.", cause=f"There are: {known}.", cure="Correct region.")
    if len(found) > 1:
        raise Refused("It is not clear which region is meant.", cause=f"There are: {known}.", cure="Set region.")
    return found[0]


def _plan_existing(wish: Wish, region: Region, target: Namespace) -> Plan:
    same = (target.mode, target.align, target.map) == (wish.mode, wish.align, wish.map)
    if same and target.enabled and wish.size in (None, target.raw_size):
        return Plan("none", wish, region, target)
    return _plan_rebuild(wish, region, target)


def _plan_rebuild(wish: Wish, region: Region, target: Namespace) -> Plan:
    size = target.raw_size if wish.size is None else wish.size
    _check_labels(wish, region, size)
    if not region.labels and size != region.size:
        check_size(region, wish.align, size, region.size)
        check_free_to_destroy(target, wish.destroy, _why_anew(wish, target, size))
        return Plan("create", wish, region, target, label=True)
    check_region(region, wish.align, target)
    check_size(region, wish.align, size, _room(region, target))
    check_free_to_destroy(target, wish.destroy, _why_anew(wish, target, size))
    return Plan("rebuild", wish, region, target)


def _why_anew(wish: Wish, target: Namespace, size: int) -> str:
    """What of a namespace is not as wanted, as a sentence."""
    pairs = (
        ("mode", target.mode, wish.mode),
        ("align", _size(target.align), _size(wish.align)),
        ("map", target.map, wish.map),
        ("size", _size(target.raw_size), _size(size)),
        ("name", target.name, wish.name or target.name),
    )
    changed = [f"{key} {old or 'none'} to {new}" for key, old, new in pairs if old != new]
    return f"It would be made anew, to change {', '.join(changed)}." if changed else "It would be made anew."


def _size(size: int | None) -> str | None:
    return None if size is None else format_size(size)


def _plan_new(wish: Wish, region: Region) -> Plan:
    if not region.labels:
        return _plan_undivided(wish, region)
    room = _room(region, None)
    if region.namespaces and (room < SMALLEST or (wish.size or 0) > room):
        given_up = [item for item in region.namespaces if is_named(item, wish.destroy)]
        if given_up:
            return _plan_rebuild(wish, region, given_up[0])
        _refuse_full(wish, region, room)
    check_region(region, wish.align)
    check_size(region, wish.align, _size_or_all(wish, region, room), room)
    return Plan("create", wish, region, None)


def _plan_undivided(wish: Wish, region: Region) -> Plan:
    """A region without labels is one namespace, raw as long as nobody made anything else of it."""
    check_region(region, wish.align)
    if not region.namespaces:
        raise HostmemError(
            f"ndctl shows no namespace in {region.dev}, though it has no labels.",
            cause="A region without labels is one namespace as a whole; the kernel could not make it, or the region is disabled.",
            cure=f"Enable it (ndctl enable-region {region.dev}), and see the kernel's log (dmesg).",
        )
    target = region.namespaces[0]
    if target.mode != "raw" and not is_named(target, wish.destroy):
        _refuse_full(wish, region, 0)
    size = _size_or_all(wish, region, region.size)
    _check_labels(wish, region, size)
    check_size(region, wish.align, size, region.size)
    check_free_to_destroy(target, wish.destroy, _why_anew(wish, target, size))
    if region.labels_possible:
        return Plan("create", wish, region, target, label=True)
    return Plan("rebuild", wish, region, target)


def _check_labels(wish: Wish, region: Region, size: int) -> None:
    """Only labels can hold a name, or divide a region.

    :raises Refused: there is no room for labels.
    """
    if region.labels or region.labels_possible:
        return
    cause = (
        f"{' and '.join(region.dimms) or 'What it is made of'} has no label area: the region is one namespace as it is."
    )
    if size != region.size:
        raise Refused(
            f"{region.dev} cannot be divided.", cause, f"Leave size out, or set it to {format_size(region.size)}."
        )
    if wish.name:
        raise Refused(
            f"{region.dev} cannot hold a name for its namespace.", cause, "Leave name out, and set region and mode."
        )


def _size_or_all(wish: Wish, region: Region, room: int) -> int:
    """The size that is wanted, or all that is free, when that can be had as it is.

    :raises Refused: all that is free is no possible size; the next one that is, is named.
    """
    if wish.size is not None:
        return wish.size
    step = step_of(region, wish.align)
    if room % step:
        raise Refused(
            f"The free memory of {region.dev}, {format_size(room)}, is no size that a namespace can have.",
            cause=f"With an alignment of {format_size(wish.align)}, sizes in this region are multiples of {format_size(step)}.",
            cure=f"Set size. {next_sizes(room, step, room)}",
        )
    return room


def _room(region: Region | None, leaving_out: Namespace | None, label: bool = False) -> int:
    """The largest free stretch, in bytes."""
    if region is None:
        return 0
    if label:
        return region.size
    stretches = gaps(region, leaving_out)
    if stretches:
        return max(size for _start, size in stretches)
    # The kernel does not tell addresses: what ndctl says, and at least what is given up.
    return max(region.largest_available, leaving_out.raw_size if leaving_out else 0)


def _refuse_full(wish: Wish, region: Region, room: int) -> None:
    meant = wish.name or wish.mode
    modes = sorted({item.mode for item in region.namespaces} - {wish.mode})
    explained = " ".join(MODES[mode] for mode in modes if mode in MODES)
    smaller = ""
    step = step_of(region, wish.align)
    if room >= step:
        smaller = f" Or take less. {next_sizes(wish.size or room, step, room)}"
    takeable = [item for item in region.namespaces if item.mode == wish.mode and not item.name]
    if wish.name and takeable:
        smaller += f" Or leave name out to take {takeable[0].dev} as it is."
    raise Refused(
        f"{region.dev} has no room for the namespace {meant}.",
        cause=f"{contents(region)} {explained}".strip(),
        cure=f"Name one that may be lost in destroy_data, with its data: it is made anew.{smaller}",
    )


def _unseen_region(wish: Wish, foreseen: Foreseen) -> Region:
    """What is to be said of a region that nothing can tell of: the namespaces that tasks before would have made."""
    known = [item for item in foreseen.regions or () if item.dev == wish.region]
    return known[0] if known else Region(wish.region, 0, 1, 0, 0, None, None, "unknown", True, (), True, 1, True)


def plan_absent(wish: Wish, foreseen: Foreseen = NOTHING) -> Plan:
    """What it takes that there is no such namespace.

    :raises HostmemError: it is in use, or holds data nobody gave up; nothing was changed.
    """
    found = regions_seen(foreseen)
    target = find(wish, found)
    return Plan("none", wish, None, None) if target is None else _destruction(wish, found, target, foreseen)


def _destruction(wish: Wish, found: Sequence[Region], target: Namespace, foreseen: Foreseen) -> Plan:
    check_free_to_destroy(target, wish.destroy, "It would be destroyed.", foreseen.unmounted)
    return Plan("destroy", wish, _region_of(target, found), target)


def plan_absent_without_data(wish: Wish, foreseen: Foreseen = NOTHING, config: str = DEFAULT_PATH) -> Plan:
    """What it takes that there is no such namespace, unless that would cost something nobody gave up: then it stays.

    It goes when it is named in ``wish.destroy``, or when it is clear which one is meant, no guest counts on it, and all of it was read as zeros.

    :param config: path of the runtime's configuration, which says where the guests' definitions are.
    :raises HostmemError: the one that was given up by its name is in use; nothing was changed.
    """
    if foreseen.regions is None and find_program("ndctl") is None:
        return Plan("none", wish, None, None, kept="ndctl is not installed: namespaces are not looked at.")
    found = regions_seen(foreseen)
    chosen = _candidates(wish, found)
    if not chosen:
        return Plan("none", wish, None, None)
    unclear = _why_unclear(wish, chosen)
    if unclear:
        return Plan("none", wish, None, None, kept=unclear)
    if is_named(chosen[0], wish.destroy):
        return _destruction(wish, found, chosen[0], foreseen)
    guests = why_counted_on(chosen[0], config)
    forgotten = tuple(sorted(set(guests) & set(foreseen.undefined)))
    lasting = [reason for guest, reason in guests.items() if guest not in forgotten]
    kept = f"{chosen[0].dev} stays: {'; '.join(lasting)}." if lasting else why_kept(chosen[0], foreseen.unmounted)
    region = _region_of(chosen[0], found)
    return Plan("none" if kept else "destroy", wish, region, chosen[0], kept=kept, forgotten=forgotten)


def _why_unclear(wish: Wish, chosen: Sequence[Namespace]) -> str:
    """Why it is not known which of these is meant to go, as sentences; empty when it is."""
    if len(chosen) > 1:
        return f"{_several(wish, chosen)} They stay: set name, and region where names are not unique."
    if wish.name or wish.region or is_named(chosen[0], wish.destroy):
        return ""
    return f"{chosen[0].dev} stays: neither name nor region says that it is the one that is meant."


def _region_of(namespace: Namespace, found: Sequence[Region]) -> Region:
    return next(item for item in found if item.dev == namespace.region)


def regions_after(plan: Plan, found: Sequence[Region]) -> tuple[Region, ...]:
    """The regions once the plan is carried out. Where the new namespace lies is a guess: in the first stretch that has room for it."""
    if plan.region is None or not plan.changed:
        return tuple(found)
    old, made = plan.region, plan.predicted()
    region = replace(
        old,
        labels=old.labels or plan.label,
        namespaces=tuple(item for item in old.namespaces if item != plan.target),
    )
    if made is not None:
        starts = [start for start, size in gaps(region) if size >= made.raw_size]
        made = replace(made, start=starts[0] if starts else None)
        region = replace(region, namespaces=(*region.namespaces, made))
    taken = sum(item.raw_size for item in region.namespaces) - sum(item.raw_size for item in old.namespaces)
    free = max(0, old.available - taken)
    largest = max((size for _start, size in gaps(region)), default=max(0, old.largest_available - taken))
    region = replace(region, available=free, largest_available=largest)
    return (*(item for item in found if item.dev != region.dev), region)


def presumptions(plan: Plan, foreseen: Foreseen) -> list[str]:
    """What was presumed for a plan, in sentences."""
    meant = plan.wish.name or f"of mode {plan.wish.mode}"
    if foreseen.brings("ndctl"):
        return [f"Presuming that there is no namespace {meant} yet: only ndctl can tell, which is installed by then."]
    found = []
    if plan.changed and plan.region is not None and foreseen.regions is not None:
        made = [item for item in plan.region.namespaces if not item.device and item.enabled]
        found += [f"Presuming that by then {contents(replace(plan.region, namespaces=tuple(made)))}"] if made else []
    if plan.action == "destroy" and plan.target is not None:
        found += [
            f"Presuming that nothing is mounted at {point} by then."
            for point in ending(plan.target, foreseen.unmounted)
        ]
        found += [f"Presuming that guest {guest} is not defined by then." for guest in plan.forgotten]
    return found


def apply(plan: Plan) -> Namespace | None:
    """Carry a plan out; the namespace as it is then, None when there is none.

    :raises HostmemError: ndctl failed, or something else came of it than was asked for.
    """
    wish, region, target = plan.wish, plan.region, plan.target
    if plan.action == "none" or region is None:
        return target
    if plan.action == "destroy":
        if target is not None:
            destroy_namespace(target.dev)
        return None
    if plan.action == "rebuild" and target is not None:
        name = wish.name or target.name
        rebuild_namespace(target.dev, wish.mode, wish.align, wish.map, wish.size, name)
        wish = replace(wish, name=name)
    else:
        if plan.label:
            if target is not None and target.mode != "raw":
                destroy_namespace(target.dev)
            initialise_labels(region.dev, region.dimms)
        create_namespace(region.dev, wish.mode, wish.align, wish.map, wish.size, wish.name)
    return _made(replace(wish, region=region.dev), [item.dev for item in region.namespaces if item != target])


def _made(wish: Wish, others: Sequence[str]) -> Namespace:
    """The namespace that has just been made, once udev has made its device node."""
    deadline = time.monotonic() + 20
    while True:
        new = [
            item
            for region in regions()
            if region.dev == wish.region
            for item in region.namespaces
            if item.dev not in others and item.name == wish.name and item.mode == wish.mode
        ]
        if new and new[0].device and os.path.exists(f"/dev/{new[0].device}"):
            break
        if time.monotonic() > deadline:
            raise HostmemError(
                f"The namespace that ndctl made in {wish.region} has no device after 20 s.",
                cause=str(new[0]) if new else "It is not to be seen.",
                cure="See whether udev runs and what the kernel logged (ndctl list -RNi, dmesg), then run this again.",
            )
        time.sleep(0.1)
    made = new[0]
    got = {"mode": made.mode, "align": made.align, "map": made.map}
    wanted = {"mode": wish.mode, "align": wish.align, "map": wish.map}
    if got != wanted or wish.size not in (None, made.raw_size):
        raise HostmemError(
            f"{made.dev} is not what was asked for.",
            cause=f"It has {got}, {made.raw_size} bytes; wanted are {wanted}, {wish.size or 'any number of'} bytes.",
            cure="Ask for what it has, or give it up (destroy_data) and see what the kernel logs meanwhile (dmesg).",
        )
    return made


def described(namespace: Namespace, found: Sequence[Region]) -> dict[str, Any]:
    """A namespace for a result."""
    region = next((item for item in found if item.dev == namespace.region), None)
    path = f"/dev/{namespace.device}" if namespace.device else None
    return {
        "dev": namespace.dev or None,
        "region": namespace.region,
        "name": namespace.name or None,
        "mode": namespace.mode,
        "map": namespace.map,
        "align": namespace.align,
        "size": namespace.size or None,
        "raw_size": namespace.raw_size,
        "blockdev": path if namespace.mode != "devdax" else None,
        "chardev": path if namespace.mode == "devdax" else None,
        "numa_node": namespace.numa_node,
        "persistence_domain": region.persistence_domain if region else None,
        "uuid": namespace.uuid or None,
    }


def content(namespace: Namespace) -> str:
    """What it holds, in words, as far as it can be seen; empty for nothing."""
    return data_of(namespace) if namespace.device else ""
