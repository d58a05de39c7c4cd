# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Figures from samples: no assumption is made about how they are distributed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TypedDict


class Spread(TypedDict):
    """Median, quartiles and extremes."""

    median: float
    lower: float
    upper: float
    least: float
    most: float
    count: int


class Bound(TypedDict):
    """A median with the interval that covers the true one with the probability ``coverage``."""

    median: float
    low: float
    high: float
    coverage: float


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    quarters = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return Spread(
        median=statistics.median(values),
        lower=quarters[0],
        upper=quarters[2],
        least=min(values),
        most=max(values),
        count=len(values),
    )


def bounded(values: Sequence[float], wanted: float = 0.95) -> Bound:
    """The median, with the narrowest pair of values of equal rank from both ends that covers it with at least ``wanted``.

    From the binomial distribution alone: the true median lies below the k-th smallest of n values with the probability that fewer
    than k of n fair coins show heads. Less than six values cannot reach 95 %; then it is all of them, and ``coverage`` tells.
    """
    ordered, count = sorted(values), len(values)
    rank = 1
    while 2 * (rank + 1) <= count and _coverage(count, rank + 1) >= wanted:
        rank += 1
    return Bound(
        median=statistics.median(ordered),
        low=ordered[rank - 1],
        high=ordered[-rank],
        coverage=max(0.0, _coverage(count, rank)),
    )


def _coverage(count: int, rank: int) -> float:
    outside: int = sum(math.comb(count, heads) for heads in range(rank))
    return 1 - math.ldexp(outside, 1 - count)
