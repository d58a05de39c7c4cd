# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The methods of a live update beside each other: for each, the bare script and the runtime in turns, in pairs whose order is random."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TypedDict

from support.host import Host

from .contenders import Bare, Contender, Runtime
from .fleet import Fleet
from .one_guest import NAMES, NEW, Pair, kind, measured_pair

METHODS = ("transfer", "checkpoint", "exec")
SIZE = 256


class Method(TypedDict):
    """Pairs of one method; all updates are from the newer QEMU to the same, which alone knows cpr-exec."""

    method: str
    pairs: list[Pair]


def methods(host: Host, size: int, count: int, chance: random.Random) -> list[Method]:
    """``count`` pairs of each method, in rounds: one pair of each method in random order, so that all see the same machine.

    The guests of each method are its own; those that are not measured are frozen. In half of the rounds roles are exchanged.
    """
    found = {method: Method(method=method, pairs=[]) for method in METHODS}
    for exchanged, wanted in ((False, (count + 1) // 2), (True, count // 2)):
        if wanted == 0:
            continue
        host.install(NEW)
        contenders = {method: _start(host, method, exchanged, size) for method in METHODS}
        try:
            for _number in range(wanted):
                for method in chance.sample(METHODS, len(METHODS)):
                    found[method]["pairs"].append(measured_pair(contenders[method], chance))
        finally:
            for pair in contenders.values():
                for contender in pair.values():
                    contender.fleet.kill()
    return list(found.values())


def _start(host: Host, method: str, exchanged: bool, size: int) -> dict[str, Contender]:
    wanted = replace(kind(size), spawn=True)
    first, second = (f"{method}-{name}" for name in (NAMES[::-1] if exchanged else NAMES))
    fleets = []
    for name in (first, second):
        fleet = Fleet(host, [name], wanted)
        fleet.wait_ready()
        fleet.freeze()
        fleets.append(fleet)
    return {"bare": Bare(fleets[0], 1, method), "ours": Runtime(fleets[1], method)}
