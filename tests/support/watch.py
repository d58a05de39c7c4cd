# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See heartbeat guests from outside: their status page and how long they stood still.

The guest's RAM file is mapped read-only and its counter sampled, so that neither
QEMU nor the guest takes part in the measurement. The status page is described in
tests/guests/README.md. ``python -m support.watch FILE... --seconds N`` prints the
results as JSON.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, TypedDict

MAGIC = 0x31424D48
STATUS_OFFSET = 0x200000
DEFAULT_INTERVAL_MS = 0.05
DEFAULT_THRESHOLD_MS = 2.0

_BOOTS, _ERRORS, _READY, _PASSES = 1, 4, 5, 6  # u32 words of the status page
_COUNTER = 1  # u64 word
_PR_SET_TIMERSLACK = 29
_BUCKET_NS, _BUCKETS = 10_000, 1000  # histogram of the sampling interval, up to 10 ms


class Gap(TypedDict):
    """One stretch without a change of the counter; times in ms.

    The guest stood still for at least ``proven_ms`` and at most ``seen_ms``, which
    differ by the last sampling interval. ``ms`` lies between the two: from
    ``seen_ms`` the time of the ticks that passed unseen (all but one of ``ticks``)
    is taken off, so that a watcher that was not scheduled finds no false gap.
    """

    at: float  # CLOCK_MONOTONIC, seconds, when the last value was first seen
    ms: float
    proven_ms: float
    seen_ms: float
    ticks: int  # by how much the counter had moved when it was next seen
    open: bool  # still standing when the watch ended


class Result(TypedDict):
    """What was seen of one RAM file between start and end of a watch."""

    path: str
    longest_ms: float
    gaps: list[Gap]  # those of at least the threshold
    samples: int
    resolution_ms: float  # 99 of 100 sampling intervals were at most this
    resolution_max_ms: float
    seconds: float
    first: int  # counter
    last: int
    boots: int
    errors: int
    passes: int


class StatusPage:
    """The status page of a heartbeat guest, mapped read-only from its RAM file.

    ``path`` may be a memfd's ``/proc/PID/fd/N`` or ``/proc/PID/map_files/RANGE``. The mapping
    is of the file as it was opened: it stays with that file when the path gets
    another one, and keeps a memfd alive when its QEMU has gone.

    Raises OSError when the file cannot be opened or mapped, ValueError when it is
    too short to hold the page (reading it would raise SIGBUS).
    """

    def __init__(self, path: str | os.PathLike[str], offset: int = STATUS_OFFSET) -> None:
        self.path = os.fspath(path)
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            if size < offset + mmap.PAGESIZE:
                message = f"{self.path}: {size} bytes, too short for a status page at {offset:#x}"
                raise ValueError(message)
            # hugetlbfs gives its page size as block size and maps whole pages only
            unit = max(os.fstatvfs(descriptor).f_bsize, mmap.PAGESIZE)
            start = offset // unit * unit
            length = min(unit, size - start)
            self._map = mmap.mmap(descriptor, length, mmap.MAP_SHARED, mmap.PROT_READ, offset=start)
        finally:
            os.close(descriptor)
        self._bytes = memoryview(self._map)[offset - start : offset - start + 32]
        self._words = self._bytes.cast("I")
        # An item of an aligned "Q" view is read by one 8-byte load: never torn.
        self.quads = self._bytes.cast("Q")

    @property
    def magic(self) -> int:
        """MAGIC once a heartbeat guest has started on this RAM."""
        return self._words[0]

    @property
    def boots(self) -> int:
        """1 after a cold start on fresh RAM, one more for each reset."""
        return self._words[_BOOTS]

    @property
    def counter(self) -> int:
        """Timer ticks since the guest started."""
        return self.quads[_COUNTER]

    @property
    def errors(self) -> int:
        """Pages whose content was not what the guest had written."""
        return self._words[_ERRORS]

    @property
    def ready(self) -> bool:
        """Whether the guest has filled its region."""
        return self.magic == MAGIC and self._words[_READY] == 1

    @property
    def passes(self) -> int:
        """Rounds over the whole region in which each page was checked."""
        return self._words[_PASSES]

    def close(self) -> None:
        """Give the mapping back."""
        self.quads.release()
        self._words.release()
        self._bytes.release()
        self._map.close()

    def __enter__(self) -> StatusPage:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class _Track:
    """The counter of one page as the samples showed it; times in ns."""

    def __init__(self, page: StatusPage, threshold_ns: int, now: int) -> None:
        self.page = page
        self.threshold = threshold_ns
        self.first = self.value = page.counter
        self.begin = self.since = now
        self.longest_short = 0  # longest interval below the threshold
        self.gaps: list[tuple[int, int, int, int, bool]] = []  # at, proven, seen, ticks, open

    def change(self, value: int, before: int, now: int) -> None:
        """Note another value at ``now``; the old one was last seen at ``before``."""
        seen = now - self.since
        if seen >= self.threshold:
            proven = max(before - self.since, 0)
            self.gaps.append((self.since, proven, seen, value - self.value, False))
        elif seen > self.longest_short:
            self.longest_short = seen
        self.value = value
        self.since = now

    def result(self, now: int, samples: int, resolution: tuple[float, float]) -> Result:
        """Close the track at ``now``; a stretch that has no end yet counts as it is."""
        still = now - self.since
        if still >= self.threshold:
            self.gaps.append((self.since, still, still, 0, True))
        seconds = (now - self.begin) / 1e9
        ticks = self.value - self.first
        tick_ns = (now - self.begin) / ticks if ticks > 0 else 0.0
        gaps = [_gap(gap, tick_ns) for gap in self.gaps]
        page = self.page
        return Result(
            path=page.path,
            longest_ms=max([gap["ms"] for gap in gaps] + [self.longest_short / 1e6]),
            gaps=[gap for gap in gaps if gap["ms"] * 1e6 >= self.threshold],
            samples=samples,
            resolution_ms=resolution[0],
            resolution_max_ms=resolution[1],
            seconds=seconds,
            first=self.first,
            last=self.value,
            boots=page.boots,
            errors=page.errors,
            passes=page.passes,
        )


