# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far a move is, in one line for people. Pure: no I/O."""

from __future__ import annotations

from typing import Any

_PHASES = {
    "sending": "sending, the guest runs here",
    "ordered": "told to run there",
    "arriving": "waits for the guest",
    "arrived": "told to run here",
}
_MIB = 1 << 20


def progress_line(name: str, move: dict[str, Any]) -> str:
    """Phase, percent, rate, what remains, dirty rate and page requests, as far as they are known.

    :param move: ``move`` of hostmem outcome; ``seen`` in it is query-migrate's ``ram`` (qapi/migration.json, MigrationRAMStats): sizes in
        bytes, ``mbps`` in Mbit/s, ``dirty-pages-rate`` in pages per second.

    >>> progress_line("web1", {"step": "sending", "method": "precopy", "to": "10.0.0.2", "seen": {
    ...     "total": 4 << 30, "remaining": 1 << 30, "mbps": 940.2, "dirty-pages-rate": 1200, "page-size": 4096, "dirty-sync-count": 2}})
    'web1: precopy to 10.0.0.2: sending, the guest runs here, 75 %, 1024 MiB left, 112 MiB/s, dirties 4.7 MiB/s, pass 2'
    >>> progress_line("web1", {"step": "ordered", "method": "postcopy", "to": "10.0.0.2", "seen": {
    ...     "total": 4 << 30, "remaining": 0, "mbps": 0, "postcopy-requests": 34}})
    'web1: postcopy to 10.0.0.2: told to run there, 100 %, 0 MiB left, 34 page requests'
    """
    step = str(move.get("step", ""))
    parts = [_PHASES.get(step, step or "begins")]
    seen = move.get("seen") or {}
    if seen.get("total"):
        parts += _memory(seen)
    way = f"{move['method']} to {move['to']}: " if "method" in move else ""
    return f"{name}: {way}{', '.join(parts)}"


def _memory(seen: dict[str, Any]) -> list[str]:
    total, remaining = int(seen["total"]), int(seen.get("remaining", 0))
    # What the guest dirties again is sent again: the remainder can be no measure of what was sent, but of what is left it is.
    parts = [f"{max(0, total - remaining) * 100 // total} %", f"{remaining // _MIB} MiB left"]
    rate = float(seen.get("mbps", 0)) * 1e6 / 8 / _MIB
    if rate >= 1:
        parts.append(f"{rate:.0f} MiB/s")
    dirty = int(seen.get("dirty-pages-rate", 0)) * int(seen.get("page-size", 0)) / _MIB
    if dirty:
        parts.append(f"dirties {dirty:.1f} MiB/s")
    requests = int(seen.get("postcopy-requests", 0))
    if requests:
        parts.append(f"{requests} page requests")
    elif int(seen.get("dirty-sync-count", 0)) > 1:
        parts.append(f"pass {seen['dirty-sync-count']}")
    return parts


def end_line(name: str, result: dict[str, Any]) -> str:
    """What became of it.

    >>> end_line("web1", {"ok": True, "to": "10.0.0.2", "pause_ms": 35.2, "seconds": 41.3})
    'web1: runs at 10.0.0.2, paused 35.2 ms, 41.3 s in all'
    """
    if not result.get("ok"):
        return f"{name}: not moved: {result.get('error', {}).get('message', 'its program left no result')}"
    parts = [f"{name}: runs at {result.get('to', 'the destination')}"]
    if result.get("pause_ms") is not None:
        parts.append(f"paused {result['pause_ms']} ms")
    if "seconds" in result:
        parts.append(f"{result['seconds']} s in all")
    return ", ".join(parts)
