# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Live update: a running guest moves into the installed QEMU, losing some milliseconds, by the method that was chosen for it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from .config import Config
from .disks import remember_images
from .errors import Refused
from .generations import Generation, next_number
from .locks import VerbLock
from .outdated import outdated_reasons
from .paths import GuestPaths, guest_paths
from .preflight import preflight
from .qmp import Qmp, connect
from .recovery import recover_after, settled, unsettled_refused
from .slots import UpdateSlot
from .update_attempt import Attempt, both_qemus
from .update_by_checkpoint import Checkpoint
from .update_by_exec import Exec
from .update_by_transfer import Transfer
from .update_methods import AUTO, CHECKPOINT, EXEC, TRANSFER, choose

VERB_WAIT = 120.0
_ATTEMPTS: dict[str, type[Attempt]] = {TRANSFER: Transfer, CHECKPOINT: Checkpoint, EXEC: Exec}


@dataclass(frozen=True)
class UpdateOptions:
    """``max_pause`` in seconds, None for the definition's; ``parallel`` 0 for the host's number; ``method`` one of METHODS."""

    force: bool = False
    check: bool = False
    max_pause: float | None = None
    parallel: int = 0
    method: str = AUTO


async def update(config: Config, name: str, options: UpdateOptions) -> dict[str, Any]:
    """Move a guest into the installed QEMU, if it runs in another one (or always, with ``force``).

    :raises Refused: it cannot be done; the guest was not paused.
    :raises HostmemError: it failed; the guest runs on in the old QEMU.
    """
    paths = guest_paths(config, name)
    async with VerbLock(paths, VERB_WAIT):
        living = unsettled_refused(paths) if options.check else await settled(paths)
        if not living:
            raise Refused(f"Guest {name} does not run.", cure="Start it; it then runs in the installed QEMU.")
        try:
            return await _update_from(config, paths, living[0], options)
        except Exception as error:
            await recover_after(paths, error)
            raise


async def _update_from(config: Config, paths: GuestPaths, old: Generation, options: UpdateOptions) -> dict[str, Any]:
    qmp = await connect(old.paths.qmp)
    try:
        return await _update(config, paths, old, qmp, options)
    finally:
        await qmp.close()


async def _update(
    config: Config, paths: GuestPaths, old: Generation, qmp: Qmp, options: UpdateOptions
) -> dict[str, Any]:
    if "definition" not in old.record:
        raise Refused(
            f"Guest {paths.name}: the record of its QEMU is missing ({old.paths.record}).", cure="Restart the guest."
        )
    began = time.monotonic()
    async with UpdateSlot(config, options.parallel):
        found = await preflight(config, old, qmp)
        reasons = outdated_reasons(found, old.alive)
        # Of a QEMU that is missing nothing is known: that is refused below.
        if found.installed.inode and not reasons and not options.force:
            return {"changed": False, "generation": old.number, "reason": "already runs in the installed QEMU"}
        choice = await choose(found, qmp, options.method)
        why = {
            "reason": "; ".join(reasons) or "forced",
            "method": choice.method,
            "method_reason": choice.reason,
        }
        if options.check:
            return {"changed": True, "generation": old.number, **why, **both_qemus(found, next_number(paths))}
        # Where the disks are now is true whichever QEMU has the guest in the end.
        remember_images(paths, found.definition, found.images)
        result = await _ATTEMPTS[choice.method](paths, found, qmp, options.max_pause).run()
    return {**result, **why, "total_ms": round((time.monotonic() - began) * 1000, 1)}
