# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pages of a RAM file: its length, its extents on DAX, and filling it before the guest starts."""

from __future__ import annotations

import os

from .._host.dax import is_dax_file
from .._host.dax_layout import allocate_aligned
from .._host.numa import node_cpus
from .._host.prealloc import fill
from .errors import Refused
from .layout import PlacedBlock
from .sizes import format_size

_MOST_THREADS = 16


def lay_out(placed: PlacedBlock, descriptor: int, size: int) -> None:
    """Give a new file its length in bytes; on DAX also its extents, so that 2 MiB of it can be mapped at once.

    :raises OSError: no space.
    :raises Refused: the definition demands DAX, and the file is not mapped directly.
    """
    if placed.block.filesystem != "dax":
        os.ftruncate(descriptor, size)
        return
    if not is_dax_file(descriptor):
        raise Refused(
            f"Memory block {placed.block.id}: {placed.path} is not mapped directly (DAX), as the definition demands.",
            cause="The kernel does not show STATX_ATTR_DAX for it: the file system is mounted without DAX, or its device has none.",
            cure="Mount it with hostmem.qemu.dax_mount, which says why DAX is off.",
        )
    allocate_aligned(descriptor, size)


def fill_file(placed: PlacedBlock, descriptor: int, size: int, page_size: int) -> None:
    """prealloc: all pages now, in parallel, on the block's NUMA nodes and by threads that run there; bytes.

    :raises Refused: they are not there.
    """
    block = placed.block
    # In a container, or with AllowedCPUs=, some are not ours; when all of them are others', any will do.
    cpus = node_cpus(block.host_nodes) & os.sched_getaffinity(0)
    threads = block.prealloc_threads or min(_MOST_THREADS, len(cpus) or os.cpu_count() or 1)
    try:
        fill(descriptor, size, page_size, threads, cpus, block.policy, block.host_nodes)
        if block.filesystem == "dax":
            os.fsync(descriptor)  # extents that were never written are zero again after a power cut otherwise
    except OSError as error:
        where = f" on the NUMA nodes {', '.join(map(str, block.host_nodes))}" if block.host_nodes else ""
        raise Refused(
            f"Memory block {block.id}: {format_size(size)} cannot be filled in {placed.path}{where}.",
            cause=str(error),
            cure="Enlarge the pool or mount, or stop guests.",
        ) from error
