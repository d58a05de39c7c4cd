# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Dirty bitmaps, which incremental backups are made from: one that is lost, or misses a write, breaks the chain of backups.

QEMU has a migration capability for them, dirty-bitmaps; cpr-transfer refuses it ("Cannot use postcopy with CPR": it counts as
post-copy; QEMU 10.0 to 11.1). What is left is the image: the old QEMU stores its persistent bitmaps as it gives the image up, and
the new one loads them as it takes the image (docs/interop/qcow2.txt). Others exist in one QEMU only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .qmp import Qmp


@dataclass(frozen=True)
class Bitmap:
    """One bitmap with a name. ``image`` is the path of its node's image; ``granularity`` in bytes."""

    node: str
    image: str
    name: str
    granularity: int
    recording: bool
    persistent: bool
    busy: bool
    inconsistent: bool


async def dirty_bitmaps(qmp: Qmp) -> list[Bitmap]:
    """All bitmaps but those without a name, which block jobs keep for themselves."""
    nodes = await qmp.execute("query-named-block-nodes", flat=True)
    return [_bitmap(node, item) for node in nodes for item in node.get("dirty-bitmaps", []) if item.get("name")]


def _bitmap(node: dict[str, Any], item: dict[str, Any]) -> Bitmap:
    return Bitmap(
        node=node["node-name"],
        image=node["file"],
        name=item["name"],
        granularity=item["granularity"],
        recording=item["recording"],
        persistent=item["persistent"],
        busy=item["busy"],
        inconsistent=item.get("inconsistent", False),
    )


def disk_of(bitmap: Bitmap, disks: dict[str, list[dict[str, Any]]]) -> str:
    """The disk that a bitmap's image belongs to, from an inventory; empty when it is none's."""
    return next(
        (key for key, chain in sorted(disks.items()) if any(item["path"] == bitmap.image for item in chain)), ""
    )


def lost_bitmaps(before: list[Bitmap], after: list[Bitmap]) -> list[str]:
    """Which of the bitmaps that were there before are not there any more, or not as they were; one sentence each.

    Nodes may have got other names; images have not.
    """
    now = {(item.image, item.name): item for item in after}
    found = []
    for bitmap in before:
        other = now.get((bitmap.image, bitmap.name))
        if other is None:
            found.append(f"Dirty bitmap {bitmap.name} of {bitmap.image} is gone: the next backup has to be a full one.")
        elif _state(other) != _state(bitmap):
            found.append(
                f"Dirty bitmap {bitmap.name} of {bitmap.image} is not what it was: the next backup has to be a full one."
            )
    return found


def _state(bitmap: Bitmap) -> tuple[Any, ...]:
    return bitmap.granularity, bitmap.recording, bitmap.persistent, bitmap.inconsistent
