# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Following a running guest onto the images that snapshots moved it to.

A snapshot taken while the guest runs makes an overlay its live image. The next QEMU has to open that overlay; with the old
arguments it would silently write to the base, and the guest's newer data would be gone.
"""

from __future__ import annotations

from typing import Any

from .._host.files import identity, read_json, write_json
from .definition import Definition
from .errors import Refused
from .paths import GuestPaths


def followed_images(paths: GuestPaths, definition: Definition) -> dict[str, dict[str, str]]:
    """Images other than the definition's that disks have moved to, ``{"d0": {"path": …, "format": …}}``.

    An entry counts only while the definition still names the image it started from: a changed definition is the user's word.
    """
    kept = read_json(paths.followed_disks) or {}
    current = {disk.id: disk.path for disk in definition.disks}
    return {
        key: {"path": item["path"], "format": item["format"]}
        for key, item in kept.items()
        if current.get(key) == item["from"]
    }


def remember_images(paths: GuestPaths, definition: Definition, images: dict[str, dict[str, str]]) -> None:
    """Keep where the disks are now, across reboots of the host."""
    start = {disk.id: disk.path for disk in definition.disks}
    wanted = {
        key: {**image, "from": start[key]}
        for key, image in images.items()
        if key in start and image["path"] != start[key]
    }
    if wanted != (read_json(paths.followed_disks) or {}):
        write_json(paths.followed_disks, wanted)


def live_images(definition: Definition, running: dict[str, Any]) -> dict[str, dict[str, str]]:
    """The image each disk of the definition writes to now, from an inventory of the running QEMU.

    :raises Refused: a disk is gone, or its live image is nothing the next QEMU could open by a path.
    """
    images = {}
    for disk in definition.disks:
        chain = running.get("disks", {}).get(disk.id)
        if not chain:
            raise Refused(
                f"Disk {disk.id} of guest {definition.name} is not in the running QEMU any more.",
                cause="It was unplugged or ejected since the start.",
                cure="Plug it in again, or restart the guest with a definition without it.",
            )
        top = chain[0]
        if not str(top["path"]).startswith("/") or top["identity"] is None or top["format"] not in ("qcow2", "raw"):
            raise Refused(
                f"Disk {disk.id} of guest {definition.name} runs on {top['path']} ({top['driver']}), which another QEMU cannot open by a path.",
                cause="The block graph was changed since the start.",
                cure="Bring the disk back to a plain image (end mirrors and throttles, commit), then update.",
            )
        if identity(top["path"]) is None:
            raise Refused(
                f"The image {top['path']} of disk {disk.id} was moved or removed under the guest.",
                cure="Put it back at this path.",
            )
        images[disk.id] = {"path": str(top["path"]), "format": str(top["format"])}
    return images
