# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One guest: the bare script and the runtime in turns, in pairs whose order is random."""

from __future__ import annotations

import random
from typing import TypedDict

from support.host import Host

from .contenders import Bare, Contender, Runtime
from .fleet import Fleet, Kind
from .measure import Sample, measure_alone

NEW = "11.1"
OLD = "10.0"
NAMES = ("one", "two")


class Pair(TypedDict):
    """Two updates, one right after the other."""

    first: str
    bare: Sample
    ours: Sample


class OneGuest(TypedDict):
    """``upgrades``: the first update of each guest, from the old QEMU to the new one; the pairs stay in the new one."""

    size: int
    upgrades: list[Pair]
    pairs: list[Pair]


def kind(size: int) -> Kind:
    """A guest with all its memory in use and ticks of 0.2 ms; it checks what the firmware's map gives it, in half a minute or less."""
    region = min(size - 56, 2031)
    return Kind(size=size, region=region, pages=max(20, region // 10), hertz=5000, prealloc=True)


def one_guest(host: Host, size: int, count: int, chance: random.Random) -> OneGuest:
    """``count`` pairs with guests of ``size`` MiB.

    Each contender has a guest of its own, since the next update begins where the last one ended. The one that is not measured is
    frozen. After half of the pairs both are started anew in exchanged roles.
    """
    result = OneGuest(size=size, upgrades=[], pairs=[])
    for names, wanted in ((NAMES, (count + 1) // 2), (NAMES[::-1], count // 2)):
        if wanted == 0:
            continue
        contenders = _start(host, dict(zip(("bare", "ours"), names, strict=True)), kind(size))
        try:
            host.install(NEW)
            result["upgrades"].append(measured_pair(contenders, chance))
            result["pairs"] += [measured_pair(contenders, chance) for _number in range(wanted)]
        finally:
            for contender in contenders.values():
                contender.fleet.kill()
    return result


def _start(host: Host, names: dict[str, str], wanted: Kind) -> dict[str, Contender]:
    host.install(OLD)
    fleets = {}
    for role, name in sorted(names.items(), key=lambda item: item[1]):
        fleets[role] = Fleet(host, [name], wanted)
        fleets[role].wait_ready()
        fleets[role].freeze()
    return {"bare": Bare(fleets["bare"], 1), "ours": Runtime(fleets["ours"])}


def measured_pair(contenders: dict[str, Contender], chance: random.Random) -> Pair:
    """One update by each, in random order."""
    order = ["bare", "ours"]
    chance.shuffle(order)
    samples = {role: measure_alone(contenders[role]) for role in order}
    return Pair(first=order[0], bare=samples["bare"], ours=samples["ours"])
