# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a guest's definition takes for itself alone: RAM files, parts of devices, NVDIMMs. Two guests on one memory destroy each other.

Disks are not among them: QEMU locks images itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .._host.pmem import Namespace
from .config import Config
from .definition import Definition
from .device_names import known_namespaces, lasting_name, names_of
from .errors import HostmemError, Refused
from .layout import layout
from .paths import guest_paths
from .store import guest_names, load_guest


@dataclass(frozen=True)
class Claim:
    """Bytes of a file or device: ``place`` is its path, or the UUID of a device's namespace, and ``called`` what the definition says."""

    place: str
    called: str
    start: int
    length: int

    def meets(self, other: Claim) -> bool:
        """Whether the two share a byte."""
        return (
            self.place == other.place
            and self.start < other.start + other.length
            and other.start < self.start + self.length
        )


def claims(definition: Definition, known: Sequence[Namespace]) -> Iterator[Claim]:
    """What the guest writes to. A file that is opened by its name (``mode: open``) may be meant for several, one at a time.

    :param known: the host's namespaces, as one device has several names.
    """

    def claim(place: str, start: int, length: int) -> Claim:
        return Claim(lasting_name(place, known), place, start, length)

    for placed in layout(definition):
        block = placed.block
        place = placed.path or block.device or block.namespace
        if block.mode == "create" and place:
            yield claim(place, block.offset or 0, block.size)
    for nvdimm in definition.nvdimms:
        if not nvdimm.read_only:
            yield claim(nvdimm.path or nvdimm.namespace, 0, nvdimm.size)


def refuse_shared(config: Config, definition: Definition) -> None:
    """Hold a definition against those of the other guests on this host.

    :raises Refused: another guest writes to the same.
    """
    known = known_namespaces()
    wanted = list(claims(definition, known))
    texts = {json.dumps(text)[1:-1] for text in _words(definition, known)}
    for name in guest_names(config) if wanted else []:
        if name == definition.name or not _mentions(guest_paths(config, name).definition, texts):
            continue
        others = _claims_of(config, name, known)
        for claim in wanted:
            if any(claim.meets(other) for other in others):
                raise Refused(
                    f"Guest {name} has {claim.called} already, which guest {definition.name} would write to.",
                    cause="Two guests on one memory destroy each other.",
                    cure=f"Choose another place, or remove guest {name}.",
                )


def _words(definition: Definition, known: Sequence[Namespace]) -> set[str]:
    """What stands in a definition that claims the same: one of the names of the place."""
    found = {block.directory or block.device or block.namespace for block in definition.blocks}
    found |= {nvdimm.path or nvdimm.namespace for nvdimm in definition.nvdimms}
    for item in known:
        if found & names_of(item):
            found |= names_of(item)
    return {word for word in found if word}


def _mentions(path: str, texts: set[str]) -> bool:
    """Whether a stored definition is worth reading: there can be hundreds, nearly all of them with other places."""
    try:
        with open(path, encoding="utf-8") as file:
            whole = file.read()
    except OSError:
        return False
    return any(text in whole for text in texts)


def _claims_of(config: Config, name: str, known: Sequence[Namespace]) -> list[Claim]:
    try:
        return list(claims(load_guest(guest_paths(config, name)).definition, known))
    except HostmemError:  # broken, or of another schema: that guest cannot start
        return []
