# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bringing a guest's files to their devices within a time, while the guest runs and again while it stands still for its save.

By a program of its own: a thread in fsync(2) can be neither ended nor left, and nor can a program whose device does not answer be
ended before it does, but nobody has to wait for it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence

from .._host.programs import spawn
from .._host.service_manager import still_at_work
from .errors import HostmemError

_POLL = 0.002


class DeviceSync:
    """What belongs together and has one time limit, from the first of it on.

    :param what: as the subject of a sentence.
    :param limit: in seconds; None for as long as it takes.
    :param cure: for when it takes longer.
    """

    def __init__(self, what: str, limit: float | None, cure: str) -> None:
        self._what = what
        self._limit = limit
        self._cure = cure
        self._deadline = float("inf") if limit is None else time.monotonic() + limit

    async def sync(self, paths: Sequence[str]) -> None:
        """Sync files and directories. ``sync FILE…`` calls fsync(2) for each (coreutils >= 8.24).

        :raises HostmemError: a device could not take it, or not in time.
        """
        if not paths:
            return
        with os.fdopen(os.memfd_create("sync"), "w+b") as output:
            program = spawn(["sync", "--", *paths], output, [])
            try:
                while program.poll() is None:
                    self.check_time()
                    still_at_work()
                    await asyncio.sleep(_POLL)
            finally:
                program.kill()  # when it has ended already this does nothing
            if program.returncode:
                output.seek(0)
                raise HostmemError(
                    f"{self._what} could not be brought to its device.",
                    cause=output.read(4096).decode(errors="replace").strip(),
                    cure="See the kernel's log (dmesg).",
                )

    def check_time(self) -> None:
        """:raises HostmemError: there is none left."""
        if time.monotonic() >= self._deadline:
            raise HostmemError(
                f"{self._what} was not on its device within {self._limit:.0f} s.",
                cause="The device is slow, busy with other guests, or does not answer.",
                cure=self._cure,
            )
