# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a verb is about to do to which generation; read by ``recover`` after a crash. In /run, never fsynced: it need not survive a reboot."""

from __future__ import annotations

from typing import Any

from .._host.files import read_json, remove_file, write_json
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


class Journal:
    """The journal of one guest; ``write`` replaces the last entry."""

    def __init__(self, paths: GuestPaths) -> None:
        self._path = paths.journal

    def write(self, step: str, **facts: Any) -> None:
        write_json(self._path, {"schema": SCHEMA, "step": step, **facts})

    def read(self) -> dict[str, Any] | None:
        """The last entry; None when no verb was interrupted."""
        try:
            entry = read_json(self._path)
        except ValueError:
            return None
        return entry if isinstance(entry, dict) else None

    def clear(self) -> None:
        remove_file(self._path)
