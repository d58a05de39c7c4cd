# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The same verbs by way of systemd: the unit's own lines do the work, in its cgroup and namespaces."""

from __future__ import annotations

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


def active_state(guest: str) -> str:
    """systemd's ActiveState of the guest's unit, ``reloading`` also when it is to be stopped afterwards; empty without an answer."""
    return run(["systemctl", "show", "--property=ActiveState", "--value", unit_name(guest)]).stdout.strip()


def is_active(guest: str) -> bool:
    """True while systemd holds the guest's unit for active (or reloading)."""
    return active_state(guest) in ("active", "reloading", "activating")


def end_reload_program(guest: str) -> None:
    """SIGTERM to the program of the reload that runs now, if one does."""
    run(["systemctl", "kill", "--kill-whom=control", unit_name(guest)])
