# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Grants of huge pages that really fall short, and what was asked of the kernel.

A write to nr_hugepages stops growing the pool at the first signal that is pending, and succeeds (set_max_huge_pages() in mm/hugetlb.c, "Bail for
signals"): to the writer that is what memory in pieces looks like, without harm to anybody else on the machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

from support.modules import run_module

_EVERY = 5e-5  # seconds
_CODE = f"""
import runpy, signal, sys
signal.signal(signal.SIGALRM, lambda *_arguments: None)
sys.argv = sys.argv[-1:]
signal.setitimer(signal.ITIMER_REAL, {_EVERY}, {_EVERY})
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
"""
_NODE = "/sys/devices/system/node/node0"
_IN_CLOSE_WRITE, _IN_OPEN = 0x8, 0x20  # the one alone would be one event, however often it comes
_EVENT = struct.Struct("iIII")


def run_interrupted(name: str, /, **arguments: Any) -> dict[str, Any]:
    """The result of a module to which a signal comes every 50 us, so that no write of its gets many pages."""
    return run_module(name, before=[sys.executable, "-c", _CODE], **arguments)


@contextlib.contextmanager
def requests(page_size: int) -> Iterator[Counter[str]]:
    """How often somebody writes to node 0's files until the end: ``nr_hugepages`` of this size, and ``compact``."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK)
    paths = (f"{_NODE}/hugepages/hugepages-{page_size // 1024}kB/nr_hugepages", f"{_NODE}/compact")
    names = {libc.inotify_add_watch(descriptor, path.encode(), _IN_CLOSE_WRITE | _IN_OPEN): path for path in paths}
    assert -1 not in names, os.strerror(ctypes.get_errno())
    found: Counter[str] = Counter()
    try:
        yield found
        data = os.read(descriptor, 1 << 16)
        for watch, mask, _cookie, _length in _EVENT.iter_unpack(data):
            found[os.path.basename(names[watch])] += mask == _IN_CLOSE_WRITE
    finally:
        os.close(descriptor)
