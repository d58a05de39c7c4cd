# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tables and verdicts, as Markdown, from the raw figures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from .figures import Bound, bounded, spread
from .many_guests import ManyGuests
from .measure import Sample
from .methods import Method
from .one_guest import OneGuest, Pair
from .prealloc import Filling

# What the project promises: the bound of one of the two is kept.
RATIO = 1.1
DIFFERENCE_MS = 5.0
PER_GUEST_MS = 150.0
SPEED = 0.9
SAVE_RATIO = 1.2
# What a save and restore may take longer with more memory, of its own time: medians of the same differ by as much.
SAVE_GROWTH = 0.05

_PAGES = {4096: "4 KiB", 2 << 20: "2 MiB", 1 << 30: "1 GiB"}

_TITLES = {"bare": "bare script", "ours": "`hostmem update`", "runtime": "`hostmem update`", "playbook": "playbook"}


def save_restore_tables(results: Sequence[OneGuest]) -> str:
    """What a save and a restore take together, and how long the guest stood still."""
    rows = []
    for result in results:
        for what, unit in (("guest stands still", _pause), ("save and restore", _wall), ("CPU", _cpu)):
            ratio, difference = _compared(result["pairs"], unit)
            for title, role in (("bare script", "bare"), ("`hostmem save`, `restore`", "ours")):
                values = [unit(_sample(pair, role)) for pair in result["pairs"]]
                compared = (
                    ["", "", ""] if role == "bare" else [_bound(ratio, 2), _bound(difference, 0, "+"), _coverage(ratio)]
                )
                rows.append([_size(result["size"]), what, title, *_spread(values, 0), *compared])
    heads = ["guest", "ms", "by", "median", "quartiles", "least to most", "n"]
    return _table([*heads, "ratio in pairs", "difference, ms", "coverage"], rows)


def one_guest_tables(results: Sequence[OneGuest]) -> str:
    """What single guests showed."""
    rows = []
    for result in results:
        for title, role in (("bare script", "bare"), ("`hostmem update`", "ours")):
            samples = [_sample(pair, role) for pair in result["pairs"]]
            for what, values, digits in (
                ("pause", [item["pauses"][0] for item in samples], 2),
                ("pause, proven", [item["proven"][0] for item in samples], 2),
                ("whole update", [item["wall"] for item in samples], 0),
                ("CPU", [item["cpu"] for item in samples], 0),
            ):
                rows.append([_size(result["size"]), what, title, *_spread(values, digits)])
    compared = []
    for result in results:
        for what, unit in (("pause", _pause), ("whole update", _wall), ("CPU", _cpu)):
            ratio, difference = _compared(result["pairs"], unit)
            compared.append(
                [_size(result["size"]), what, _bound(ratio, 2), _bound(difference, 1, "+"), _coverage(ratio)]
            )
    return "\n\n".join(
        (
            _table(["guest", "ms", "by", "median", "quartiles", "least to most", "n"], rows),
            _table(["guest", "ours to bare, in pairs", "median ratio", "median difference, ms", "coverage"], compared),
        )
    )


def many_guests_tables(results: Sequence[ManyGuests]) -> str:
    """What many guests at once showed."""
    rows, pauses = [], []
    for result in results:
        number = result["guests"]
        bare = [item["bare"]["wall"] for item in result["rounds"]]
        for role in ("bare", "runtime", "playbook"):
            samples: list[Sample] = [item[role] for item in result["rounds"]]
            wall = [item["wall"] for item in samples]
            more = [(ours - theirs) / number for ours, theirs in zip(wall, bare, strict=True)]
            rows.append(
                [
                    str(number),
                    _TITLES[role],
                    *_spread(wall, 0),
                    "" if role == "bare" else _number(statistics.median(more), 1),
                    _number(statistics.median(item["cpu"] / number for item in samples), 1),
                ]
            )
            each = [pause for item in samples for pause in item["pauses"]]
            pauses.append([str(number), _TITLES[role], *_pause_row(each)])
    heads = ["guests", "by", "whole, ms: median", "quartiles", "least to most", "n"]
    return "\n\n".join(
        (
            _table([*heads, "more than bare, ms a guest", "CPU, ms a guest"], rows),
            _table(["guests", "by", "pause, ms: median", "quartiles", "95 of 100", "longest", "n"], pauses),
        )
    )


