# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``python -m bench``: runs the benchmark and prints the report; see script/bench --help."""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from support.host import Host

from . import many_guests, methods, one_guest, prealloc, save_restore
from .machine import available_mib, describe, load
from .report import markdown, write_docs
from .tables import methods_table, save_restore_tables, save_restore_verdicts

SIZES = (256, 4096)
# Pairs with one guest; rounds by number of guests.
FULL = (40, {10: 12, 50: 8})
QUICK = (3, {10: 1})
# Pairs that fill a RAM file with small pages; those with huge pages are more.
FILLS = {False: 6, True: 1}
RESERVE_MIB = 1024


def main() -> int:
    """0 when every guest survived, whatever the times are."""
    options = _options()
    pairs, rounds = QUICK if options.quick else FULL
    if options.pairs:
        pairs = options.pairs
    if options.methods:
        return _methods_only(pairs, options.seed)
    if options.save_restore:
        return _save_restore_only(options.save_restore, pairs, options.seed)
    _demand_memory(max(rounds))
    raw: dict[str, Any] = {"schema": 1, "machine": describe([one_guest.OLD, one_guest.NEW]), "load": load()}
    raw.update(
        seed=options.seed,
        started=time.strftime("%Y-%m-%d %H:%M"),
        one_guest=[],
        many_guests=[],
        methods=[],
        save_restore=[],
        prealloc=[],
    )
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hostmem-bench.") as directory:
        host = Host(Path(directory))
        try:
            _run(host, raw, pairs, rounds, random.Random(options.seed))
            _say(f"prealloc: {FILLS[options.quick]} pairs and more")
            raw["prealloc"] = prealloc.prealloc(FILLS[options.quick], random.Random(options.seed))
        finally:
            host.clean()
    raw["minutes"] = (time.monotonic() - began) / 60
    if options.json:
        options.json.write_text(json.dumps(raw, indent=1) + "\n")
    text = markdown(raw)
    print(text)
    if options.write_docs:
        write_docs(options.write_docs, text)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="script/bench", description="Hold live updates against a bare QMP script.")
    parser.add_argument("--quick", action="store_true", help="a few pairs, no 50 guests: shows that it works, not more")
    parser.add_argument(
        "--pairs", type=int, default=0, help=f"pairs with one guest (default: {FULL[0]}, quick: {QUICK[0]})"
    )
    parser.add_argument("--methods", action="store_true", help="only the methods beside each other, printed")
    parser.add_argument(
        "--save-restore", type=int, metavar="MIB", help="only save and restore of a guest of this size, printed"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all raw figures")
    parser.add_argument("--write-docs", type=Path, metavar="FILE", help="put the report into this document")
    parser.add_argument("--seed", type=int, default=1, help="for the order in pairs (default: %(default)s)")
    return parser.parse_args()


def _methods_only(pairs: int, seed: int) -> int:
    with tempfile.TemporaryDirectory(prefix="hostmem-bench.") as directory:
        host = Host(Path(directory))
        try:
            print(methods_table(methods.methods(host, methods.SIZE, pairs, random.Random(seed))))
        finally:
            host.clean()
    return 0


def _save_restore_only(size: int, pairs: int, seed: int) -> int:
    with tempfile.TemporaryDirectory(prefix="hostmem-bench.") as directory:
        host = Host(Path(directory))
        try:
            results = [save_restore.save_restore(host, size, pairs, random.Random(seed))]
            print(save_restore_tables(results), *save_restore_verdicts(results), sep="\n\n")
        finally:
            host.clean()
    return 0


def _run(host: Host, raw: dict[str, Any], pairs: int, rounds: dict[int, int], chance: random.Random) -> None:
    for size in SIZES:
        _say(f"one guest of {size} MiB: {pairs} pairs")
        raw["one_guest"].append(one_guest.one_guest(host, size, pairs, chance))
    _say(f"methods: {pairs} pairs each")
    raw["methods"] = methods.methods(host, methods.SIZE, pairs, chance)
    for size in save_restore.SIZES[: 1 if len(rounds) == 1 else None]:
        _say(f"save and restore, {size} MiB: {pairs} pairs")
        raw["save_restore"].append(save_restore.save_restore(host, size, pairs, chance))
    parallel = os.cpu_count() or 1
    for number, count in rounds.items():
        _say(f"{number} guests: {count} rounds")
        raw["many_guests"].append(many_guests.many_guests(host, number, count, parallel, chance))


def _demand_memory(guests: int) -> None:
    """Two fleets stand side by side; a short tmpfs or a full memory would kill guests in mid-run."""
    kinds = [(one_guest.kind(size), 1) for size in SIZES] + [(many_guests.kind(guests), guests)]
    if guests > 10:
        kinds.append((one_guest.kind(save_restore.SIZES[-1]), 1))
    needed = max(2 * kind.resident * number for kind, number in kinds) + RESERVE_MIB
    found = os.statvfs("/dev/shm")
    free = min(available_mib(), found.f_bavail * found.f_frsize >> 20)
    if free < needed:
        sys.exit(f"{needed} MiB of memory and of /dev/shm are needed, {free} MiB are free.")


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
