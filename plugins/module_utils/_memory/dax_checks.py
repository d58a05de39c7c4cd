# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why files in a file system would not be mapped directly: found before anything changes, or read from what the kernel logged."""

from __future__ import annotations

import os
import stat

from .._guest.sizes import format_size
from .._host.block_devices import BlockDevice, block_device
from .._host.cures import cure_of
from .._host.devdax import dax_device
from .._host.device_content import content_of_block_device
from .._host.errors import Refused
from .._host.filesystem_tools import SuperBlock, signatures, super_block
from .namespace_checks import MODES

# What the kernel logs (fs/ext4/super.c, fs/xfs/xfs_super.c), in lower case, and what helps.
CURES = (
    ("dax unsupported by block device", "Make an fsdax namespace of it (module pmem_namespace), or set dax to never."),
    (
        "unsupported blocksize for dax",
        "Make the file system anew with blocks as large as a page (destroy_data names the device).",
    ),
    (
        "dax not supported for blocksize",
        "Make the file system anew with blocks as large as a page (destroy_data names the device).",
    ),
    ("both data=journal and dax", "Leave data=journal out (also as default: tune2fs -o ^journal_data DEVICE)."),
    ("may contain inline data", "Make the file system anew without inline_data (destroy_data names the device)."),
    (
        "dax and reflink cannot",
        "Make the file system anew without reflink (reflink false, destroy_data names the device).",
    ),
    (
        "dax mount option",
        "Another mount of the same file system decides: unmount it. Values other than always need Linux 5.8.",
    ),
)


def cure_for(text: str) -> str:
    """What helps against a reason that the kernel gave; empty where that is not known."""
    lowered = text.lower()
    return next((cure for reason, cure in CURES if reason in lowered), "")


def check_device(path: str, dax: str) -> BlockDevice:
    """The block device, when it can carry what is wanted.

    :param dax: ``always``, ``inode`` or ``never``.
    :raises Refused: it is missing, no block device, or cannot be mapped directly.
    """
    try:
        found = block_device(path)
    except OSError as error:
        raise Refused(
            f"There is no device {path}.",
            cause=str(error),
            cure="Make the namespace first (module pmem_namespace), or correct device.",
        ) from error
    if found is None:
        raise Refused(f"{path} is no block device.", cause=_what(path), cure=_instead(path))
    if dax != "never" and not found.dax:
        raise Refused(
            f"Files on {path} cannot be mapped directly: it has no DAX.",
            cause=MODES.get(found.kind)
            or f"It is no persistent memory, but a {found.kind} device (its queue/dax is 0).",
            cure=_cure_of(found),
        )
    return found


def _what(path: str) -> str:
    device = dax_device(path)
    if device is not None:
        return MODES["devdax"]
    return "It is a character device." if stat.S_ISCHR(os.stat(path).st_mode) else "It is a file or directory."


def _instead(path: str) -> str:
    if dax_device(path) is not None:
        return "Name it as the backing of a guest's memory block, or make an fsdax namespace of it (module pmem_namespace)."
    return "Name a block device such as /dev/pmem0."


def _cure_of(found: BlockDevice) -> str:
    if found.namespace:
        return (
            f"Make {found.namespace} an fsdax namespace (module pmem_namespace with mode fsdax and destroy_data {found.namespace}; its content is"
            " lost), or set dax to never."
        )
    return "Use a block device of persistent memory (module pmem_namespace), or set dax to never."


def file_system_on(device: BlockDevice) -> SuperBlock | None:
    """The ext4 or xfs on the device; None when nothing is known by a signature on it.

    :raises Refused: it holds something else.
    :raises OSError: it cannot be read.
    """
    found = signatures(device.path)
    if not found:
        return None
    block = super_block(device.path)
    if block is None or {item.type for item in found} - {"ext2", "ext3", "ext4", "xfs"}:
        raise Refused(
            f"{device.path} holds {', '.join(str(item) for item in found)} and stays as it is.",
            cause="A file system is made on an empty device only.",
            cure=f"If the data may be lost, set destroy_data to {device.path}.",
        )
    return block


def check_empty(device: BlockDevice) -> None:
    """The device holds no data without a signature, such as a guest's RAM or what lies in an encrypted volume. All of it is read.

    :raises Refused: it does, or a part of it cannot be read.
    """
    given_up = f"If the data may be lost, set destroy_data to {device.path}."
    try:
        position = content_of_block_device(device.path)
    except OSError as error:
        raise Refused(
            f"What {device.path} holds cannot be found out, and it stays as it is.",
            cause=f"{error}.",
            cure=f"{cure_of(error.errno)} {given_up}",
        ) from error
    if position is not None:
        raise Refused(
            f"{device.path} holds data without a signature and stays as it is: a byte that is not zero at {position:#x}.",
            cause="A file system is made on an empty device only. What a namespace held stays in its memory when it is made anew"
            + (" (pmem_namespace clears nothing)." if device.namespace else "."),
            cure=given_up,
        )


def unfit_for_dax(block: SuperBlock, device: BlockDevice) -> str:
    """Why files of this file system cannot be mapped directly; empty when they can. Each is what the kernel would say, or hide."""
    page = os.sysconf("SC_PAGE_SIZE")
    if block.block_size != page:
        consequence = "ext4 refuses dax then" if block.type == "ext4" else "xfs turns dax off then, without an error"
        return (
            f"its blocks have {format_size(block.block_size)}, and DAX needs those of a page, {format_size(page)};"
            f" {consequence}"
        )
    if block.inline_data:
        return "it was made with inline_data, which keeps small files in their inodes"
    if block.type == "xfs" and block.reflink and device.partition:
        return (
            "it was made with reflink, and lies in a partition: xfs has both with DAX on whole devices only (Linux 6.2)"
        )
    return ""


def check_fit(block: SuperBlock, device: BlockDevice, options: tuple[str, ...]) -> None:
    """The file system that is there can be used with DAX.

    :raises Refused: it cannot; with the reason.
    """
    reason = unfit_for_dax(block, device)
    if reason:
        raise Refused(
            f"The {block.type} on {device.path} cannot be mounted with DAX: {reason}.",
            cure=f"If its data may be lost, set destroy_data to {device.path}: it is made anew, with what DAX needs.",
        )
    if block.journals_data or "data=journal" in options:
        raise Refused(
            f"The {block.type} on {device.path} cannot be mounted with DAX: it journals data, which go to the device twice then.",
            cure="Leave data=journal out of options"
            + (f", and run tune2fs -o ^journal_data {device.path}." if block.journals_data else "."),
        )


def warnings_about(huge_by_itself: float | None, huge_when_aligned: float | None) -> list[str]:
    """What is slower than it could be, in sentences: pages of 4 KiB cost a fault and a page-table entry each.

    The alignment of an fsdax namespace says nothing about that: Linux puts its data at a multiple of 2 MiB also with 4 KiB.
    """
    found = []
    if huge_when_aligned is not None and huge_when_aligned < 1:
        found.append(
            f"Only {huge_when_aligned:.0%} of a file here can be mapped by 2 MiB, also when its blocks are moved for that."
        )
    elif huge_by_itself is not None and huge_by_itself < 1:
        found.append(
            f"{huge_by_itself:.0%} of a file here is mapped by 2 MiB as the file system lays it out by itself; RAM files made by"
            " hostmem are laid out so that all of it is."
        )
    return found
