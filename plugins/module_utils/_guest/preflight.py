# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What would make a live update fail, or corrupt the guest, by whichever method; found while the guest still runs in the old QEMU."""

from __future__ import annotations

from typing import Any

from .._host.files import identity
from .._host.processes import open_files
from .bitmaps import Bitmap, dirty_bitmaps, disk_of
from .config import Config
from .definition import Definition, parse_definition
from .device_names import resolved
from .disks import live_images
from .errors import HostmemError, Refused, refuse
from .generations import Generation
from .inventory import differences, inventory
from .nics import slow_bridges
from .qemu_binary import QemuBinary, probe
from .qmp import Qmp


class Preflight:
    """What was found out about one running guest; ``blockers`` are what hinders every method of a live update.

    ``definition`` is the one that the guest runs with, its namespaces resolved as they are now.
    """

    def __init__(self, generation: Generation, definition: Definition) -> None:
        self.generation = generation
        self.definition = definition
        self.blockers: list[Refused] = []
        self.status = ""
        self.running_version: tuple[int, int, int] = (0, 0, 0)
        self.running_package = ""
        self.installed: QemuBinary = QemuBinary(definition.qemu, 0, 0, (0, 0, 0), "", [], [])
        self.images: dict[str, dict[str, str]] = {}
        self.live: dict[str, Any] = {}
        self.bitmaps: list[Bitmap] = []

    def block(self, message: str, cause: str = "", cure: str = "") -> None:
        self.blockers.append(Refused(message, cause, cure))

    def refuse(self) -> None:
        """:raises Refused: with all blockers, when there are any."""
        refuse(self.blockers)


async def preflight(config: Config, generation: Generation, qmp: Qmp) -> Preflight:
    """Examine the guest and the installed QEMU; what a single method needs is examined in update_methods.

    :raises HostmemError: QEMU does not answer.
    """
    found = await examine(generation, qmp)
    if found.status not in ("running", "paused"):
        found.block(
            f"Guest {found.definition.name} is {found.status}, neither running nor paused.",
            cure="Bring it to run first.",
        )
    _installed(found, config)
    _network(found)
    return found


async def examine(generation: Generation, qmp: Qmp) -> Preflight:
    """What another QEMU would have to be like, and what no other QEMU can take over, however the guest gets there.

    :raises HostmemError: QEMU does not answer.
    """
    definition = parse_definition(generation.record["definition"])
    found = Preflight(generation, definition)
    found.status = await qmp.status()
    await _running_version(found, qmp)
    found.live = await inventory(qmp)
    _devices(found)
    _drift(found)
    try:
        found.images = live_images(definition, found.live)
    except Refused as refusal:
        found.blockers.append(refusal)
    _images(found)
    await _jobs(found, qmp)
    await _exports(found, qmp)
    await _bitmaps(found, qmp)
    return found


async def _running_version(found: Preflight, qmp: Qmp) -> None:
    answer = await qmp.execute("query-version")
    numbers = answer["qemu"]
    found.running_version = (numbers["major"], numbers["minor"], numbers["micro"])
    found.running_package = answer.get("package", "")


def _installed(found: Preflight, config: Config) -> None:
    try:
        found.installed = probe(found.definition.qemu, f"{config.run}/.probe")
    except HostmemError as error:
        found.blockers.append(Refused(error.message, error.cause, error.cure, error.qemu))
        return
    new = found.installed
    if found.definition.machine not in new.machines:
        found.block(
            f"QEMU {new.version_text} has no machine type {found.definition.machine} any more.",
            "Old machine types are removed after some releases.",
            "Keep the older QEMU until the guest can be restarted with a newer machine type.",
        )


def _devices(found: Preflight) -> None:
    """A namespace must be the device that the guest has: by its name it could be another one since."""
    try:
        found.definition = resolved(found.definition)
    except Refused as refusal:
        found.blockers.append(refusal)
        return
    mapped = {block["name"]: block["file"] for block in found.generation.record.get("ram_blocks", [])}
    named = [(block.id, block.namespace, block.device) for block in found.definition.blocks]
    named += [(nvdimm.id, nvdimm.namespace, nvdimm.path) for nvdimm in found.definition.nvdimms]
    for identifier, namespace, device in named:
        file = mapped.get(identifier)
        if namespace and file and (identity(device) or (0, 0))[1] != file["inode"]:
            found.block(
                f"Namespace {namespace} is {device} now, and the guest's {identifier} lies on {file['path']}.",
                "The new QEMU would open another device.",
                "Give the namespace its name back, or restart the guest.",
            )


