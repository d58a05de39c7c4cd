# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A process that ends a program which hangs, and recovers guests when the program that works on them has been killed.

(With systemd the unit's second ExecReload line recovers; only the first is done here.)
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress

from .._host.processes import process

_LOOK = 1.0  # seconds between two looks at whether the program hangs
_END = 10.0  # seconds that its end may take once its descriptors are closed


class Watchdog:
    """Forks a process that calls ``recover`` if this process ends before ``stand_down``; it kills this process when it hangs.

    It sees the end of this process by end-of-file on a pipe, at once and for certain, SIGKILL included.

    :param hangs: told this process's PID, whether it has come to nothing for too long.
    """

    def __init__(self, hangs: Callable[[int], bool], recover: Callable[[], None]) -> None:
        watched = os.getpid()
        reading, self._writing = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            self._watch(watched, reading, hangs, recover)

    def _watch(self, watched: int, reading: int, hangs: Callable[[int], bool], recover: Callable[[], None]) -> None:
        status = 1
        try:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            _close_all_but(reading)
            while not select.select([reading], [], [], _LOOK)[0]:
                if hangs(watched):
                    os.kill(watched, signal.SIGKILL)  # its end is seen next; until then its PID is nobody else's
            if os.read(reading, 1) == b"":
                _wait_for_end(watched)
                recover()
            status = 0
        finally:
            os._exit(status)

    def stand_down(self) -> None:
        """The work ended in order."""
        os.write(self._writing, b".")
        os.close(self._writing)
        os.waitpid(self._pid, 0)


def _wait_for_end(pid: int) -> None:
    """A process that is killed closes its descriptors before it is gone (do_exit() in kernel/exit.c); what it was writing is still taken
    for its own until then."""
    ending = process(pid)
    if ending is not None:
        ending.wait_gone(_END)


def _close_all_but(kept: int) -> None:
    """Inherited pipes would keep others waiting for their end-of-file."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    for entry in os.listdir("/proc/self/fd"):
        number = int(entry)
        if number > 2 and number != kept:
            with suppress(OSError):  # the descriptor of the listing itself
                os.close(number)
