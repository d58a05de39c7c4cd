# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the source of a move tells of its guest, and the destination's QEMU held against it, before a byte of memory is sent.

QEMU checks some of it in the middle of the move, and some not at all: capabilities that differ corrupt memory without a word.
"""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass
from typing import Any

from .._host.file_identity import file_identity
from .._host.mounts import mount_of
from .comparison import queue_differences, queue_sizes
from .definition import Definition, parse_definition
from .errors import HostmemError
from .inventory import differences, inventory, nameless, ram_blocks
from .move_credentials import ADMITTED_ID, QEMU_ID
from .qemu_binary import QemuBinary
from .qmp import Qmp

SCHEMA = 1
PRECOPY, POSTCOPY = "precopy", "postcopy"
METHODS = (POSTCOPY, PRECOPY)
_BLOCK_KEYS = ("used", "total", "page_size")
_GIGANTIC = 1 << 30
_UUID = re.compile("[0-9a-f]{8,}")


@dataclass(frozen=True)
class Terms:
    """One guest that is to move. ``definition`` is the one that it runs with; ``images`` what its images are, by path."""

    guest: str
    method: str
    was_running: bool
    definition: dict[str, Any]
    version: list[int]
    inventory: dict[str, Any]
    ram_blocks: dict[str, dict[str, int]]
    queue_sizes: dict[str, int]
    images: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}


def parse_terms(data: Any) -> Terms:
    """:raises HostmemError: another release speaks another language."""
    content = dict(data) if isinstance(data, dict) else {}
    schema = content.pop("schema", None)
    try:
        if schema != SCHEMA:
            raise TypeError(f"schema {schema!r}")
        return Terms(**content)
    except TypeError as error:
        raise HostmemError(
            "The source's runtime cannot be understood.",
            cause=str(error),
            cure="Install the same release of the runtime on both hosts (role hypervisor).",
        ) from error


async def named_blocks(qmp: Qmp) -> dict[str, dict[str, int]]:
    """All RAMBlocks with a name, as they have to be on both sides; bytes."""
    return {block["name"]: {key: block[key] for key in _BLOCK_KEYS} for block in await ram_blocks(qmp) if block["name"]}


def image_identities(live: dict[str, Any]) -> dict[str, str]:
    """Of an inventory: the images that are files, each with what tells it from others on all hosts that share its file system."""
    images = {image["path"] for chain in live["disks"].values() for image in chain if image["identity"] is not None}
    return {path: _identity(path) for path in images if os.path.isfile(path)}


def _identity(path: str) -> str:
    """A file system that has no UUID, such as one of a server's, is known by what is mounted; servers have several names."""
    try:
        found = file_identity(os.path.realpath(path))
        mount = mount_of(path)
    except OSError as error:
        return f"a file that cannot be looked at ({error.strerror})"
    file_system = found.file_system
    if mount is not None and not _UUID.fullmatch(file_system) and ":" in mount.source:
        file_system = f"{mount.source.rpartition(':')[2]} of a server"
    return f"inode {found.inode} generation {found.generation} of {file_system}"


async def problems(terms: Terms, name: str, definition: Definition, binary: QemuBinary, qmp: Qmp) -> list[str]:
    """Everything that speaks against the move, as far as the destination can tell; one sentence each."""
    theirs = parse_definition(terms.definition)
    found = [] if terms.guest == name else [f"{name} is waited for here, not {terms.guest}"]
    found += differences(_portable(theirs), _portable(definition))
    if binary.version < tuple(terms.version):
        version = ".".join(map(str, terms.version))
        found.append(f"QEMU {binary.version_text} here is older than {version}, in which the guest runs")
    ours = await inventory(qmp)
    for added in (QEMU_ID, ADMITTED_ID):  # of an earlier question
        ours["objects"].pop(added, None)
    both = terms.inventory.keys() & ours.keys()  # another release may have asked for more, or less
    found += differences(nameless(terms.inventory, both), nameless(ours, both))
    found += queue_differences(terms.queue_sizes, await queue_sizes(qmp))
    found += _block_differences(terms.ram_blocks, await named_blocks(qmp))
    here = image_identities(ours)  # and nothing else that the source may name
    found += [
        f"{path} is another file here than there"
        for path, there in sorted(terms.images.items())
        if here.get(path) != there
    ]
    if terms.method == POSTCOPY and any(block["page_size"] >= _GIGANTIC for block in terms.ram_blocks.values()):
        found.append("post-copy with pages of 1 GiB would let the guest wait for seconds at each of them")
    return found


def _portable(definition: Definition) -> dict[str, Any]:
    """What does not belong to a host. The rest is asked of QEMU."""
    whole = definition.as_dict()
    return {
        **{
            key: whole.get(key)
            for key in ("machine", "accel", "cpu", "arguments", "video", "vnc", "guest_agent", "kernel")
        },
        "blocks": _parts(whole["memory"]["blocks"], ("size", "numa_node")),
        "drives": _parts(whole["disks"], ("path", "format", "interface", "read_only", "shared")),
        "nics": _parts(whole["nics"], ("type", "mac", "model", "queues")),
        "consoles": _parts(whole["consoles"], ("type", "to")),
    }


def _parts(items: list[dict[str, Any]], keys: tuple[str, ...]) -> dict[str, Any]:
    return {item["id"]: {key: item.get(key) for key in keys} for item in items}


def _block_differences(theirs: dict[str, dict[str, int]], ours: dict[str, dict[str, int]]) -> list[str]:
    return [
        f"RAMBlock {name} has {key} {block[key]:#x} in the running guest, {ours[name][key]:#x} otherwise"
        for name, block in sorted(theirs.items())
        if name in ours  # others differ in the inventory
        for key in _BLOCK_KEYS
        if block[key] != ours[name][key]
    ]
