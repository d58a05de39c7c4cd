# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest saved, its QEMU ended, and restored in another: the bare script and the runtime in turns, in pairs whose order is random.

Each is two commands, one that saves and one that restores, since in use a reboot lies between them. Both are in the clock, starts of
Python and the end of the old QEMU included. The guest stands still from somewhere in the first to somewhere in the second.
"""

from __future__ import annotations

import random

from support.host import Host

from .contenders import Bare, Contender, Runtime
from .fleet import Fleet
from .one_guest import NAMES, NEW, OneGuest, kind, measured_pair
from .timed import Timed

SIZES = (256, 8192)


class BareSaver(Bare):
    """bare.py, once to save and once to restore."""

    def update(self) -> Timed:
        return _both(self.run("save"), self.run("restore"))


class RuntimeSaver(Runtime):
    """``hostmem save NAME`` and ``hostmem restore NAME``, started by root."""

    def update(self) -> Timed:
        return _both(self.run("save"), self.run("restore"))


def _both(one: Timed, other: Timed) -> Timed:
    return Timed(one.wall_ms + other.wall_ms, one.cpu_ms + other.cpu_ms, other.output)


def save_restore(host: Host, size: int, count: int, chance: random.Random) -> OneGuest:
    """``count`` pairs with guests of ``size`` MiB on tmpfs, all in the newer QEMU."""
    host.install(NEW)
    result = OneGuest(size=size, upgrades=[], pairs=[])
    fleets = [Fleet(host, [name], kind(size)) for name in NAMES]
    contenders: dict[str, Contender] = {}
    try:
        for fleet in fleets:
            fleet.wait_ready()
            fleet.freeze()
        contenders = {"bare": BareSaver(fleets[0], 1), "ours": RuntimeSaver(fleets[1])}
        result["pairs"] += [measured_pair(contenders, chance) for _number in range(count)]
    finally:
        for fleet in fleets:
            fleet.kill()
    return result
