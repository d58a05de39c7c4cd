# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Properties of units as systemd has them, or would have them for a unit that does not run (systemctl(1), show)."""

from __future__ import annotations

from collections.abc import Sequence

from .errors import HostmemError
from .program_failures import program_failed
from .programs import TimeoutExpired, run

_TIMEOUT = 20  # seconds

# Of one unit: what there are several of (DeviceAllow=) has a line for each.
Properties = dict[str, list[str]]


def unit_properties(units: Sequence[str], names: Sequence[str]) -> list[Properties]:
    """Those of each unit, in order.

    :raises HostmemError: systemd does not tell; or there is no systemctl, with the package that has it.
    """
    what = f"systemctl show {' '.join(units)}"
    try:
        done = run(
            ["systemctl", "show", f"--property={','.join(names)}", "--", *units], timeout=_TIMEOUT
        )  # -.slice is no option
    except TimeoutExpired as error:
        raise HostmemError(
            f"{what} does not end.",
            cause=f"systemd did not answer within {_TIMEOUT} s.",
            cure="See whether process 1 is well: systemctl is-system-running, journalctl -b _PID=1.",
        ) from error
    if done.returncode:
        raise program_failed(f"{what} failed.", "systemctl", done.stderr)
    return [parse_properties(text) for text in done.stdout.strip("\n").split("\n\n")]


def parse_properties(text: str) -> Properties:
    """One unit's lines."""
    found: Properties = {}
    for line in text.splitlines():
        name, _equals, value = line.partition("=")
        found.setdefault(name, []).append(value)
    return found


def first(properties: Properties, name: str) -> str:
    """The value of a property that there is one of; empty without."""
    return properties.get(name, [""])[0]
