# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The new QEMU against the old one, both real and both asked, while the guest still runs in the old one.

QEMU checks little of this: it would fail while the guest is paused, or lose data without a word.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._host.processes import Process
from .errors import HostmemError
from .inventory import differences, inventory, mapped_files, ram_blocks
from .qmp import Qmp

# Queue 0 stands for a device: what changes queue sizes between QEMUs changes them all (a virtio-serial has 64).
_QUEUE = 0


@dataclass(frozen=True)
class Side:
    """One of the two QEMUs."""

    qmp: Qmp
    process: Process


@dataclass(frozen=True)
class Comparison:
    """What differs, one sentence each; and what the new QEMU consists of, for its record."""

    differences: list[str]
    inventory: dict[str, Any]
    ram_blocks: list[dict[str, Any]]


async def compare(old: Side, live: dict[str, Any], new: Side, stays: Callable[[str], bool]) -> Comparison:
    """Hold both QEMUs against each other.

    :param live: the old QEMU's inventory, taken during this update.
    :param stays: whether the RAMBlock of this name must lie in the very same file.
    """
    new_inventory = await inventory(new.qmp)
    old_blocks, new_blocks = await ram_blocks(old.qmp), await ram_blocks(new.qmp)
    old_files = mapped_files(old.process.pid, old_blocks)
    new_files = mapped_files(new.process.pid, new_blocks)
    found = (
        differences(live, new_inventory)
        + _file_differences({name: file for name, file in old_files.items() if stays(name)}, new_files)
        + queue_differences(await queue_sizes(old.qmp), await queue_sizes(new.qmp))
    )
    blocks = [
        {**{key: value for key, value in block.items() if key != "address"}, "file": new_files[block["name"]]}
        for block in new_blocks
    ]
    return Comparison(found, new_inventory, blocks)


def _file_differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Each block must lie in the very same file: the same device and inode in both processes."""
    return [
        f"RAMBlock {name} lies in {_file_name(old[name])} in the running guest, in {_file_name(new.get(name))} otherwise"
        for name in sorted(old)
        if name and _file_key(old[name]) != _file_key(new.get(name))
    ]


def _file_key(mapped: dict[str, Any] | None) -> tuple[Any, Any] | None:
    return (tuple(mapped["device"]), mapped["inode"]) if mapped else None


def _file_name(mapped: dict[str, Any] | None) -> str:
    return f"{mapped['path']} (inode {mapped['inode']})" if mapped else "anonymous memory"


def queue_differences(running: dict[str, int], other: dict[str, int]) -> list[str]:
    """A virtio queue that is larger than the new QEMU's cannot be loaded.

    Debian's QEMU 10.0.13 gives every queue 1024 entries; QEMU 11.1 refuses them in load ("vring.num 1024 exceeds
    allocated max 256"), other versions would overrun their rings.
    """
    return [
        f"the virtio queues of {path} have {size} entries in the running guest, at most {other[path]} otherwise"
        for path, size in sorted(running.items())
        if path in other and size > other[path]
    ]


async def queue_sizes(qmp: Qmp) -> dict[str, int]:
    """Entries of the first virtio queue of each device, by its QOM path."""
    sizes = {}
    try:
        devices = await qmp.execute("x-query-virtio")
    except HostmemError:  # an unstable command: a QEMU without it is no reason to refuse
        return {}
    for device in devices:
        state = await qmp.execute("x-query-virtio-queue-status", path=device["path"], queue=_QUEUE)
        sizes[str(device["path"])] = int(state["vring-num"])
    return sizes
