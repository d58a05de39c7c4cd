# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What kind of block device it is, and whether files on it can be mapped directly (/sys/class/block, Documentation/ABI/stable/sysfs-block)."""

from __future__ import annotations

import os
import stat
import uuid
from dataclasses import dataclass

from .pmem import namespace_of_block_device
from .sysfs import text_in

_BY_UUID = "/dev/disk/by-uuid"


@dataclass(frozen=True)
class BlockDevice:
    """A block device. ``dax``: it could carry DAX, a file system may still not.

    ``kind``: fsdax, raw or sector for persistent memory, else loop, partition of what, dm, or disk. ``align``: of the namespace, in bytes,
    None for others; ``namespace`` empty for others.
    """

    path: str
    device: int
    size: int
    dax: bool
    kind: str
    namespace: str
    align: int | None
    partition: bool


def block_device(path: str) -> BlockDevice | None:
    """What is at the path, symbolic links followed; None when it is no block device.

    :raises OSError: there is nothing.
    """
    real = os.path.realpath(path)
    found = os.stat(real)
    if not stat.S_ISBLK(found.st_mode):
        return None
    directory = os.path.realpath(f"/sys/dev/block/{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}")
    partition = os.path.exists(f"{directory}/partition")
    whole = os.path.dirname(directory) if partition else directory
    name = os.path.basename(whole)
    namespace = namespace_of_block_device(name)
    return BlockDevice(
        path=real,
        device=found.st_rdev,
        size=int(text_in(f"{directory}/size") or 0) * 512,
        dax=text_in(f"{whole}/queue/dax") == "1",
        kind=_namespace_kind(whole) if namespace else _kind(whole, name),
        namespace=namespace,
        align=int(text_in(f"{whole}/device/align") or 0) or None,
        partition=partition,
    )


def has_dax(device: int) -> bool:
    """Whether a block device could carry DAX; False for what is none, as the device of a tmpfs.

    :param device: as in st_dev.
    """
    directory = os.path.realpath(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    whole = os.path.dirname(directory) if os.path.exists(f"{directory}/partition") else directory
    return text_in(f"{whole}/queue/dax") == "1"


def _namespace_kind(whole: str) -> str:
    """By the device that libnvdimm puts above the namespace: pfn with struct pages, btt with a translation table, or none."""
    above = os.path.basename(os.path.realpath(f"{whole}/device"))
    if above.startswith("btt"):
        return "sector"
    return "fsdax" if above.startswith("pfn") or text_in(f"{whole}/device/mode") == "memory" else "raw"


def _kind(whole: str, name: str) -> str:
    if os.path.isdir(f"{whole}/loop") or name.startswith("loop"):
        return "loop"
    return "dm" if os.path.isdir(f"{whole}/dm") else "disk"


def uuid_for(device: BlockDevice) -> str:
    """The UUID for a new file system on this device, so that the configuration of a mount can be foretold before the file system is there.

    The same each time it is asked, and another for each namespace that was ever made: names such as pmem0 go to other devices later.
    A device without an identity of its own gets any.
    """
    directory = f"/sys/dev/block/{os.major(device.device)}:{os.minor(device.device)}"
    whole = os.path.realpath(f"{directory}/.." if device.partition else directory)
    identity = text_in(f"{whole}/device/uuid") or text_in(f"{whole}/wwid") or text_in(f"{whole}/serial")
    if not identity:
        return str(uuid.uuid4())
    number = text_in(f"{directory}/partition")
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"hostmem.qemu:{text_in('/etc/machine-id')}:{identity}:{number}"))


def stable_path(file_system_uuid: str, device: BlockDevice) -> str:
    """A name of the device that survives another order of discovery, where udev makes such names; else the device itself."""
    return f"{_BY_UUID}/{file_system_uuid}" if os.path.exists("/run/udev/control") else device.path
