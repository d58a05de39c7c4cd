# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether memory holds anything but zeros, at the speed of memory: what ctypes calls runs beside other threads, without Python's lock."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

THREADS = 4
"""One cannot read as fast as a module of persistent memory can."""

_Place = TypeVar("_Place")
_libc = ctypes.CDLL(None)
_libc.memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


def first_nonzero_at(address: int, length: int) -> int | None:
    """Position of the first byte that is not zero in mapped memory; None when all of it is zeros. Bytes; ``length`` is at least 1."""
    # All are zeros when every byte is as the one before it, and the first one is zero.
    if ctypes.string_at(address, 1) == b"\0" and not _libc.memcmp(address, address + 1, length - 1):
        return None
    data = ctypes.string_at(address, length)
    return length - len(data.lstrip(b"\0"))


def first_found(find: Callable[[_Place], int | None], places: Iterable[_Place]) -> int | None:
    """What ``find`` gives for the first of these places where it is not None. Threads look through them in order; the rest is left alone."""
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            return next((found for found in pool.map(find, places) if found is not None), None)
        finally:
            pool.shutdown(cancel_futures=True)
