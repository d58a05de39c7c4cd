# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a saved guest forbids: nothing may start anew in its memory, drop it, or change where it lies, until it is given up."""

from __future__ import annotations

import os
from typing import Any

from .._host.processes import processes_mapping_part, processes_writing_file
from . import checkpoint_store
from .backing_devices import DevicePart, part_of_device
from .config import Config
from .definition import Definition, parse_definition
from .errors import HostmemError, Refused
from .layout import PlacedBlock, layout
from .locks import VerbLock
from .manifest import definition_digest
from .move_mark import has_left, refuse_moved, unmark_leaving
from .paths import GuestPaths, guest_paths
from .recovery import settled
from .running_mark import refuse_after_power_cut, unmark_running, went_down
from .store import guest_names, load_guest

VERB_WAIT = 60.0


def keeps_memory(paths: GuestPaths, definition: Definition) -> bool:
    """Whether the guest's memory has to stay as it is although no QEMU maps it."""
    return (
        checkpoint_store.is_saved(paths)
        or checkpoint_store.is_spent(paths)
        or bool(checkpoint_store.marks_in(paths, checkpoint_store.memory_directories(definition)))
        or (definition.on_power_cut == "refuse" and went_down(paths))
    )


def refuse_start_anew(paths: GuestPaths, definition: Definition) -> None:
    """For a guest that is not saved.

    :raises Refused: its memory is, or may be, that of a guest which was saved or cut off; or it is on another host.
    """
    refuse_moved(paths)
    refuse_kept(paths, definition)


def refuse_kept(paths: GuestPaths, definition: Definition) -> None:
    """:raises Refused: the guest's memory here is, or may be, that of one which was saved or cut off."""
    checkpoint_store.refuse_spent(paths)
    marks = checkpoint_store.marks_in(paths, checkpoint_store.memory_directories(definition))
    if marks:
        raise Refused(
            f"The memory of guest {paths.name} is that of a saved guest, but its state is not in {paths.checkpoint}.",
            cause=f"{marks[0]} says so. A start anew would destroy it.",
            cure=f"Put the state back from a copy, or give the saved guest up: hostmem discard {paths.name}",
        )
    refuse_after_power_cut(paths, definition)


def refuse_change(paths: GuestPaths, wanted: Definition) -> None:
    """:raises Refused: the guest is saved, or was being restored, and this is not the definition that it was saved with."""
    if checkpoint_store.is_saved(paths) or checkpoint_store.is_spent(paths):
        manifest = checkpoint_store.load(paths)
        if manifest is not None and definition_digest(wanted) == manifest.defined:
            return
        raise Refused(
            f"Guest {paths.name} is saved; its definition is not changed meanwhile.",
            cause="It could not be restored afterwards.",
            cure=f"Restore it first (hostmem restore {paths.name}), or give it up (hostmem discard {paths.name}).",
        )


def refuse_undefine(paths: GuestPaths, definition: Definition) -> None:
    """:raises Refused: memory of the guest is kept that nobody would know of afterwards, or it is on another host."""
    if has_left(paths):
        raise Refused(
            f"Guest {paths.name} is on another host, or may be; its definition is not removed.",
            cause="Nothing would keep it from being started here a second time, once it is defined again.",
            cure=f"If it does not exist there any more, or is never to run here again: hostmem discard {paths.name}",
        )
    if keeps_memory(paths, definition):
        raise Refused(
            f"Guest {paths.name} is saved, or was cut off with its host; its definition is not removed.",
            cause="Its memory would stay, and nobody would know whose it is.",
            cure=f"Restore it first (hostmem restore {paths.name}), or give it up (hostmem discard {paths.name}).",
        )


def copied_blocks(paths: GuestPaths) -> set[str]:
    """Blocks whose content comes with the state, so that their files are made anew.

    :raises Refused: the checkpoint is damaged.
    """
    manifest = checkpoint_store.load(paths)
    return {block.id for block in manifest.blocks if block.copied} if manifest else set()


def refuse_used(paths: GuestPaths, placed: PlacedBlock) -> None:
    """As root, who sees every process.

    :raises Refused: somebody maps memory of the saved guest.
    """
    block = placed.block
    if placed.path:
        users = processes_writing_file(placed.path) if os.path.lexists(placed.path) else []
    else:
        users = processes_mapping_part(block.device, block.offset or 0, block.size)
    if users:
        raise Refused(
            f"{placed.place}, memory of the saved guest {paths.name}, is mapped by process {', '.join(map(str, users))}.",
            cause="That process can change it.",
            cure="End that process first.",
        )


def refuse_saved_parts(config: Config, definition: Definition) -> None:
    """As root, before a start anew: a device tells nobody that a saved guest's memory is on it.

    :param definition: with its namespaces resolved.
    :raises Refused: another guest that is saved has its memory there.
    """
    blocks = [placed.block for placed in layout(definition) if placed.block.device]
    wanted = [DevicePart.parse(part_of_device(block.device, block.offset or 0, block.size)) for block in blocks]
    for name in guest_names(config) if wanted else []:
        parts = _saved_parts(guest_paths(config, name)) if name != definition.name else []
        for block, part in zip(blocks, wanted):
            if any(part.meets(other) for other in parts):
                raise Refused(
                    f"{block.device} has the memory of the saved guest {name} on it.",
                    cause="Its state would not fit what the memory becomes.",
                    cure=f"Restore that guest first (hostmem restore {name}), or give it up (hostmem discard {name}).",
                )


def _saved_parts(paths: GuestPaths) -> list[DevicePart]:
    """Parts of device-DAX devices in which a saved guest's memory stayed."""
    try:
        manifest = checkpoint_store.load(paths)
    except HostmemError:
        return []
    kept = [block.identity for block in manifest.blocks if not block.copied] if manifest else []
    return [DevicePart(item["namespace"], item["offset"], item["size"]) for item in kept if "namespace" in item]


async def discard(config: Config, name: str, check: bool) -> dict[str, Any]:
    """Give a saved guest up. Its memory is the caller's to drop.

    :raises Refused: the guest runs.
    """
    paths = guest_paths(config, name)
    definition = load_guest(paths).definition
    directories = _directories(paths, definition)
    found = keeps_memory(paths, definition) or bool(checkpoint_store.marks_in(paths, directories)) or has_left(paths)
    if check or not found:
        return {"changed": found}
    async with VerbLock(paths, VERB_WAIT):
        if await settled(paths):
            raise Refused(f"Guest {name} runs.", cause="What runs is not saved.", cure="Stop it, or leave it as it is.")
        checkpoint_store.discard_all(paths, directories)
        unmark_running(paths)
        unmark_leaving(paths)
    return {"changed": True}


def _directories(paths: GuestPaths, definition: Definition) -> list[str]:
    """Where marks can lie: by the definition on the host, and by the one that the guest was saved with."""
    found = set(checkpoint_store.memory_directories(definition))
    try:
        manifest = checkpoint_store.load(paths)
        if manifest:
            found |= set(checkpoint_store.memory_directories(parse_definition(manifest.definition)))
    except HostmemError:
        pass  # it is to go in any case
    return sorted(found)
