# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a saved guest's device state belongs to, written beside it. Pure: no I/O.

QEMU's own state has no checksum: a flipped bit or three missing bytes load without an error, and so does a state that is older
than the memory it is loaded to (QEMU 10.0 to 11.1). The manifest has what it takes to refuse that, and a checksum of itself.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from .definition import Definition
from .errors import HostmemError
from .layout import layout
from .same_definition import distinct

SCHEMA = 1


@dataclass(frozen=True)
class SavedBlock:
    """One memory block. ``copied``: its content is in the state; otherwise it stays in ``place``, which is known by ``identity``."""

    id: str
    place: str
    size: int
    copied: bool
    identity: dict[str, Any]


@dataclass(frozen=True)
class Manifest:
    """``saved_at`` in seconds since the epoch; ``token`` names the marks beside the memory; sizes in bytes.

    ``definition``, ``argv``, ``inventory`` are the record of the QEMU that saved; ``defined`` is the digest of the definition that
    lay on the host then, which may have been edited since the guest's start. ``images`` are what disks' files were, by path.
    ``wake``: the guest was suspended for the save, and is woken afterwards. ``ignore_shared`` is QEMU's capability x-ignore-shared,
    which has to be the same when the state is loaded. A field that a later release adds needs a default.
    """

    guest: str
    token: str
    saved_at: float
    boot_id: str
    generation: int
    was_running: bool
    wake: bool
    qemu: dict[str, str]
    definition: dict[str, Any]
    defined: str
    layout: str
    argv: list[str]
    inventory: dict[str, Any]
    queue_sizes: dict[str, int]
    images: dict[str, list[int]]
    blocks: list[SavedBlock]
    ignore_shared: bool
    state_size: int
    state_sha256: str

    @property
    def copied_bytes(self) -> int:
        return sum(block.size for block in self.blocks if block.copied)

    @property
    def in_place_bytes(self) -> int:
        return sum(block.size for block in self.blocks if not block.copied)

    def to_bytes(self) -> bytes:
        """The file: its own digest in the first line, then JSON."""
        text = json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1, sort_keys=True) + "\n"
        body = text.encode()
        return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def parse_manifest(data: bytes) -> Manifest:
    """Read a manifest back.

    :raises HostmemError: a bit or a byte of it is not what was written, or another version wrote it.
    """
    head, _newline, body = data.partition(b"\n")
    if head != hashlib.sha256(body).hexdigest().encode():
        raise HostmemError(
            "The manifest is damaged.",
            cause="It does not have the digest in its first line.",
            cure="Put the file back from a copy.",
        )
    content = json.loads(body)
    schema = content.pop("schema", None)
    if schema != SCHEMA:
        raise HostmemError(
            "The manifest was written by another release.",
            cause=f"It has schema {schema!r}; this runtime reads {SCHEMA}.",
            cure="Install the release of hostmem.qemu that saved the guest.",
        )
    blocks = [SavedBlock(**block) for block in content.pop("blocks")]
    return Manifest(blocks=blocks, **content)


def digest(data: Any) -> str:
    """SHA-256 of anything JSON-able, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def definition_digest(definition: Definition) -> str:
    """The same in each release that can read the definition, whatever keys it adds."""
    return digest(distinct(definition.as_written))


def layout_digest(definition: Definition) -> str:
    """Of where all memory lies: what root prepares for a saved guest by the definition on the host must be what the guest ran with."""
    definition = definition.as_written
    places = [[distinct(placed.block), placed.offset, placed.path] for placed in layout(definition)]
    return digest([places, distinct(definition.nvdimms), distinct(definition.nics)])