def _gap(noted: tuple[int, int, int, int, bool], tick_ns: float) -> Gap:
    at, proven, seen, ticks, still_open = noted
    estimate = max(float(proven), seen - max(ticks - 1, 0) * tick_ns)
    return Gap(
        at=at / 1e9,
        ms=estimate / 1e6,
        proven_ms=proven / 1e6,
        seen_ms=seen / 1e6,
        ticks=ticks,
        open=still_open,
    )


def _quantile_ms(histogram: Sequence[int], share: float) -> float:
    """Upper bound of the bucket below which ``share`` of the entries lie."""
    wanted, seen = share * sum(histogram), 0
    for bucket, entries in enumerate(histogram):
        seen += entries
        if seen >= wanted:
            return (bucket + 1) * _BUCKET_NS / 1e6
    return len(histogram) * _BUCKET_NS / 1e6


class _Stop:
    """Becomes true at a deadline, on SIGTERM or SIGINT, or when the parent is gone."""

    def __init__(self, seconds: float | None) -> None:
        self._signalled = False
        self._parent = os.getppid()
        self._deadline = None if seconds is None else time.monotonic() + seconds
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signal)

    def _signal(self, _number: int, _frame: object) -> None:
        self._signalled = True

    def __bool__(self) -> bool:
        if self._signalled or os.getppid() != self._parent:
            return True
        return self._deadline is not None and time.monotonic() >= self._deadline


def _be_punctual() -> None:
    """Wake up on time: no timer slack and, where allowed, ahead of ordinary processes."""
    gc.disable()  # a collection is a pause of the watcher's own
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(1), 0, 0, 0)
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        return  # the result's resolution_ms shows what that costs


def sample(pages: Sequence[StatusPage], stop: _Stop, interval_ms: float, threshold_ms: float) -> list[Result]:
    """Sample the counters of ``pages`` every ``interval_ms`` until ``stop`` is true."""
    clock, sleep = time.monotonic_ns, time.sleep
    pause = interval_ms / 1e3
    before = clock()
    tracks = [_Track(page, int(threshold_ms * 1e6), before) for page in pages]
    watched = [(track, track.page.quads) for track in tracks]
    histogram = [0] * (_BUCKETS + 1)
    samples = longest = 0
    while samples % 64 or not stop:
        sleep(pause)
        now = clock()
        for track, quads in watched:
            value = quads[_COUNTER]
            if value != track.value:
                track.change(value, before, now)
        step = now - before
        histogram[min(step // _BUCKET_NS, _BUCKETS)] += 1
        longest = max(longest, step)
        before = now
        samples += 1
    resolution = (_quantile_ms(histogram, 0.99), longest / 1e6)
    return [track.result(before, samples, resolution) for track in tracks]


class Watcher:
    """A process of its own that samples the counters of RAM files.

    The files are mapped before ``start`` returns. Give ``threshold_ms`` well above
    the guest's tick period, or every tick is a gap.
    """

    def __init__(
        self,
        paths: Iterable[str | os.PathLike[str]],
        *,
        threshold_ms: float = DEFAULT_THRESHOLD_MS,
        interval_ms: float = DEFAULT_INTERVAL_MS,
        offset: int = STATUS_OFFSET,
    ) -> None:
        self._command = [sys.executable, str(Path(__file__).resolve()), "--announce"]
        self._command += ["--threshold", str(threshold_ms), "--interval", str(interval_ms)]
        self._command += ["--offset", str(offset), "--", *(os.fspath(path) for path in paths)]
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> Watcher:
        """Begin to watch. Raises RuntimeError with the reason when it cannot."""
        process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if _pipe(process.stdout).readline() != "watching\n":
            _output, errors = process.communicate()
            raise RuntimeError(errors)
        self._process = process
        return self

    def stop(self) -> list[Result]:
        """End the watch; one result per file, in the order given."""
        if self._process is None:
            message = "this watcher is not running"
            raise RuntimeError(message)
        process, self._process = self._process, None
        process.terminate()
        output, errors = process.communicate(timeout=60)
        if process.returncode != 0:
            raise RuntimeError(errors)
        results: list[Result] = json.loads(output)
        return results

    def __enter__(self) -> Watcher:
        return self.start()

    def __exit__(self, *_exception: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _pipe(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        message = "the process has no such pipe"
        raise RuntimeError(message)
    return stream


def main(arguments: Sequence[str] | None = None) -> int:
    """Watch the files named on the command line and print the results."""
    parser = argparse.ArgumentParser(prog="watch", description=main.__doc__)
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--seconds", type=float, help="default: until SIGTERM or SIGINT")
    parser.add_argument("--threshold", type=float, default=DEFAULT_THRESHOLD_MS, help="ms")
    parser.add_argument("--interval", type=float, default=DEFAULT_INTERVAL_MS, help="ms")
    parser.add_argument("--offset", type=int, default=STATUS_OFFSET)
    parser.add_argument("--announce", action="store_true", help="print 'watching' first")
    options = parser.parse_args(arguments)
    stop = _Stop(options.seconds)
    pages = [StatusPage(path, options.offset) for path in options.files]
    _be_punctual()
    if options.announce:
        print("watching", flush=True)
    json.dump(sample(pages, stop, options.interval, options.threshold), sys.stdout, indent=1)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
