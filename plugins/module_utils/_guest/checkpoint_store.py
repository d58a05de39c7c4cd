# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a saved guest's device state lies, and how it comes to count, and to count no more. What a power cut leaves is one of these:

``checkpoint.new``    being written; counts for nothing.
``checkpoint``        the guest is saved. By a rename it becomes so, and by a rename it ceases to be.
``checkpoint.spent``  the guest may have run again since: this state is older than its memory and must never be loaded.

A mark of the checkpoint's token lies beside the memory that stayed in place, and names its files. It goes before the guest runs again, so
that a copy of the state which somebody puts back later fits no memory any more. Devices have no place for marks: the tokens of
checkpoints that were spent, or given up, are kept, too.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress

from .._host.durable import remove_durably, rename_durably, sync_directory, sync_file, write_new
from .._host.files import read_plain, remove_file, write_json
from .definition import Definition
from .errors import HostmemError, Refused
from .layout import layout, parse_file_name
from .manifest import Manifest, parse_manifest
from .paths import GuestPaths

STATE = "state"
_MANIFEST = "manifest"
_DRAFT = "draft"
_MARK = "hostmem_checkpoint."
# What a manifest that is not what was written can lead to.
_UNREADABLE = (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError, HostmemError)


def is_saved(paths: GuestPaths) -> bool:
    """Whether there is a checkpoint; nothing is read of it."""
    return os.path.isdir(paths.checkpoint)


def counts(paths: GuestPaths) -> bool:
    """The same without a copy that somebody put back while the guest runs, which says nothing of it."""
    return is_saved(paths) and not is_stale(paths)


def is_spent(paths: GuestPaths) -> bool:
    """Whether a guest was being restored when its host, or its QEMU, went down."""
    return os.path.isdir(paths.spent_checkpoint)


def state_path(directory: str) -> str:
    """QEMU's state in a checkpoint's directory."""
    return f"{directory}/{STATE}"


def begin(paths: GuestPaths) -> str:
    """An empty directory for a checkpoint that is to be written. A stale copy is not left in its way."""
    if is_stale(paths):
        shutil.rmtree(paths.checkpoint)
    shutil.rmtree(paths.unfinished_checkpoint, ignore_errors=True)
    os.mkdir(paths.unfinished_checkpoint, 0o700)
    return paths.unfinished_checkpoint


def keep_draft(paths: GuestPaths, draft: Manifest) -> None:
    """What is known of a checkpoint before QEMU writes its state, for whoever has to finish the save of a guest that sleeps."""
    write_new(f"{paths.unfinished_checkpoint}/{_DRAFT}", draft.to_bytes())


def load_draft(paths: GuestPaths) -> Manifest:
    """:raises HostmemError: it cannot be read."""
    path = f"{paths.unfinished_checkpoint}/{_DRAFT}"
    try:
        return parse_manifest(read_plain(path))
    except _UNREADABLE as error:
        raise HostmemError(
            f"{path} cannot be read: the save of guest {paths.name} cannot be finished.",
            cause=getattr(error, "cause", "") or str(error),
            cure="Its QEMU holds the guest as it was saved, and cannot let it go on. Report this with both.",
        ) from error


def abandon(paths: GuestPaths, definition: Definition) -> None:
    """Remove what was written of a checkpoint that will not count."""
    shutil.rmtree(paths.unfinished_checkpoint, ignore_errors=True)
    _remove_marks(paths, memory_directories(definition))


def complete(paths: GuestPaths, manifest: Manifest) -> list[str]:
    """Put the manifest beside the state, and the marks beside the memory: files and directories that have to be on their devices
    before ``commit``.

    :raises OSError: no space.
    """
    directory = paths.unfinished_checkpoint
    remove_file(f"{directory}/{_MANIFEST}")  # of an attempt that was cut off after this
    write_new(f"{directory}/{_MANIFEST}", manifest.to_bytes())
    return [f"{directory}/{_MANIFEST}", directory, *_make_marks(manifest)]


def commit(paths: GuestPaths) -> None:
    """From here on the guest is saved, whether the new name is on its device yet or not: ``paths.state`` still has to be brought there.
    Everything else is there already.
    """
    os.rename(paths.unfinished_checkpoint, paths.checkpoint)


def load(paths: GuestPaths) -> Manifest | None:
    """The manifest of a saved guest; None when it is not saved.

    :raises Refused: something is saved which cannot be restored.
    """
    try:
        return parse_manifest(read_plain(f"{paths.checkpoint}/{_MANIFEST}"))
    except (FileNotFoundError, NotADirectoryError) as error:
        if not is_saved(paths):
            return None
        raise _damaged(paths, str(error)) from error
    except _UNREADABLE as error:
        raise _damaged(paths, getattr(error, "cause", "") or str(error), getattr(error, "cure", "")) from error


def _damaged(paths: GuestPaths, cause: str, cure: str = "") -> Refused:
    return Refused(
        f"Guest {paths.name} is saved, but the manifest in {paths.checkpoint} is damaged.",
        cause=cause,
        cure=f"{cure or 'Put the file back from a copy.'} Or give the saved guest up and start it anew: hostmem discard {paths.name}",
    )


def refuse_spent(paths: GuestPaths) -> None:
    """:raises Refused: a restore of the guest was cut off when it may have run already."""
    if is_spent(paths):
        raise Refused(
            f"Guest {paths.name} was being restored when its QEMU or its host went down; it may have run since.",
            cause="Its state would not fit what its memory has become.",
            cure=f"Give the saved guest up and start it anew: hostmem discard {paths.name}",
        )


def missing_marks(manifest: Manifest) -> list[str]:
    """Memory that stayed in place and has lost the mark of this checkpoint."""
    return [mark for mark in _marks(manifest) if not os.path.exists(mark)]


