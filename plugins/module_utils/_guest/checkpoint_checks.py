# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a saved guest may be restored from what is here now. QEMU itself loads almost anything, and some of it without an error."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from .._host.boot_id import boot_id
from .._host.durable import sha256_of
from . import checkpoint_store
from .comparison import queue_differences, queue_sizes
from .config import Config
from .definition import Definition, parse_definition
from .device_names import resolved
from .errors import Refused
from .inventory import differences, nameless
from .layout import layout
from .manifest import Manifest, SavedBlock, definition_digest, layout_digest
from .paths import GuestPaths
from .qemu_binary import QemuBinary, probe
from .qmp import Qmp
from .saved_memory import memory_identity, nvdimm_identity
from .store import load_guest

_GIVE_UP = "or give the saved guest up and start it anew: hostmem discard"


@dataclass(frozen=True)
class Situation:
    """What a checkpoint is to be restored in. ``stored``: the definition on the host; ``definition``: the one that the guest ran with."""

    paths: GuestPaths
    manifest: Manifest
    stored: Definition
    definition: Definition
    binary: QemuBinary


def look(config: Config, paths: GuestPaths, manifest: Manifest) -> Situation:
    """:raises HostmemError: a device that the guest ran with is not there, or no QEMU."""
    stored = load_guest(paths).definition
    definition = resolved(parse_definition(manifest.definition))
    return Situation(paths, manifest, stored, definition, probe(definition.qemu, f"{config.run}/.probe"))


def refuse_evident(here: Situation, older: bool) -> None:
    """Hold a checkpoint against the host, as far as that takes no longer with a larger state.

    :param older: the installed QEMU may be older than the one that saved.
    :raises Refused: with everything that does not fit.
    """
    _refuse(here, [*_problems(here, older), *_state_problems(here, _size_of)])


def refuse_unsuitable(here: Situation, older: bool) -> None:
    """Before a QEMU is started: the same, and the whole state is read, which no one but its digest can vouch for.

    :raises Refused: with everything that does not fit.
    """
    _refuse(here, [*_problems(here, older), *_state_problems(here, sha256_of)])


def _refuse(here: Situation, problems: list[str]) -> None:
    if problems:
        raise _refusal(here.paths, problems)


def _problems(here: Situation, older: bool) -> list[str]:
    return [
        *_definition_problems(here),
        *_qemu_problems(here, older),
        *_mark_problems(here),
        *_memory_problems(here.manifest, here.definition),
        *_image_problems(here.manifest),
    ]


async def refuse_unlike(paths: GuestPaths, manifest: Manifest, now: dict[str, Any], qmp: Qmp) -> None:
    """Hold the QEMU that is to load the state against the one that saved it.

    :raises Refused: with everything that differs.
    """
    both = manifest.inventory.keys() & now.keys()  # another release may have asked for more, or less
    problems = differences(nameless(manifest.inventory, both), nameless(now, both))
    problems += queue_differences(manifest.queue_sizes, await queue_sizes(qmp))
    if problems:
        raise _refusal(paths, problems)


def _refusal(paths: GuestPaths, problems: list[str]) -> Refused:
    return Refused(
        f"Guest {paths.name} is saved, but does not fit what is here now: {'; '.join(problems)}.",
        cause="Its memory or its devices would be wrong, and QEMU would not say so.",
        cure=f"Bring back what it was saved with, {_GIVE_UP} {paths.name}",
    )


def _definition_problems(here: Situation) -> Iterator[str]:
    manifest, stored = here.manifest, here.stored
    if manifest.guest != here.paths.name:
        yield f"the checkpoint is of guest {manifest.guest}"
    if manifest.defined != definition_digest(stored):
        changed = sorted(_changed_keys(here.definition.as_dict(), stored.as_dict()))
        yield f"the definition was changed since ({', '.join(changed) or 'and back to what the guest ran with'})"
    if manifest.layout != layout_digest(stored):
        yield "the definition has other memory, NVDIMMs or NICs now"


def _changed_keys(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    return {key for key in {*one, *other} if one.get(key) != other.get(key)}


def _qemu_problems(here: Situation, older: bool) -> Iterator[str]:
    binary, saved = here.binary, here.manifest.qemu["version"]
    if binary.version < tuple(int(part) for part in saved.split(".")) and not older:
        yield f"QEMU {binary.version_text} at {binary.path} is older than {saved}, which saved it"
    if here.definition.machine not in binary.machines:
        yield f"QEMU {binary.version_text} has no machine type {here.definition.machine}"


def _size_of(path: str) -> tuple[int, str | None]:
    """As sha256_of, without the digest."""
    return os.stat(path).st_size, None


def _state_problems(here: Situation, look: Callable[[str], tuple[int, str | None]]) -> Iterator[str]:
    """:param look: length in bytes, and digest, of a file."""
    path = checkpoint_store.state_path(here.paths.checkpoint)
    try:
        size, digest = look(path)
    except OSError as error:
        yield f"the state cannot be read ({error})"
        return
    if size != here.manifest.state_size:
        yield f"{path} has {size} bytes instead of {here.manifest.state_size}"
    elif digest not in (None, here.manifest.state_sha256):
        yield f"{path} is damaged: it does not have the digest it was written with"


def _mark_problems(here: Situation) -> Iterator[str]:
    if checkpoint_store.was_spent(here.paths, here.manifest):
        yield "this checkpoint was spent, or given up, before: the guest has run since"
    for mark in checkpoint_store.missing_marks(here.manifest):
        yield f"{os.path.dirname(mark)} has no mark of this checkpoint: the guest has run since, or it is other memory"


def _memory_problems(manifest: Manifest, definition: Definition) -> Iterator[str]:
    identities: dict[str, Callable[[], dict[str, Any]]] = {}
    for placed in layout(definition):
        identities[placed.block.id] = partial(memory_identity, placed)
    for nvdimm in definition.nvdimms:
        identities[nvdimm.id] = partial(nvdimm_identity, nvdimm)
    for block in manifest.blocks:
        if not block.copied:
            yield from _block_problems(manifest, block, identities[block.id])


def _block_problems(manifest: Manifest, block: SavedBlock, identity: Callable[[], dict[str, Any]]) -> Iterator[str]:
    try:
        now = identity()
    except OSError as error:
        lost = (
            ", and its content with the reboot since"
            if "in boot" in str(block.identity) and manifest.boot_id != boot_id()
            else ""
        )
        yield f"the memory of block {block.id} is gone{lost} ({error})"
        return
    for key, then in block.identity.items():
        if now.get(key) != then:
            yield f"{block.place} is not the memory of block {block.id}: its {key} is {now.get(key)}, not {then}"


def _image_problems(manifest: Manifest) -> Iterator[str]:
    for path, then in sorted(manifest.images.items()):
        try:
            found = os.stat(path)
        except OSError as error:
            yield f"disk image {path} is gone ({error.strerror})"
            continue
        if [found.st_size, found.st_mtime_ns] != then:
            yield f"disk image {path} was written since"
