# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The same verbs by way of systemd: the unit's own lines do the work, in its cgroup and namespaces."""

from __future__ import annotations

import time
from collections.abc import Sequence

from .._host.programs import run
from .errors import HostmemError


def unit_name(guest: str) -> str:
    """The guest's unit."""
    return f"hostmem-guest@{guest}.service"


def systemctl(verb: str, guests: Sequence[str]) -> None:
    """Run one systemctl verb on the guests' units and wait for the jobs.

    :raises HostmemError: with systemctl's message; which guests failed, their results tell.
    """
    done = run(["systemctl", verb, *(unit_name(guest) for guest in guests)])
    if done.returncode:
        raise HostmemError(
            f"systemctl {verb} failed.", cause=done.stderr.strip(), cure=f"See: journalctl -u '{unit_name(guests[0])}'"
        )


def is_active(guest: str) -> bool:
    """True while systemd holds the guest's unit for active (or reloading)."""
    done = run(["systemctl", "show", "--property=ActiveState", "--value", unit_name(guest)])
    return done.stdout.strip() in ("active", "reloading", "activating")


def wait_for_reloads(guests: Sequence[str], wait: float) -> None:
    """Wait until none of the guests' units reloads, at most ``wait`` seconds.

    systemd would cut a reload off for a stop: it kills QEMU then instead of running ExecStop, which powers the guest down.
    """
    deadline = time.monotonic() + wait
    words = ["systemctl", "show", "--property=ActiveState", "--value", *(unit_name(guest) for guest in guests)]
    while "reloading" in run(words).stdout.split() and time.monotonic() < deadline:
        time.sleep(0.1)