def spend(paths: GuestPaths, manifest: Manifest) -> None:
    """Right before the guest runs again; what an earlier call has done already is done again, to its device.

    :raises OSError: it is not known to be spent: the guest must not run.
    """
    if is_saved(paths):
        rename_durably(paths.checkpoint, paths.spent_checkpoint)
    else:
        sync_directory(paths.state)
    _write_spent(paths, {*_spent(paths), manifest.token})
    for mark in _marks(manifest):
        remove_durably(mark)
        sync_directory(os.path.dirname(mark))


def unspend(paths: GuestPaths, manifest: Manifest) -> None:
    """Take ``spend`` back, however far it came, for a guest that did not run."""
    for made in _make_marks(manifest):
        sync_file(made)
    _write_spent(paths, _spent(paths) - {manifest.token})
    if is_spent(paths):
        rename_durably(paths.spent_checkpoint, paths.checkpoint)


def load_spent(paths: GuestPaths) -> Manifest:
    """The manifest of a checkpoint that is being spent.

    :raises HostmemError: it cannot be read.
    """
    try:
        return parse_manifest(read_plain(f"{paths.spent_checkpoint}/{_MANIFEST}"))
    except _UNREADABLE as error:
        raise HostmemError(
            f"The manifest in {paths.spent_checkpoint} cannot be read.",
            cause=getattr(error, "cause", "") or str(error),
            cure=f"Give the saved guest up and start it anew: hostmem discard {paths.name}",
        ) from error


def was_spent(paths: GuestPaths, manifest: Manifest) -> bool:
    """Whether this is a copy of a checkpoint that was spent, or given up, before."""
    return manifest.token in _spent(paths)


def is_stale(paths: GuestPaths) -> bool:
    """Whether what lies there as a checkpoint is a copy that somebody put back after the guest had gone on."""
    try:
        manifest = load(paths)
    except HostmemError:
        return False
    return manifest is not None and (was_spent(paths, manifest) or bool(missing_marks(manifest)))


def _spent(paths: GuestPaths) -> set[str]:
    try:
        kept = json.loads(read_plain(paths.spent_tokens))
    except FileNotFoundError:
        return set()
    return set(kept)


def _write_spent(paths: GuestPaths, tokens: Iterable[str]) -> None:
    write_json(paths.spent_tokens, sorted(tokens))
    sync_file(paths.spent_tokens)
    sync_directory(paths.state)


def forget_spent(paths: GuestPaths, definition: Definition) -> None:
    """The guest runs."""
    _remove_marks(paths, memory_directories(definition))
    shutil.rmtree(paths.spent_checkpoint, ignore_errors=True)
    sync_directory(paths.state)


def discard_all(paths: GuestPaths, memory: Iterable[str]) -> bool:
    """Give a saved guest up, whatever is left of it: first the state, then the marks in these directories. True when there was something."""
    found = is_saved(paths)
    with suppress(HostmemError):  # a damaged one loads nowhere
        manifest = load(paths)
        if manifest is not None:
            _write_spent(paths, {*_spent(paths), manifest.token})
    if found:  # renamed first: half a checkpoint must not count
        shutil.rmtree(paths.spent_checkpoint, ignore_errors=True)
        rename_durably(paths.checkpoint, paths.spent_checkpoint)
    for directory in (paths.spent_checkpoint, paths.unfinished_checkpoint):
        if os.path.isdir(directory):
            found = True
            shutil.rmtree(directory)
    return _remove_marks(paths, memory) or found


def _remove_marks(paths: GuestPaths, memory: Iterable[str]) -> bool:
    marks = marks_in(paths, memory)
    for mark in marks:
        remove_durably(mark)
    return bool(marks)


def marks_in(paths: GuestPaths, memory: Iterable[str]) -> list[str]:
    """Marks of any checkpoint of this guest in directories of its memory."""
    found = []
    for directory in memory:
        with suppress(FileNotFoundError, NotADirectoryError):
            names = os.listdir(directory)
            found += [f"{directory}/{name}" for name in names if name.startswith(f"{_MARK}{paths.name}.")]
    return sorted(found)


def saved_in(path: str) -> str:
    """Which saved guest's memory a RAM file is; empty when it is none's. The guest's own marks count, too."""
    directory, name = os.path.split(path)
    with suppress(FileNotFoundError, NotADirectoryError):
        for entry in sorted(os.listdir(directory)):
            if entry.startswith(_MARK) and name in _names_in(f"{directory}/{entry}"):
                return entry.removeprefix(_MARK).rpartition(".")[0]
    return ""


def _names_in(mark: str) -> list[str]:
    try:
        return read_plain(mark).decode().split("\n")
    except (OSError, ValueError):
        return []


def memory_directories(definition: Definition) -> list[str]:
    """Where the guest's named RAM files lie."""
    return sorted({placed.block.directory for placed in layout(definition) if placed.path})


def _make_marks(manifest: Manifest) -> list[str]:
    """Those that are missing; they and their directories, none of which is on its device yet."""
    made = []
    for mark, names in _marks(manifest).items():
        if not os.path.exists(mark):
            write_new(mark, "\n".join(names).encode())
            made += [mark, os.path.dirname(mark)]
    return made


def _marks(manifest: Manifest) -> dict[str, list[str]]:
    """One in each directory with RAM files that stayed in place, with their names; a device has no place for one, and NVDIMMs are not ours."""
    found: dict[str, list[str]] = {}
    for block in manifest.blocks:
        directory, name = os.path.split(block.place)
        if not block.copied and parse_file_name(name):
            found.setdefault(f"{directory}/{_MARK}{manifest.guest}.{manifest.token}", []).append(name)
    return found
