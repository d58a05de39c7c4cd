# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a guest's vCPUs really get on, judged by the kernel's figures of their threads."""

from __future__ import annotations

import asyncio

from .._host.processes import Process
from .qmp import Qmp

_TRIES = 20
_POLL = 0.01


async def vcpu_progress(qmp: Qmp, process: Process) -> bool:
    """True when some vCPU thread ran within 0.2 s. An idle guest may make none: an alarm at most, never a reason to go back."""
    threads = [cpu["thread-id"] for cpu in await qmp.execute("query-cpus-fast")]
    before = _activity(process, threads)
    for _try in range(_TRIES):
        if _activity(process, threads) != before:
            return True
        await asyncio.sleep(_POLL)
    return False


def _activity(process: Process, threads: list[int]) -> list[tuple[int | None, int | None]]:
    return [(process.cpu_ticks(thread), process.context_switches(thread)) for thread in threads]
