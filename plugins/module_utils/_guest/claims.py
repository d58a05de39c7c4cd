# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a guest's definition takes for itself alone: RAM files, parts of devices, NVDIMMs. Two guests on one memory destroy each other.

Disks are not among them: QEMU locks images itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from .config import Config
from .definition import Definition
from .errors import HostmemError, Refused
from .layout import layout
from .paths import guest_paths
from .store import guest_names, load_guest


@dataclass(frozen=True)
class Claim:
    """Bytes of a file or device."""

    place: str
    start: int
    length: int

    def meets(self, other: Claim) -> bool:
        """Whether the two share a byte."""
        return (
            self.place == other.place
            and self.start < other.start + other.length
            and other.start < self.start + self.length
        )


def claims(definition: Definition) -> Iterator[Claim]:
    """What the guest writes to. A file that is opened by its name (``mode: open``) may be meant for several, one at a time."""
    for placed in layout(definition):
        block = placed.block
        if block.mode == "create" and (placed.path or block.device):
            yield Claim(placed.path or block.device, block.offset or 0, block.size)
    for nvdimm in definition.nvdimms:
        if not nvdimm.read_only:
            yield Claim(nvdimm.path, 0, nvdimm.size)


def refuse_shared(config: Config, definition: Definition) -> None:
    """Hold a definition against those of the other guests on this host.

    :raises Refused: another guest writes to the same.
    """
    wanted = list(claims(definition))
    texts = {json.dumps(text)[1:-1] for text in _words(definition)}
    for name in guest_names(config) if wanted else []:
        if name == definition.name or not _mentions(guest_paths(config, name).definition, texts):
            continue
        others = _claims_of(config, name)
        for claim in wanted:
            if any(claim.meets(other) for other in others):
                raise Refused(
                    f"Guest {name} has {claim.place} already, which guest {definition.name} would write to.",
                    cause="Two guests on one memory destroy each other.",
                    cure=f"Choose another place, or remove guest {name}.",
                )


def _words(definition: Definition) -> set[str]:
    """What stands in a definition that claims the same."""
    found = {block.directory or block.device for block in definition.blocks}
    return {word for word in found | {nvdimm.path for nvdimm in definition.nvdimms} if word}


def _mentions(path: str, texts: set[str]) -> bool:
    """Whether a stored definition is worth reading: there can be hundreds, nearly all of them with other places."""
    try:
        with open(path, encoding="utf-8") as file:
            whole = file.read()
    except OSError:
        return False
    return any(text in whole for text in texts)


def _claims_of(config: Config, name: str) -> list[Claim]:
    try:
        return list(claims(load_guest(guest_paths(config, name)).definition))
    except HostmemError:  # broken, or of another schema: that guest cannot start
        return []
