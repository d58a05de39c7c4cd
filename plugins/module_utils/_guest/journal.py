# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a verb is about to do to which generation; read by ``recover`` after a crash. In /run, never fsynced: it need not survive a reboot."""

from __future__ import annotations

import os
import time
from typing import Any

from .._host.files import read_json, remove_file, write_json
from .._host.processes import process
from .._host.service_manager import EXTENSION, still_at_work
from .paths import GuestPaths

SCHEMA = 1

# The steps of a live update, in their order. From HANDOVER on the new QEMU is the guest's; before it, the old one.
STARTING = "starting"
STARTED = "started"
MIGRATING = "migrating"
INCOMING = "incoming"
HANDOVER = "handover"
CONTINUED = "continued"
UPDATE_STEPS = (STARTING, STARTED, MIGRATING, INCOMING, HANDOVER, CONTINUED)

# The steps of a cold start.
COLD_STARTING = "cold-starting"
COLD_VERIFIED = "cold-verified"

# The steps of a save, and of a restore. From RESTORED on the guest may have run.
SAVING = "saving"
RESTORING = "restoring"
RESTORED = "restored"

# A move to another host, here and there. From ORDERED on the guest may run there; from ARRIVED on it may have run here.
SENDING = "sending"
ORDERED = "ordered"
ARRIVING = "arriving"
ARRIVED = "arrived"
MOVE_STEPS = (SENDING, ORDERED, ARRIVING, ARRIVED)

# Seconds in which the program that wrote a step comes to the next one or takes the step back: its own time limits together.
# What takes longer hangs. The longest pause allowed is added, since the guest is paused from INCOMING on.
_WITHIN = {
    STARTING: 60.0,
    STARTED: 60.0,
    MIGRATING: 120.0,
    INCOMING: 25.0,
    HANDOVER: 30.0,
    CONTINUED: 60.0,
    COLD_STARTING: 200.0,
    COLD_VERIFIED: 30.0,
    SAVING: 60.0,
    RESTORING: 60.0,
    RESTORED: 30.0,
    # A move that gets on writes them anew each second.
    SENDING: 60.0,
    ORDERED: 150.0,
    ARRIVING: 60.0,
    ARRIVED: 120.0,
}


class Journal:
    """The journal of one guest; ``write`` replaces the last entry."""

    def __init__(self, paths: GuestPaths) -> None:
        self._path = paths.journal

    def write(self, step: str, **facts: Any) -> None:
        """Facts are kept with the step; ``max_pause`` in seconds."""
        within = _WITHIN[step] + facts.get("max_pause", 0.0)
        deadline = time.monotonic() + within
        still_at_work(within + EXTENSION)  # in a unit; time to take the step back included
        write_json(self._path, {"schema": SCHEMA, "step": step, "pid": os.getpid(), "deadline": deadline, **facts})

    def read(self) -> dict[str, Any] | None:
        """The last entry; None when no verb was interrupted."""
        try:
            entry = read_json(self._path)
        except ValueError:
            return None
        return entry if isinstance(entry, dict) else None

    def has_time(self) -> bool:
        """Whether there is an entry, and time left for its step."""
        return time.monotonic() <= float((self.read() or {}).get("deadline", 0.0))

    def moves(self) -> bool:
        """Whether a program sends the guest to another host, or waits for it, and gets on: that can take hours."""
        entry = self.read() or {}
        return self.has_time() and entry.get("step") in MOVE_STEPS and process(int(entry["pid"])) is not None

    def overdue(self, pid: int) -> bool:
        """Whether the process wrote the last entry and has made nothing of it since, for too long."""
        entry = self.read() or {}
        return entry.get("pid") == pid and time.monotonic() > entry.get("deadline", float("inf"))

    def clear(self) -> None:
        remove_file(self._path)
