# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Most of what a guest's files have not brought to their devices yet is brought there while the guest runs, where it can be given up.

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

_POLL = 0.01


async def presync(name: str, files: Sequence[str], limit: float | None) -> None:
    """Sync files of a guest's memory. ``sync FILE…`` calls fsync(2) for each (coreutils >= 8.24).

    :param limit: in seconds; None for as long as it takes.
    :raises HostmemError: a device could not take it, or not in time.
    """
    if not files:
        return
    deadline = time.monotonic() + limit if limit is not None else float("inf")
    with os.fdopen(os.memfd_create("sync"), "w+b") as output:
        program = spawn(["sync", "--", *files], output, [])
        try:
            while program.poll() is None:
                if time.monotonic() >= deadline:
                    raise HostmemError(
                        f"The memory of guest {name} was not on its device within {limit:.0f} s.",
                        cause="The device is slow, or busy with other guests.",
                        cure="Raise hypervisor_save_timeout.",
                    )
                still_at_work()
                await asyncio.sleep(_POLL)
        finally:
            program.kill()  # when it has ended already this does nothing
        if program.returncode:
            output.seek(0)
            raise HostmemError(
                f"The memory of guest {name} could not be brought to its device.",
                cause=output.read(4096).decode(errors="replace").strip(),
                cure="See the kernel's log (dmesg).",
            )
