# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far a move between hosts has come, for whoever looks on; from the journal, so that nobody is disturbed."""

from __future__ import annotations

from typing import Any

from .journal import MOVE_STEPS, Journal
from .paths import GuestPaths

_SHOWN = ("step", "to", "address", "port", "method", "seen")


def move_under_way(paths: GuestPaths) -> dict[str, Any]:
    """``move`` with the step, the addresses and what QEMU tells of the memory (``seen``, query-migrate's ``ram``); empty without a move."""
    entry = Journal(paths).read() or {}
    if entry.get("step") not in MOVE_STEPS:
        return {}
    return {"move": {key: entry[key] for key in _SHOWN if key in entry}}