def _drift(found: Preflight) -> None:
    """The running QEMU against what it was when it was started. The definition's disks are followed instead, I/O limits carried over."""
    own = {disk.id for disk in found.definition.disks}
    for difference in differences(_lasting(found.generation.record["inventory"], own), _lasting(found.live, own)):
        found.block(
            f"Guest {found.definition.name} was changed since its start: {_as_change(difference)}.",
            "A new QEMU started from the definition would lack the change, and the guest's state would not fit it.",
            "Undo the change (device_del, object-del, eject), or put it into the definition and restart the guest.",
        )


def _as_change(difference: str) -> str:
    return (
        difference.replace("is in the running guest only", "was removed")
        .replace("is not in the running guest", "was added")
        .replace("in the running guest,", "at the start,")
        .replace("otherwise", "now")
    )


def _lasting(whole: dict[str, Any], disks: set[str]) -> dict[str, Any]:
    """An inventory without what may change while a guest runs."""
    others = {key: value for key, value in whole.get("disks", {}).items() if key not in disks}
    return {**whole, "disks": others, "io_limits": {}}


def _images(found: Preflight) -> None:
    """Each image must be the file that the running QEMU has open, not another one of this name."""
    opened = open_files(found.generation.alive.pid)
    for disk, chain in sorted(found.live["disks"].items()):
        for image in chain:
            if image["identity"] is not None and tuple(image["identity"]) not in opened:
                found.block(
                    f"{image['path']} is not the image that disk {disk} of guest {found.definition.name} has open.",
                    "It was replaced since; the next QEMU would open the new file.",
                    "Put the right file back at this path.",
                )


def _network(found: Preflight) -> None:
    for bridge, delay in slow_bridges(found.definition):
        found.block(
            f"Bridge {bridge} lets a new port forward only after {delay:g} s.",
            "The new QEMU uses another tap, and the guest would be cut off for that time.",
            f"Turn spanning tree off (ip link set {bridge} type bridge stp_state 0), and for good where the bridge is configured.",
        )


async def _jobs(found: Preflight, qmp: Qmp) -> None:
    for job in await qmp.execute("query-jobs"):
        if job["status"] not in ("concluded", "null"):
            found.block(
                f"The {job['type']} job {job['id']} is {job['status']}.",
                "A job lives in one QEMU and would be cut off.",
                "Wait for it, or cancel it (job-cancel).",
            )
    status = str((await qmp.migration()).get("status", "none"))
    if status in ("setup", "active", "device", "pre-switchover", "cancelling", "postcopy-active", "postcopy-paused"):
        found.block(
            f"A migration of guest {found.definition.name} is under way ({status}).", cure="Wait for it, or cancel it."
        )


async def _exports(found: Preflight, qmp: Qmp) -> None:
    for export in await qmp.execute("query-block-exports"):
        found.block(
            f"The {export['type']} export {export['id']} of node {export['node-name']} is in use.",
            "An export lives in one QEMU and its clients would be cut off.",
            "Wait for its clients, then end it (block-export-del).",
        )


async def _bitmaps(found: Preflight, qmp: Qmp) -> None:
    found.bitmaps = await dirty_bitmaps(qmp)
    for bitmap in found.bitmaps:
        named = f"dirty bitmap {bitmap.name} of disk {disk_of(bitmap, found.live['disks'])} (node {bitmap.node})"
        if not bitmap.persistent:
            found.block(
                f"The {named} is not persistent.",
                "QEMU cannot hand it over in a live update (cpr-transfer excludes the capability dirty-bitmaps); the chain of backups would break.",
                "In a qcow2 image, add a persistent bitmap and merge this one into it (block-dirty-bitmap-add, -merge), for the backups to"
                " go on with; then, or to begin with a full backup, remove it (block-dirty-bitmap-remove).",
            )
        elif bitmap.busy:
            found.block(
                f"The {named} is in use.",
                "What uses it lives in one QEMU and would be cut off.",
                "Wait for the backup to end.",
            )
