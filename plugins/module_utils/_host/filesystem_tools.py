# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a block device holds (wipefs(8), super blocks), and making file systems on it whose files can be mapped by 2 MiB."""

from __future__ import annotations

import json
import os
import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from .program_failures import program_failed
from .programs import required, run

_STRIPE = 2 << 20
"""Bytes: blocks of large files are laid out in multiples of this, the size of a huge DAX fault on x86-64."""


@dataclass(frozen=True)
class Signature:
    """Something that a device holds: ``type`` such as ext4, xfs, gpt; ``offset`` in bytes."""

    type: str
    offset: int
    label: str
    uuid: str

    def __str__(self) -> str:
        return f"{self.type}{f' named {self.label}' if self.label else ''} at byte {self.offset}"


@dataclass(frozen=True)
class SuperBlock:
    """What decides whether DAX can be had, of ext4 (fs/ext4/ext4.h) and xfs (fs/xfs/libxfs/xfs_format.h).

    ``block_size`` and ``stripe`` (the unit by which blocks are laid out, 0 for none) in bytes.
    """

    type: str
    uuid: str
    block_size: int
    stripe: int
    inline_data: bool = False
    journals_data: bool = False
    reflink: bool = False


def signatures(device: str) -> list[Signature]:
    """What wipefs(8) recognises on the device; nothing is changed.

    :raises HostmemError: wipefs is missing, or cannot read the device.
    """
    done = run(["wipefs", "--no-act", "--json", device])
    if done.returncode:
        raise program_failed(f"What is on {device} cannot be found out.", "wipefs", done.stderr)
    return parse_signatures(done.stdout)


def parse_signatures(text: str) -> list[Signature]:
    """What ``wipefs --no-act --json`` says."""
    rows = json.loads(text)["signatures"] if text.strip() else []
    return [
        Signature(row["type"], int(row["offset"], 0), row.get("label") or "", row.get("uuid") or "") for row in rows
    ]


def super_block(device: str) -> SuperBlock | None:
    """The super block of an ext4 or xfs on the device; None when there is neither.

    :raises OSError: the device cannot be read.
    """
    descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.pread(descriptor, 4096, 0)
    finally:
        os.close(descriptor)
    return parse_super_block(data)


def parse_super_block(data: bytes) -> SuperBlock | None:
    """The first 4096 bytes of a device, taken apart; ext2 and ext3 count as ext4, whose driver mounts them."""
    if data[:4] == b"XFSB" and len(data) >= 264:
        return _xfs(data)
    if len(data) >= 2048 and data[1080:1082] == b"\x53\xef":
        return _ext4(data[1024:])
    return None


def _ext4(data: bytes) -> SuperBlock:
    block_size = 1024 << int(struct.unpack_from("<I", data, 0x18)[0])
    (incompatible,) = struct.unpack_from("<I", data, 0x60)
    (mount_options,) = struct.unpack_from("<I", data, 0x100)
    stride, _interval, _mmp, stripe_width = struct.unpack_from("<HHQI", data, 0x164)
    return SuperBlock(
        type="ext4",
        uuid=str(uuid.UUID(bytes=data[0x68:0x78])),
        block_size=block_size,
        stripe=(stripe_width or stride) * block_size,
        inline_data=bool(incompatible & 0x8000),  # EXT4_FEATURE_INCOMPAT_INLINE_DATA
        journals_data=mount_options & 0x60 == 0x20,  # EXT4_DEFM_JMODE_DATA
    )


def _xfs(data: bytes) -> SuperBlock:
    (block_size,) = struct.unpack_from(">I", data, 4)
    (unit,) = struct.unpack_from(">I", data, 184)  # sb_unit, in blocks
    (read_only_compatible,) = struct.unpack_from(">I", data, 212)
    return SuperBlock(
        type="xfs",
        uuid=str(uuid.UUID(bytes=data[32:48])),
        block_size=block_size,
        stripe=unit * block_size,
        reflink=bool(read_only_compatible & 0x4),  # XFS_SB_FEAT_RO_COMPAT_REFLINK
    )


def make_file_system(device: str, kind: str, new_uuid: str, reflink: bool = False) -> None:
    """Make an ext4 or xfs whose blocks are as large as a page, without which there is no DAX, and laid out by 2 MiB where it has the room.

    What the device held is lost.

    :param kind: ``ext4`` or ``xfs``.
    :param reflink: let xfs files share blocks; a shared block that is written to is copied, in pieces of 4 KiB.
    :raises HostmemError: the program is missing or failed.
    """
    program = required(f"mkfs.{kind}")
    # What another format left at the end of the device, such as a second partition table, would be seen beside the file system.
    done = run(["wipefs", "--all", "--force", device])
    if done.returncode:
        raise program_failed(f"What is on {device} cannot be erased.", "wipefs", done.stderr)
    text = ""
    for arguments in mkfs_arguments(kind, new_uuid, reflink, os.sysconf("SC_PAGE_SIZE")):
        done = run([program, *arguments, device])
        if not done.returncode:
            return
        # mkfs.xfs adds its usage.
        text = done.stderr.partition("Usage:")[0]
    raise program_failed(f"mkfs.{kind} could not make a file system on {device}.", f"mkfs.{kind}", text)


def mkfs_arguments(kind: str, new_uuid: str, reflink: bool, block_size: int) -> Sequence[list[str]]:
    """Arguments of mkfs, the best first: a small device has no room for allocation groups in multiples of 2 MiB."""
    if kind == "ext4":
        # Small ones get blocks of 1 KiB by default (mke2fs.conf(5)), and root's reserve is no use where only RAM files lie.
        blocks = _STRIPE // block_size
        base = ["-q", "-F", "-b", str(block_size), "-m", "0", "-O", "^inline_data", "-U", new_uuid]
        return [[*base, "-E", f"stride={blocks},stripe_width={blocks}"]]
    base = ["-q", "-f", "-b", f"size={block_size}", "-m", f"uuid={new_uuid},reflink={int(reflink)}"]
    # Few allocation groups: a file that is larger than one is cut at their borders. Above 4 TiB there must be more than 4, and
    # below 1 GiB the log, 64 MiB at least, does not fit into the many that mkfs.xfs makes of a device with a stripe unit.
    stripe = f"su={_STRIPE},sw=1"
    return [[*base, "-d", layout] for layout in (f"{stripe},agcount=4", stripe, f"{stripe},agcount=2")] + [base]


def wait_for_udev(path: str) -> bool:
    """Let udev see a new file system, and wait up to 20 s for a name that it makes of it; True when it is there."""
    if os.path.exists(path):
        return True
    run(["udevadm", "trigger", "--action=change", "--subsystem-match=block"])
    run(["udevadm", "settle", "--timeout=20", f"--exit-if-exists={path}"])
    return os.path.exists(path)
