# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the host goes down, asked in a unit's ExecStop=, whose environment says nothing of it (systemd.exec(5))."""

from __future__ import annotations

import os

from .errors import HostmemError
from .programs import TimeoutExpired, run

# systemctl(1) and systemd.special(7): what systemctl reboot, poweroff, halt, kexec, soft-reboot and exit start. All of them pull in
# shutdown.target, which stops everything else.
KINDS = ("reboot", "poweroff", "halt", "kexec", "soft-reboot", "exit")
_SHUTDOWN = "shutdown.target"
_TIMEOUT = 30.0


def going_down() -> str:
    """One of KINDS while the host goes down, ``shutdown`` when it goes down in another way, empty while it stays up.

    The target's job waits for all units that are to be stopped before it, so that it is there as long as any of them asks. Root asks
    systemd itself, others by way of the system bus: their unit has to be ordered after dbus.service, which is stopped as they are.

    :raises HostmemError: systemd does not answer.
    """
    try:
        done = run(["systemctl", "list-jobs", "--no-legend", "--no-pager", "--plain"], _TIMEOUT)
    except (OSError, TimeoutExpired) as error:
        raise _silent(str(error)) from error
    if done.returncode:
        raise _silent(done.stderr.strip())
    return kind_of(done.stdout)


def kind_of(jobs: str) -> str:
    """The kind of shutdown in what systemctl list-jobs says: number, unit, type of job, state."""
    starting = {words[1] for words in map(str.split, jobs.splitlines()) if len(words) == 4 and words[2] == "start"}
    for kind in KINDS:
        if f"{kind}.target" in starting:
            return kind
    return "shutdown" if _SHUTDOWN in starting else ""


def _silent(cause: str) -> HostmemError:
    return HostmemError(
        "systemd does not say whether the host goes down.",
        cause=cause or "systemctl said nothing.",
        cure="See that dbus.service runs." if os.geteuid() else "",
    )
