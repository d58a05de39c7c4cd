# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Definitions kept on the host, and changes to them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .._host.cures import unreadable
from .._host.files import make_directory, read_json, remove_file, write_json
from .._host.pmem import Namespace
from .argv_check import check_argv
from .config import Config
from .definition import Definition, parse_definition
from .device_names import known_namespaces, lasting_name
from .errors import HostmemError, NotDefined, Refused
from .layout import layout
from .memory_block import MemoryBlock
from .paths import GuestPaths, guest_paths

SCHEMA = 1


@dataclass(frozen=True)
class StoredGuest:
    """A definition and the arguments (with placeholders) rendered from it."""

    definition: Definition
    argv: list[str]

    def as_dict(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "definition": self.definition.as_dict(), "argv": self.argv}


def check_guest(data: Any, argv: Any) -> StoredGuest:
    """Accept a definition with its arguments.

    :raises DefinitionError: with every problem.
    """
    definition = parse_definition(data)
    check_argv(definition, argv)
    return StoredGuest(definition, list(argv))


def load_guest(paths: GuestPaths) -> StoredGuest:
    """The definition kept on this host.

    :raises HostmemError: there is none, or it cannot be read.
    """
    found = _load(paths)
    if found is None:
        raise NotDefined(
            f"There is no guest {paths.name} on this host.",
            cause=f"{paths.definition} does not exist.",
            cure="Define it first.",
        )
    return found


def _load(paths: GuestPaths) -> StoredGuest | None:
    try:
        data = read_json(paths.definition)
    except (OSError, ValueError) as error:
        raise unreadable(paths.definition, error, "Define the guest again.") from error
    if data is None:
        return None
    if data.get("schema") != SCHEMA:
        raise HostmemError(
            f"{paths.definition} has schema {data.get('schema')!r}; this runtime reads {SCHEMA}.",
            cure="Define the guest again.",
        )
    return check_guest(data["definition"], data["argv"])


def guest_names(config: Config) -> list[str]:
    """All guests defined on this host."""
    try:
        names = os.listdir(config.definitions)
    except FileNotFoundError:
        return []
    return sorted(name[: -len(".json")] for name in names if name.endswith(".json"))


def is_changed(config: Config, wanted: StoredGuest) -> bool:
    """Whether this is another definition than the one on the host, and not only other arguments, as another release may render them."""
    present = _load(guest_paths(config, wanted.definition.name))
    return present is None or present.definition.as_written != wanted.definition.as_written


def define(config: Config, wanted: StoredGuest, carried: bool, check: bool) -> dict[str, Any]:
    """Keep a definition (as root). A running guest goes on with the one it was started with; the new one is pending until its next cold start.

    :param carried: a QEMU carries the guest now.
    :raises Refused: the change would rename RAM files that hold a running guest.
    """
    paths = guest_paths(config, wanted.definition.name)
    present = _load(paths)
    if carried and present is not None:
        _refuse_renaming(present, wanted)
    before = present.as_dict() if present else {}
    after = wanted.as_dict()
    changed = before != after
    if changed and not check:
        make_directory(config.definitions, 0o755, os.geteuid(), os.getegid())
        write_json(paths.definition, after, 0o644)
    return {
        "changed": changed,
        "diff": {"before": before, "after": after},
        "definition_pending": bool(changed and carried),
    }


def _refuse_renaming(present: StoredGuest, wanted: StoredGuest) -> None:
    known = known_namespaces() if any(block.on_device for block in present.definition.blocks) else []

    def places(guest: StoredGuest) -> dict[str, str]:
        """Where the blocks lie that have a file or device; a stop takes back what it finds in the definition then."""
        return {
            placed.block.id: placed.path or _part(placed.block, known)
            for placed in layout(guest.definition)
            if placed.path or placed.block.on_device
        }

    old, new = places(present), places(wanted)
    for name, path in old.items():
        if new.get(name) != path:
            raise Refused(
                f"Guest {wanted.definition.name} runs, and the new definition would move its RAM from {path} to {new.get(name, 'nothing')}.",
                cause="It holds the running guest's memory.",
                cure="Stop the guest first, or leave memory.blocks as they are.",
            )


def _part(block: MemoryBlock, known: Sequence[Namespace]) -> str:
    """The part of a device, the same by whatever name."""
    return f"{lasting_name(block.device or block.namespace, known)}+{block.offset or 0:#x}"


def undefine(config: Config, name: str, carried: bool, check: bool) -> dict[str, Any]:
    """Forget a definition (as root). The guest's disks are never touched.

    :raises Refused: the guest runs.
    """
    paths = guest_paths(config, name)
    present = _load(paths)
    if present is None:
        return {"changed": False, "diff": {"before": {}, "after": {}}}
    if carried:
        raise Refused(
            f"Guest {name} runs.", cause="A running guest's definition is not removed.", cure="Stop it first."
        )
    if not check:
        remove_file(paths.definition)
    return {"changed": True, "diff": {"before": present.as_dict(), "after": {}}}
