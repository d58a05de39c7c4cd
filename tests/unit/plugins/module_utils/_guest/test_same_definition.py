# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A definition is the same in a later release, whose new keys have their defaults; anything else makes it another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.definition import (
    Definition,
    Disk,
    Nic,
    parse_definition,
)
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.manifest import definition_digest, layout_digest
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.memory_block import MemoryBlock
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.nvdimm import Nvdimm
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.same_definition import is_same

from .definitions import CONSOLE, DISK, NIC, definition, without

WHOLE = definition(
    nvdimms=[{"id": "nv0", "path": "/srv/nv0", "size": "2M"}],
    disks=[DISK],
    nics=[NIC],
    consoles=[CONSOLE],
    kernel={"image": "/srv/kernel"},
)


@dataclass(frozen=True)
class LaterNic(Nic):
    limit: int | None = None


@dataclass(frozen=True)
class LaterBlock(MemoryBlock):
    lock: bool = False


@dataclass(frozen=True)
class LaterNvdimm(Nvdimm):
    unarmed: bool = False


@dataclass(frozen=True)
class LaterDisk(Disk):
    serial: str = ""


@dataclass(frozen=True)
class LaterDefinition(Definition):
    on_crash: str = "restart"
    labels: list[str] = field(default_factory=list)


def guest(**changes: Any) -> Definition:
    return parse_definition({**WHOLE, **changes})


def of(later: type, value: Any, **changes: Any) -> Any:
    """The same as an object of another class."""
    return later(**{item.name: getattr(value, item.name) for item in fields(value)}, **changes)


def later(**changes: Any) -> Definition:
    """The whole guest in a release with a new key of each kind."""
    old = guest()
    parts = {
        "blocks": [of(LaterBlock, item) for item in old.blocks],
        "nvdimms": [of(LaterNvdimm, item) for item in old.nvdimms],
        "nics": [of(LaterNic, item) for item in old.nics],
        "disks": [of(LaterDisk, item) for item in old.disks],
    }
    changed: Definition = replace(of(LaterDefinition, old), **{**parts, **changes})
    return changed


def test_new_keys_with_their_defaults_change_no_digest() -> None:
    assert definition_digest(later()) == definition_digest(guest())
    assert layout_digest(later()) == layout_digest(guest())


def test_any_other_value_of_a_new_key_does() -> None:
    old = guest()
    others = [
        later(on_crash="stop"),
        later(labels=["db"]),
        later(blocks=[of(LaterBlock, old.blocks[0], lock=True)]),
        later(nvdimms=[of(LaterNvdimm, old.nvdimms[0], unarmed=True)]),
        later(nics=[of(LaterNic, old.nics[0], limit=0)]),
        later(disks=[of(LaterDisk, old.disks[0], serial="x")]),
    ]
    digests = [definition_digest(item) for item in [old, *others]]
    assert len(set(digests)) == len(digests)
    moved = [layout_digest(item) for item in [old, *others[2:5]]]
    assert len(set(moved)) == len(moved)


def changes_of(value: Any) -> Iterator[tuple[str, Any]]:
    """An object with one field changed, for each field, and for each field of what it holds."""
    for item in fields(value):
        held = getattr(value, item.name)
        for name, changed in other_values(held):
            yield f"{item.name}{name}", replace(value, **{item.name: changed})


def other_values(held: Any) -> Iterator[tuple[str, Any]]:
    if is_dataclass(held):
        yield from ((f".{name}", changed) for name, changed in changes_of(held))
    elif isinstance(held, bool):
        yield "", not held
    elif isinstance(held, (int, float)):
        yield "", held + 4096
    elif isinstance(held, str):
        yield "", f"{held}x"
    elif held is None:
        yield "", 4096
    else:
        yield "[+]", [*held, *(held[:1] or [1])]
        for number, element in enumerate(held):
            yield f"[{number}-]", [*held[:number], *held[number + 1 :]]
            for name, changed in other_values(element):
                yield f"[{number}]{name}", [*held[:number], changed, *held[number + 1 :]]


CHANGES = dict(changes_of(guest()))


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_changes_the_digest(name: str) -> None:
    assert definition_digest(CHANGES[name]) != definition_digest(guest())
    moves = name.startswith(("blocks", "nvdimms", "nics"))
    assert (layout_digest(CHANGES[name]) != layout_digest(guest())) == moves


def test_all_changes_have_digests_of_their_own() -> None:
    assert len({definition_digest(item) for item in CHANGES.values()}) == len(CHANGES)


def test_the_digests_that_lie_on_hosts() -> None:
    """Of guests saved by 1.0.0: whoever has to change these makes them unrestorable."""
    assert definition_digest(guest()) == "9852072ac3b0442aad246bf927dd3856ae69b225d56a31b3fe7ec22b79a42639"
    assert layout_digest(guest()) == "d69b459a1eacee09ef8ac6a8885ab25436b6df158a09d687e9b5e5e80e9400b5"


def test_what_an_earlier_release_kept_is_the_same() -> None:
    """It knew neither max_pause nor on_power_cut, and its disks had no discard."""
    kept = without(guest().as_dict(), "max_pause", "on_power_cut")
    kept["disks"] = [without(disk, "discard") for disk in kept["disks"]]
    assert is_same(kept, guest())
    assert not is_same(kept, guest(max_pause=3))
    assert not is_same(kept, guest(disks=[{**DISK, "discard": True}]))


@pytest.mark.parametrize("kept", [None, {}, {**definition(), "unknown": 1}])
def test_what_this_release_could_not_define_is_another(kept: Any) -> None:
    assert not is_same(kept, guest())
