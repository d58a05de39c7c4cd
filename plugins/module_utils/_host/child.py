# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading of mapped memory in a process of its own: damaged memory kills the one that reads it (SIGBUS, mm/memory-failure.c)."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
from collections.abc import Callable

from .forked import text_from_child

# include/uapi/linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4


def number_from_child(work: Callable[[], int | None]) -> int | None:
    """What ``work`` gives, done in a child process. This process has no other threads.

    :raises OSError: ``work`` raised it, or anything else; EIO when the child was killed, as by memory that cannot be read.
    """
    told, status = text_from_child(lambda: _told(work))
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        raise OSError(errno.EIO, f"reading it was ended by the signal {name}")
    result, code, text = json.loads(told)
    if text:
        raise OSError(code, text)
    return int(result) if result is not None else None


def _told(work: Callable[[], int | None]) -> str:
    """In the child."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    # A core dump would have all of the mapped memory.
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    signal.signal(signal.SIGBUS, signal.SIG_DFL)
    try:
        told = [work(), 0, ""]
    except OSError as error:
        told = [None, error.errno or errno.EIO, error.strerror or str(error)]
    except Exception as error:
        told = [None, errno.EIO, repr(error)]
    return json.dumps(told)
