# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filling a file with pages before anybody uses it: in parallel, and on the wanted NUMA nodes (madvise(2), mbind(2), set_mempolicy(2))."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from threading import Barrier

from .libraries import load_library

_POPULATE_WRITE = 23  # MADV_POPULATE_WRITE, Linux >= 5.14 (linux/mman.h); faults every page in, and changes no content
_POLICIES = {"preferred": 1, "bind": 2, "interleave": 3}  # linux/mempolicy.h
_PATIENCE = 60.0  # seconds until all threads have started
_LONG_BITS = 8 * ctypes.sizeof(ctypes.c_ulong)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def fill(
    descriptor: int, size: int, page_size: int, threads: int, cpus: Collection[int], policy: str, nodes: Sequence[int]
) -> None:
    """Give the file all its pages; what it holds stays as it is. Sizes in bytes, ``size`` a multiple of ``page_size``.

    :param threads: number of threads that fill, each a stretch of its own.
    :param cpus: CPUs that they run on; empty for any.
    :param policy: ``default``, ``bind``, ``preferred`` or ``interleave`` over ``nodes``; tmpfs keeps it with the file, hugetlbfs with nothing.
    :raises HostmemError: there is no libnuma, and a policy is to be set.
    :raises OSError: ENOSPC: there is no room, or there are too few pages on these nodes; what was filled stays filled.
    """
    with _mapped(descriptor, size) as address:
        if policy != "default":
            _bind(address, size, policy, nodes)
        stretches = parts(size, page_size, threads)
        fill_part = partial(_fill_part, Barrier(len(stretches)), descriptor, address, policy, nodes)
        # A new thread needs a stack, for which the kernel would let it wait until those that fill already are done (mmap_lock).
        with ThreadPoolExecutor(len(stretches), initializer=_stay_on, initargs=(cpus,)) as pool:
            for future in [pool.submit(fill_part, start, length) for start, length in stretches]:
                future.result()


def parts(size: int, page_size: int, threads: int) -> list[tuple[int, int]]:
    """Start and length of each thread's stretch: whole pages, none empty, as equal as can be."""
    pages = size // page_size
    count = max(1, min(threads, pages))
    edges = [pages * number // count * page_size for number in range(count)] + [size]
    return [(start, end - start) for start, end in zip(edges, edges[1:])]


@contextmanager
def _mapped(descriptor: int, size: int) -> Iterator[int]:
    """The address of a shared mapping of the file."""
    with mmap.mmap(descriptor, size) as mapping:
        first = ctypes.c_char.from_buffer(mapping)
        try:
            yield ctypes.addressof(first)
        finally:
            del first  # the mapping cannot be closed while something refers to it


def _bind(address: int, size: int, policy: str, nodes: Sequence[int]) -> None:
    """mbind(2). QEMU's packages depend on libnuma, which has it for every architecture."""
    libnuma = load_library("libnuma.so.1")
    libnuma.mbind.restype = ctypes.c_long
    mask, bits = _node_mask(nodes)
    if libnuma.mbind(ctypes.c_void_p(address), ctypes.c_ulong(size), _POLICIES[policy], mask, bits, 0):
        raise OSError(ctypes.get_errno(), f"mbind to the NUMA nodes {', '.join(map(str, nodes))}: {_reason()}")


def _take_from(policy: str, nodes: Sequence[int]) -> None:
    """set_mempolicy(2): of this thread, until it ends."""
    libnuma = load_library("libnuma.so.1")
    libnuma.set_mempolicy.restype = ctypes.c_long
    mask, bits = _node_mask(nodes)
    if libnuma.set_mempolicy(_POLICIES[policy], mask, bits):
        raise OSError(ctypes.get_errno(), f"set_mempolicy to the NUMA nodes {', '.join(map(str, nodes))}: {_reason()}")


def _node_mask(nodes: Sequence[int]) -> tuple[ctypes.Array[ctypes.c_ulong], ctypes.c_ulong]:
    """The nodes as a bit mask, and how many bits it has."""
    words = max(nodes) // _LONG_BITS + 1
    mask = (ctypes.c_ulong * words)()
    for node in nodes:
        mask[node // _LONG_BITS] |= 1 << (node % _LONG_BITS)
    # The kernel takes one bit less than it is told (get_nodes(), mm/mempolicy.c).
    return mask, ctypes.c_ulong(words * _LONG_BITS + 1)


def _stay_on(cpus: Collection[int]) -> None:
    if cpus:
        os.sched_setaffinity(0, cpus)  # of this thread


def _fill_part(
    all_there: Barrier, descriptor: int, address: int, policy: str, nodes: Sequence[int], start: int, length: int
) -> None:
    all_there.wait(_PATIENCE)
    if _libc.madvise(address + start, length, _POPULATE_WRITE) == 0:
        return
    if ctypes.get_errno() == errno.EINVAL:  # an older kernel
        # For hugetlbfs a policy is the mapping's, never the file's (hugetlb_vm_ops has no set_policy).
        if policy != "default":
            _take_from(policy, nodes)
        os.posix_fallocate(descriptor, start, length)
        return
    # EFAULT is what would be SIGBUS: a full file system, or too few huge pages on these nodes.
    code = errno.ENOSPC if ctypes.get_errno() in (errno.EFAULT, errno.ENOMEM) else ctypes.get_errno()
    raise OSError(code, f"The file cannot get all its pages ({_reason()})")


def _reason() -> str:
    return os.strerror(ctypes.get_errno())
