# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A trial of what files in a mounted file system are, on a file without a name that is gone again afterwards (O_TMPFILE, open(2))."""

from __future__ import annotations

import errno
import mmap
import os
from dataclasses import dataclass

from .dax import is_dax_file, map_sync_works, new_unnamed_file
from .dax_layout import HUGE, allocate_aligned, huge_page_share

_SIZE = 8 * HUGE


@dataclass(frozen=True)
class Probe:
    """What a new file is: ``dax`` by statx, ``map_sync`` by mmap, and which part is mapped by 2 MiB as the file system lays it out by
    itself, and as allocate_aligned() does; None where there was no room to try.
    """

    dax: bool
    map_sync: bool
    huge_by_itself: float | None
    huge_when_aligned: float | None


def probe(directory: str, ask: bool) -> Probe:
    """Try it in a directory of the file system.

    :param ask: the file asks for DAX by its own flag, as ``dax=inode`` wants it.
    :raises OSError: no file can be made there.
    """
    with new_unnamed_file(directory, ask) as descriptor:
        natural = _natural(descriptor)
        if not os.fstat(descriptor).st_size:
            os.ftruncate(descriptor, mmap.PAGESIZE)
        dax, map_sync = is_dax_file(descriptor), map_sync_works(descriptor)
    return Probe(dax, map_sync, natural, _aligned(directory, ask) if dax and natural is not None else None)


def _natural(descriptor: int) -> float | None:
    try:
        os.posix_fallocate(descriptor, 0, _SIZE)
        return huge_page_share(descriptor)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            os.ftruncate(descriptor, 0)
            return None
        raise


def _aligned(directory: str, ask: bool) -> float | None:
    try:
        with new_unnamed_file(directory, ask) as descriptor:
            return allocate_aligned(descriptor, _SIZE).share
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return None
        raise
