# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One measurement: an update of a fleet, watched from outside."""

from __future__ import annotations

import time
from typing import TypedDict

from .contenders import Contender
from .fleet import MARGIN_SECONDS


class Sample(TypedDict):
    """Times in ms. ``pauses`` and ``proven``: for each guest the longest stretch without a tick, as estimated and at least."""

    wall: float
    cpu: float
    pauses: list[float]
    proven: list[float]
    resolution: float


def measure(contender: Contender) -> Sample:
    """One update by a contender whose guests run.

    :raises AssertionError: a guest did not survive it.
    """
    with contender.fleet.watcher() as watcher:
        time.sleep(MARGIN_SECONDS)
        spent = contender.update()
        time.sleep(MARGIN_SECONDS)
        results = watcher.stop()
    contender.fleet.check()
    return Sample(
        wall=spent.wall_ms,
        cpu=spent.cpu_ms,
        pauses=[result["longest_ms"] for result in results],
        proven=[max((gap["proven_ms"] for gap in result["gaps"]), default=0.0) for result in results],
        resolution=results[0]["resolution_ms"],
    )


def measure_alone(contender: Contender) -> Sample:
    """The same for guests that are frozen in between, while the other contenders have their turn."""
    contender.fleet.thaw()
    try:
        return measure(contender)
    finally:
        contender.fleet.freeze()
