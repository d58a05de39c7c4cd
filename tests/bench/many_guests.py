# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many guests on one host: the bare script, the runtime's batch verb and the playbook in turns."""

from __future__ import annotations

import random
from typing import TypedDict

from support.host import Host

from .contenders import Bare, Contender, Runtime
from .fleet import Fleet, Kind
from .measure import Sample, measure_alone
from .one_guest import NEW, OLD
from .playbook import Playbook

SIZE = 64


class Round(TypedDict):
    """Each contender once."""

    order: list[str]
    bare: Sample
    runtime: Sample
    playbook: Sample


class ManyGuests(TypedDict):
    """``upgrade``: the first update of both fleets, from the old QEMU to the new one; the rounds stay in the new one."""

    guests: int
    parallel: int
    upgrade: dict[str, Sample]
    rounds: list[Round]


def kind(guests: int) -> Kind:
    """Ticks as dense as all guests together can have without keeping the machine busy; a pass over the region takes 8 s."""
    return Kind(size=SIZE, region=16, pages=5, hertz=max(200, min(1000, 10000 // guests)), prealloc=False)


def many_guests(host: Host, guests: int, rounds: int, parallel: int, chance: random.Random) -> ManyGuests:
    """``rounds`` of all contenders with so many guests each; ``parallel`` updates at once.

    Runtime and playbook share their guests. Those of the contender that is not measured are frozen.
    """
    host.install(OLD)
    host.configure(parallel=parallel)
    fleets: dict[str, Fleet] = {}
    try:
        for letter in ("a", "b"):
            fleets[letter] = Fleet(host, _names(letter, guests), kind(guests))
            fleets[letter].wait_ready()
            fleets[letter].freeze()
        contenders: dict[str, Contender] = {
            "bare": Bare(fleets["a"], parallel),
            "runtime": Runtime(fleets["b"]),
            "playbook": Playbook(fleets["b"]),
        }
        host.install(NEW)
        upgrade = {role: measure_alone(contenders[role]) for role in ("bare", "runtime")}
        done = [_round(contenders, chance) for _number in range(rounds)]
    finally:
        for fleet in fleets.values():
            fleet.kill()
    return ManyGuests(guests=guests, parallel=parallel, upgrade=upgrade, rounds=done)


def _round(contenders: dict[str, Contender], chance: random.Random) -> Round:
    order = sorted(contenders)
    chance.shuffle(order)
    samples = {role: measure_alone(contenders[role]) for role in order}
    return Round(order=order, bare=samples["bare"], runtime=samples["runtime"], playbook=samples["playbook"])


def _names(letter: str, guests: int) -> list[str]:
    return [f"{letter}{number:03}" for number in range(guests)]
