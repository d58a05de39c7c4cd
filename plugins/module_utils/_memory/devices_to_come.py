# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Block devices of namespaces that are still to be made, in check mode: what can be said of them before."""

from __future__ import annotations

from .._host.block_devices import BlockDevice
from .._host.errors import Refused
from .._host.pmem import Namespace
from .foreseen import Foreseen
from .namespace_checks import MODES

_WORDS = "namespace "


def words_for(name: str) -> str:
    """What stands for the path of the device of this namespace; no path begins like that."""
    return f"{_WORDS}{name}"


def namespace_to_come(name: str, foreseen: Foreseen) -> Namespace | None:
    """The namespace of this name that tasks before would make, or make anew; None when they would not."""
    found = [item for region in foreseen.regions or () for item in region.namespaces if item.name == name]
    return found[0] if len(found) == 1 and found[0].enabled and not found[0].device else None


def device_to_come(path: str, foreseen: Foreseen) -> BlockDevice | None:
    """The device as it would be, by the words of words_for(); None for a path.

    :raises Refused: the namespace would have no block device.
    """
    namespace = namespace_to_come(path[len(_WORDS) :], foreseen) if path.startswith(_WORDS) else None
    if namespace is None:
        return None
    if namespace.mode == "devdax":
        raise Refused(
            f"The {path} has no block device.",
            cause=MODES["devdax"],
            cure="Name it as the backing of a guest's memory block, or make it an fsdax namespace.",
        )
    return BlockDevice(
        path=path,
        device=0,
        size=namespace.raw_size,
        dax=True,
        kind=namespace.mode,
        namespace=namespace.dev,
        align=namespace.align,
        partition=False,
    )


def is_to_come(device: BlockDevice) -> bool:
    """There is no such device yet: none has the number 0."""
    return device.device == 0
