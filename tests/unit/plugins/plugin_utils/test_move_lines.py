# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a move is, in one line."""

from __future__ import annotations

from ansible_collections.hostmem.qemu.plugins.plugin_utils._move_lines import end_line, progress_line

SEEN = {
    "total": 4 << 30,
    "remaining": 1 << 30,
    "mbps": 940.2,
    "dirty-pages-rate": 1200,
    "page-size": 4096,
    "dirty-sync-count": 2,
    "postcopy-requests": 0,
}


def test_nothing_is_known_yet() -> None:
    assert progress_line("web1", {}) == "web1: begins"


def test_precopy() -> None:
    line = progress_line("web1", {"step": "sending", "method": "precopy", "to": "10.0.0.2", "seen": SEEN})
    assert line == (
        "web1: precopy to 10.0.0.2: sending, the guest runs here, 75 %, 1024 MiB left, 112 MiB/s, dirties 4.7 MiB/s, pass 2"
    )


def test_postcopy() -> None:
    seen = {**SEEN, "remaining": 0, "mbps": 0, "dirty-pages-rate": 0, "postcopy-requests": 34}
    line = progress_line("web1", {"step": "ordered", "method": "postcopy", "to": "10.0.0.2", "seen": seen})
    assert line == "web1: postcopy to 10.0.0.2: told to run there, 100 %, 0 MiB left, 34 page requests"


def test_more_is_left_than_there_is() -> None:
    """What is dirtied again counts again."""
    assert ", 0 %, " in progress_line("web1", {"step": "sending", "seen": {**SEEN, "remaining": 5 << 30}})


def test_ends() -> None:
    moved = {"ok": True, "to": "10.0.0.2", "pause_ms": 35.2, "seconds": 41.3}
    assert end_line("web1", moved) == "web1: runs at 10.0.0.2, paused 35.2 ms, 41.3 s in all"
    # A guest that was paused before has no pause of the move's.
    assert end_line("web1", {**moved, "pause_ms": None}) == "web1: runs at 10.0.0.2, 41.3 s in all"
    failed = {"ok": False, "error": {"message": "It is gone."}}
    assert end_line("web1", failed) == "web1: not moved: It is gone."
    assert end_line("web1", {}) == "web1: not moved: its program left no result"