def methods_table(results: Sequence[Method]) -> str:
    """How long each method pauses a guest, and takes as a whole."""
    rows = []
    for result in results:
        pairs = result["pairs"]
        for what, unit, digits in (("pause", _pause, 2), ("whole update", _wall, 0)):
            ratio, difference = _compared(pairs, unit)
            for role in ("bare", "ours"):
                compared = (
                    ["", "", ""] if role == "bare" else [_bound(ratio, 2), _bound(difference, 1, "+"), _coverage(ratio)]
                )
                values = [unit(_sample(pair, role)) for pair in pairs]
                rows.append([result["method"], what, _TITLES[role], *_spread(values, digits), *compared])
    heads = ["method", "ms", "by", "median", "quartiles", "least to most", "n"]
    return _table([*heads, "ratio in pairs", "difference, ms", "coverage"], rows)


def prealloc_table(results: Sequence[Filling]) -> str:
    """How fast RAM files are filled."""
    rows = []
    for result in results:
        row = [_size(result["size"] >> 20), _page(result), str(result["threads"])]
        if not result["pairs"]:
            rows.append([*row, "", "", "the kernel did not give the pages", "", "0"])
            continue
        seconds = {role: [pair[role] for pair in result["pairs"]] for role in ("qemu", "ours")}
        speed = _speed(result)
        medians = (_number(statistics.median(seconds[role]), 2) for role in ("qemu", "ours"))
        rows.append([*row, *medians, _bound(speed, 2), _coverage(speed), str(len(result["pairs"]))])
    heads = ["memory", "pages", "threads", "QEMU, s", "ours, s", "our speed to QEMU's, in pairs", "coverage", "pairs"]
    return _table(heads, rows)


def prealloc_verdicts(results: Sequence[Filling]) -> list[str]:
    """One line for each number of threads on huge pages, decided by the lower bound; nothing is promised of small pages."""
    lines = []
    for result in results:
        if result["page_size"] <= 4096:
            continue
        what = f"{_size(result['size'] >> 20)} in pages of {_page(result)} with {result['threads']} threads"
        if not result["pairs"]:
            lines.append(f"NOT SHOWN: {what}: the kernel did not give the pages")
            continue
        speed = _speed(result)
        lines.append(
            f"{_word(speed['low'] >= SPEED)}: {what} are filled at {speed['median']:.2f} times QEMU's speed, at least"
            f" {speed['low']:.2f} (promised {SPEED}), bound of a {speed['coverage']:.1%} interval of the median"
        )
    return lines


def _page(result: Filling) -> str:
    return _PAGES.get(result["page_size"], str(result["page_size"]))


def _speed(result: Filling) -> Bound:
    return bounded([pair["qemu"] / pair["ours"] for pair in result["pairs"]])


def verdicts(ones: Sequence[OneGuest], many: Sequence[ManyGuests]) -> list[str]:
    """One line for each promise, with the figures that decide."""
    lines = []
    for result in ones:
        ratio, difference = _compared(result["pairs"], _pause)
        kept = ratio["high"] <= RATIO or difference["high"] <= DIFFERENCE_MS
        lines.append(
            f"{_word(kept)}: pause of {_size(result['size'])}: ratio at most {ratio['high']:.2f} (promised {RATIO}) or"
            f" difference at most {difference['high']:+.1f} ms (promised {DIFFERENCE_MS:+.1f}), bounds of"
            f" {ratio['coverage']:.1%} intervals of the median"
        )
    if len(ones) > 1:
        lines.append(_growth(ones[0], ones[-1], "pause", _pause, DIFFERENCE_MS))
    for item in many:
        number = item["guests"]
        more = statistics.median((r["playbook"]["wall"] - r["bare"]["wall"]) / number for r in item["rounds"])
        lines.append(
            f"{_word(more < PER_GUEST_MS)}: playbook for {number} guests: {more:.0f} ms a guest more than the bare script"
            f" (aim: below {PER_GUEST_MS:.0f})"
        )
    return lines


