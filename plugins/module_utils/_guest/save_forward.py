# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finishing the save of a guest that sleeps when it was cut off after QEMU had written the guest's state: there is no other way, as
the guest can go on nowhere else (has_let_go() in saving_qemu.py).
"""

from __future__ import annotations

from .._host.durable import sha256_of
from .._host.journald import log_record
from . import checkpoint_store
from .definition import parse_definition
from .device_sync import DeviceSync
from .disks import live_images, remember_images
from .errors import HostmemError
from .paths import GuestPaths
from .sealing import sealed

# Of the 60 that the journal gives a save.
_LIMIT = 50.0


async def finish_save(paths: GuestPaths, files: list[str]) -> None:
    """Commit the checkpoint. A device that does not take it in time keeps nobody from that: without it the guest would be lost.

    :param files: memory that stays, as lasting_files() in saved_memory.py gave it when the save began.
    :raises HostmemError: what is there of the checkpoint cannot be read, or not be completed.
    """
    draft = checkpoint_store.load_draft(paths)
    definition = parse_definition(draft.definition)
    remember_images(paths, definition, live_images(definition, draft.inventory))
    state = checkpoint_store.state_path(paths.unfinished_checkpoint)
    await _to_device(paths, [state, *files, *draft.images])
    await _to_device(paths, checkpoint_store.complete(paths, sealed(draft, *sha256_of(state))))
    checkpoint_store.commit(paths)
    await _to_device(paths, [paths.state])


async def _to_device(paths: GuestPaths, files: list[str]) -> None:
    try:
        await DeviceSync(f"The checkpoint of guest {paths.name}", _LIMIT, "See the kernel's log (dmesg).").sync(files)
    except HostmemError as error:
        log_record(
            f"Guest {paths.name} is saved, but would not outlive a power cut: {error}",
            3,
            guest=paths.name,
            event="save-not-durable",
        )
