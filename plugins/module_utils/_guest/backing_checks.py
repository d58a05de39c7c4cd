# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is refused about the places of RAM files before anything is made: file systems, directories, missing files."""

from __future__ import annotations

import os
import stat

from .._host.cures import refused_by_kernel
from .._host.dax import is_dax_directory
from .._host.files import existing_components, existing_parent
from .._host.filesystems import FileSystem, file_system
from .._host.users import User, user_name
from .backing_state import FileState, directory_access, directory_state, file_state
from .errors import Refused
from .layout import PlacedBlock, parse_file_name
from .sizes import format_size, round_up


def check_file_system(placed: PlacedBlock) -> FileSystem:
    """The file system under the block's directory, when it is what the definition demands.

    :raises Refused: another type or page size, or no file system at all.
    """
    block = placed.block
    try:
        found = file_system(block.directory)
    except OSError as error:
        raise refused_by_kernel(f"Memory block {block.id}: {block.directory} cannot be looked at.", error) from error
    fits = (
        is_dax_directory(existing_parent(block.directory))
        if block.filesystem == "dax"
        else found.type == block.filesystem
    )
    if block.filesystem != "any" and not fits:
        raise Refused(
            f"Memory block {block.id}: {block.directory} lies on {found.type}, the definition demands {block.filesystem}.",
            cause=f"The file system at {found.mount_point} is {found.type} ({found.source}), its options are {','.join(found.options)}.",
            cure=f"Mount a {block.filesystem} there, or correct directory or filesystem in the definition.",
        )
    if block.page_size is not None and found.page_size != block.page_size:
        raise Refused(
            f"Memory block {block.id}: {found.mount_point} has pages of {format_size(found.page_size)},"
            f" the definition demands {format_size(block.page_size)}.",
            cure=f"Use a mount with pagesize={format_size(block.page_size)}.",
        )
    if found.type == "hugetlbfs" and block.size % found.page_size:
        raise Refused(
            f"Memory block {block.id}: its size is not a multiple of the page size {format_size(found.page_size)}.",
            cause=f"It has {block.size} bytes, and {found.mount_point} gives whole pages only.",
            cure=f"Correct size in the definition to a multiple of {format_size(found.page_size)}.",
        )
    return found


def check_directory(path: str, user: User) -> None:
    """Only a directory that serves nothing else is made QEMU's user's own.

    :raises Refused: others could exchange it, or it is something else's.
    """
    _check_way(path, user)
    present = directory_state(path)
    if present is None or present == directory_access(user):
        return
    cure = f"Name a directory that does not exist yet, or give it to {user.name} with mode 0700."
    if present.mode & stat.S_IWOTH:
        raise Refused(f"{path} cannot become a directory of RAM files.", "It is everybody's to write in.", cure)
    if os.path.ismount(path) or os.path.dirname(path) == "/":
        raise Refused(f"{path} cannot become a directory of RAM files.", "It is the root of a mount or system.", cure)
    entries = os.listdir(path)
    others = sorted(name for name in entries if parse_file_name(name) is None)
    if others:
        raise Refused(
            f"{path} cannot become a directory of RAM files.", f"It has other things in it, such as {others[0]}.", cure
        )
    if not entries and present.uid != user.uid:
        raise Refused(
            f"{path} cannot become a directory of RAM files.", f"It belongs to {user_name(present.uid)}.", cure
        )


def _check_way(path: str, user: User) -> None:
    """Nobody but root and QEMU's user may be able to put another directory in place of one on the way."""
    trusted = {0, user.uid, os.geteuid()}
    for part, found in existing_components(os.path.dirname(path)):
        loose = found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX
        if found.st_uid not in trusted or loose:
            raise Refused(
                f"{path} is not a safe place for RAM files.",
                cause=f"{part} belongs to {user_name(found.st_uid)} and has mode {stat.S_IMODE(found.st_mode):04o}:"
                " others could put another directory in its place.",
                cure="Choose a directory under one that only root can write in.",
            )


def check_open(placed: PlacedBlock, state: FileState, system: FileSystem) -> None:
    """mode=open: the file is there with exactly this offset, size and name.

    :raises Refused: it is not; near misses are listed.
    """
    if placed.block.mode != "open":
        return
    size = round_up(placed.block.size, system.page_size)
    if state.exists and state.size == size:
        return
    problem = f"is {state.size} bytes long instead of {size}" if state.exists else "does not exist"
    near = near_misses(placed)
    raise Refused(
        f"Memory block {placed.block.id}: mode open demands {placed.path}, which {problem}.",
        cause="Near misses: " + ("; ".join(near) if near else "none in this directory") + ".",
        cure="Correct size, order or id of the blocks, or use mode create for a new file.",
    )


def check_readable(placed: PlacedBlock, system: FileSystem, user: User) -> None:
    """read_only: the file is there and QEMU's user may read it; whose it is does not matter, as nobody writes it.

    :raises Refused: it is not.
    """
    state = file_state(placed.path)
    check_open(placed, state, system)
    access = state.access
    if access is None or user.uid == 0:
        return
    shift = 6 if access.uid == user.uid else 3 if access.gid == user.gid else 0
    if not access.mode >> shift & stat.S_IROTH:
        raise Refused(
            f"Memory block {placed.block.id}: {user.name} may not read {placed.path}.",
            cause=f"It belongs to {user_name(access.uid)} and has mode {access.mode:04o}.",
            cure="Make it readable, for instance with mode 0444.",
        )


def near_misses(placed: PlacedBlock) -> list[str]:
    """RAM files in the same directory, each with what is different about it."""
    try:
        names = sorted(os.listdir(placed.block.directory))
    except OSError:
        return []
    wanted = {"offset": placed.offset, "size": placed.block.size, "name": placed.block.id}
    found = []
    for name in names:
        parsed = parse_file_name(name)
        if parsed is None:
            continue
        other = [key for key, value in zip(("offset", "size", "name"), parsed) if value != wanted[key]]
        try:
            length = os.lstat(f"{placed.block.directory}/{name}").st_size
        except OSError:
            continue
        found.append(f"{name} ({'other ' + ', '.join(other) if other else f'length {length}'})")
    return found