def save_restore_verdicts(results: Sequence[OneGuest]) -> list[str]:
    """One line for each size, decided by the upper bound, and one for what more memory costs."""
    lines = []
    for result in results:
        ratio, _difference = _compared(result["pairs"], _wall)
        lines.append(
            f"{_word(ratio['high'] <= SAVE_RATIO)}: save and restore of {_size(result['size'])}: ratio at most {ratio['high']:.2f}"
            f" (promised {SAVE_RATIO}), bound of a {ratio['coverage']:.1%} interval of the median"
        )
    if len(results) > 1:
        own = statistics.median(_wall(pair["ours"]) for pair in results[0]["pairs"])
        lines.append(_growth(results[0], results[-1], "save and restore", _wall, SAVE_GROWTH * own))
    return lines


def _growth(small: OneGuest, large: OneGuest, what: str, unit: Any, allowed_ms: float) -> str:
    """Growth is what ours gains beyond what the bare script's gains."""
    gains = {}
    for role in ("bare", "ours"):
        before, after = ([unit(_sample(pair, role)) for pair in item["pairs"]] for item in (small, large))
        gains[role] = statistics.median(after) - statistics.median(before)
    kept = gains["ours"] <= max(gains["bare"], 0) + allowed_ms
    return (
        f"{_word(kept)}: from {_size(small['size'])} to {_size(large['size'])} the median {what} changes by {gains['ours']:+.1f} ms"
        f" (bare script {gains['bare']:+.1f} ms)"
    )


def _compared(pairs: Sequence[Pair], unit: Any) -> tuple[Bound, Bound]:
    values = [(unit(pair["ours"]), unit(pair["bare"])) for pair in pairs]
    return bounded([ours / bare for ours, bare in values]), bounded([ours - bare for ours, bare in values])


def _sample(pair: Pair, role: str) -> Sample:
    return pair["bare"] if role == "bare" else pair["ours"]


def _pause(sample: Sample) -> float:
    return sample["pauses"][0]


def _wall(sample: Sample) -> float:
    return sample["wall"]


def _cpu(sample: Sample) -> float:
    return sample["cpu"]


def _pause_row(values: Sequence[float]) -> list[str]:
    found = spread(values)
    high = sorted(values)[math.ceil(0.95 * len(values)) - 1]
    quartiles = f"{_number(found['lower'], 1)} to {_number(found['upper'], 1)}"
    return [_number(found["median"], 1), quartiles, _number(high, 1), _number(found["most"], 1), str(found["count"])]


def _spread(values: Sequence[float], digits: int) -> list[str]:
    found = spread(values)
    return [
        _number(found["median"], digits),
        f"{_number(found['lower'], digits)} to {_number(found['upper'], digits)}",
        f"{_number(found['least'], digits)} to {_number(found['most'], digits)}",
        str(found["count"]),
    ]


def _bound(found: Bound, digits: int, sign: str = "") -> str:
    median, low, high = (format(found[key], f"{sign}.{digits}f") for key in ("median", "low", "high"))
    return f"{median} ({low} to {high})"


def _coverage(found: Bound) -> str:
    return f"{found['coverage']:.1%}"


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}"


def _size(mebibytes: int) -> str:
    return f"{mebibytes // 1024} GiB" if mebibytes % 1024 == 0 else f"{mebibytes} MiB"


def _word(kept: bool) -> str:
    return "kept" if kept else "NOT KEPT"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
