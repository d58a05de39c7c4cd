# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filling a RAM file: the engine against QEMU's own prealloc with the same threads, in pairs whose order is random.

Inside QEMU's clock is one ``object-add`` of a memory-backend-file with prealloc=on on a new file, in a QEMU that runs already; inside
ours the making, mapping and filling of a new file. Removing the file, which gives the pages back, is in neither.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypedDict

from ansible_collections.hostmem.qemu.plugins.module_utils._host.prealloc import fill
from support.host import QEMU_TREES
from support.qmp import QmpSession

SIZE = 4 << 30
# Page size in bytes, and the numbers of threads tried with it.
TRIED = {2 << 20: (1, 2, 4), 1 << 30: (1, 2, 4), 4096: (1, 2, 4)}
# Huge pages are filled in a few tenths of a second, in which anything else on the machine makes a
# difference; small ones take many times as long.
_TIMES = {2 << 20: 6, 1 << 30: 6, 4096: 1}
_POOL = "/sys/kernel/mm/hugepages/hugepages-{}kB/nr_hugepages"


class FillPair(TypedDict):
    """Seconds, one right after the other."""

    first: str
    qemu: float
    ours: float


class Filling(TypedDict):
    """``page_size`` and ``size`` in bytes; without pairs when the kernel did not give that many such pages."""

    page_size: int
    size: int
    threads: int
    pairs: list[FillPair]


def prealloc(count: int, chance: random.Random) -> list[Filling]:
    """``count`` pairs of small pages for each number of threads, more of huge ones."""
    results = []
    with tempfile.TemporaryDirectory(prefix="hostmem-fill.") as directory:
        for page_size, tried in TRIED.items():
            with _place(page_size, Path(directory)) as place:
                if place is None:
                    results += [Filling(page_size=page_size, size=SIZE, threads=threads, pairs=[]) for threads in tried]
                    continue
                with _qemu(Path(directory)) as qmp:
                    results += [
                        _pairs(qmp, place, page_size, threads, count * _TIMES[page_size], chance) for threads in tried
                    ]
    return results


def _pairs(qmp: QmpSession, place: Path, page_size: int, threads: int, count: int, chance: random.Random) -> Filling:
    path = str(place) + "/ram"
    contenders: dict[str, Callable[[], float]] = {
        "qemu": lambda: _by_qemu(qmp, path, threads),
        "ours": lambda: _by_engine(path, page_size, threads),
    }
    contenders["ours"]()  # the first touch of memory that was never used takes many times as long
    result = Filling(page_size=page_size, size=SIZE, threads=threads, pairs=[])
    for _number in range(count):
        order = chance.sample(sorted(contenders), 2)
        times = {name: contenders[name]() for name in order}
        result["pairs"].append(FillPair(first=order[0], qemu=times["qemu"], ours=times["ours"]))
    return result


def _by_qemu(qmp: QmpSession, path: str, threads: int) -> float:
    options = {"qom-type": "memory-backend-file", "id": "ram", "mem-path": path, "size": SIZE, "share": True}
    began = time.monotonic()
    qmp.send("object-add", {**options, "prealloc": True, "prealloc-threads": threads})
    took = time.monotonic() - began
    qmp("object-del", id="ram")
    os.unlink(path)
    while os.statvfs(os.path.dirname(path)).f_bfree * os.statvfs(os.path.dirname(path)).f_bsize < SIZE:
        time.sleep(0.01)  # QEMU unmaps it a little later (RCU)
    return took


def _by_engine(path: str, page_size: int, threads: int) -> float:
    began = time.monotonic()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.ftruncate(descriptor, SIZE)
        fill(descriptor, SIZE, page_size, threads, (), "default", ())
        took = time.monotonic() - began
    finally:
        os.close(descriptor)
        os.unlink(path)
    return took


@contextlib.contextmanager
def _place(page_size: int, directory: Path) -> Iterator[Path | None]:
    """A file system with such pages for as long as it is needed; None when the kernel does not give them."""
    if page_size == os.sysconf("SC_PAGE_SIZE"):
        place = directory / "pages-4"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "hostmem-fill", place], check=True)
        try:
            yield place
        finally:
            subprocess.run(["umount", place], check=True)
        return
    pool = Path(_POOL.format(page_size >> 10))
    if not pool.exists():
        yield None
        return
    before, wanted = int(pool.read_text()), SIZE // page_size
    pool.write_text(str(before + wanted))
    try:
        if int(pool.read_text()) < before + wanted:
            yield None
            return
        place = directory / f"pages-{page_size >> 10}"
        place.mkdir()
        subprocess.run(
            ["mount", "-t", "hugetlbfs", "-o", f"pagesize={page_size >> 10}K,size={SIZE}", "hostmem-fill", place],
            check=True,
        )
        try:
            yield place
        finally:
            subprocess.run(["umount", place], check=True)
    finally:
        pool.write_text(str(before))


@contextlib.contextmanager
def _qemu(directory: Path) -> Iterator[QmpSession]:
    binary = QEMU_TREES / "11.1" / "usr" / "bin" / "qemu-system-x86_64"
    socket = directory / "qmp.sock"
    words = ["-machine", "none", "-nodefaults", "-display", "none", "-qmp", f"unix:{socket},server=on,wait=off"]
    process = subprocess.Popen([binary, *words])
    try:
        while not socket.exists():
            time.sleep(0.01)
        time.sleep(0.2)  # the socket is there before it listens
        yield QmpSession(socket, timeout=300.0)
    finally:
        process.kill()
        process.wait()
        socket.unlink(missing_ok=True)
