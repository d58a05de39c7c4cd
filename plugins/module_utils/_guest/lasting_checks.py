# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the host keeps a saved guest while it reboots: what the definition cannot tell, as the file systems do."""

from __future__ import annotations

import os
from collections.abc import Collection

from .._host.filesystems import file_system
from .config import Config
from .definition import Definition
from .errors import Refused
from .lasting_memory import volatile_reason
from .paths import guest_paths


def volatile_memory(config: Config, definition: Definition, copied: Collection[str] = ()) -> list[str]:
    """Each part of a saved guest that a reboot of the host takes away, with the reason; a place that is not there yet is none.

    :param copied: blocks whose content is in the state, and in no file of their own.
    :raises OSError: a place cannot be looked at.
    """
    blocks = [block for block in definition.blocks if block.id not in copied]
    reasons = [(f"memory block {block.id}", volatile_reason(block)) for block in blocks]
    found = [f"{name} {reason}" for name, reason in reasons if reason]
    if found:
        return found
    places = [("the state of its devices", guest_paths(config, definition.name).state)]
    places += [(f"memory block {block.id}", block.directory) for block in blocks if block.directory]
    places += [
        (f"NVDIMM {nvdimm.id}", os.path.dirname(nvdimm.path)) for nvdimm in definition.nvdimms if not nvdimm.device
    ]
    for name, directory in places:
        system = file_system(directory)
        if system.volatile:
            found.append(f"{name} lies on {system.type} ({system.mount_point}), which the host's reboot empties")
    return found


def lost_by_reboot(config: Config, definition: Definition, copied: Collection[str] = ()) -> list[str]:
    """The same for who only wants to know: a place that cannot be looked at counts as one that is lost."""
    try:
        return volatile_memory(config, definition, copied)
    except OSError as error:
        return [f"nobody knows, as {error.filename} cannot be looked at ({error.strerror})"]


def refuse_volatile(config: Config, definition: Definition) -> None:
    """Hold ``on_host_shutdown: save`` against the host.

    :raises Refused: a reboot of the host would take memory away that a saved guest needs.
    """
    if definition.on_host_shutdown != "save":
        return
    found = volatile_memory(config, definition)
    if found:
        raise Refused(
            f"Guest {definition.name} cannot be saved when its host shuts down: {'; '.join(found)}.",
            cause="A saved guest's memory stays in its files, and what its devices are is written beside them.",
            cure=f"Put all of it, and {config.state}, on persistent memory (backing: dax) or a disk's file system (backing: file), or use"
            " on_host_shutdown: poweroff.",
        )
