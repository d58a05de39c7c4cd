# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the host keeps a guest's memory while it reboots: what the definition cannot tell, as the file systems do."""

from __future__ import annotations

import os

from .._host.filesystems import file_system
from .definition import Definition
from .errors import Refused
from .lasting_memory import volatile_reason


def volatile_memory(definition: Definition) -> list[str]:
    """Each part of the guest's memory that a reboot of the host takes away, with the reason; a place that is not there yet is none.

    :raises OSError: a place cannot be looked at.
    """
    reasons = [(f"memory block {block.id}", volatile_reason(block)) for block in definition.blocks]
    found = [f"{name} {reason}" for name, reason in reasons if reason]
    if found:
        return found
    places = [(f"memory block {block.id}", block.directory) for block in definition.blocks if block.directory]
    places += [
        (f"NVDIMM {nvdimm.id}", os.path.dirname(nvdimm.path)) for nvdimm in definition.nvdimms if not nvdimm.device
    ]
    for name, directory in places:
        system = file_system(directory)
        if system.volatile:
            found.append(f"{name} lies on {system.type} ({system.mount_point}), which the host's reboot empties")
    return found


def refuse_volatile(definition: Definition) -> None:
    """Hold ``on_host_shutdown: save`` against the host.

    :raises Refused: a reboot of the host would take memory away that a saved guest needs.
    """
    if definition.on_host_shutdown != "save":
        return
    found = volatile_memory(definition)
    if found:
        raise Refused(
            f"Guest {definition.name} cannot be saved when its host shuts down: {'; '.join(found)}.",
            cause="A saved guest's memory stays in its files.",
            cure="Put all of it on persistent memory (backing: dax) or a disk's file system (backing: file), or use on_host_shutdown: poweroff.",
        )
