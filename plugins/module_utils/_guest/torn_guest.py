# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest in post-copy lives in the QEMUs of two hosts: whoever ends the source's ends it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .errors import HostmemError, Refused
from .generations import Generation
from .journal import ORDERED, Journal
from .move_channel import in_postcopy
from .move_terms import POSTCOPY
from .paths import GuestPaths
from .qmp import connect


async def refuse_to_tear(paths: GuestPaths, living: Iterable[Generation], why: str) -> None:
    """:param why: the move does not come to its end.
    :raises Refused: the guest runs on another host, and a QEMU here has a part of its memory.
    """
    entry = Journal(paths).read() or {}
    if entry.get("step") != ORDERED or entry.get("sent"):
        return
    for generation in living:
        if await _has_a_part(generation, entry):
            raise Refused(
                f"Guest {paths.name} runs at {entry['to']}, or may, and a part of its memory is in its QEMU here.",
                cause=why,
                cure=f"Mend what is between the two hosts, and run here: hostmem recover {paths.name}."
                f" If the guest is to be lost: hostmem stop --in-move {paths.name}",
            )


async def _has_a_part(generation: Generation, entry: dict[str, Any]) -> bool:
    try:
        qmp = await connect(generation.paths.qmp)
        try:
            return await in_postcopy(qmp)
        finally:
            await qmp.close()
    except HostmemError:
        return bool(entry.get("method") == POSTCOPY)
