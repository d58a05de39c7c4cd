# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files under guests' NVDIMMs: made when they are missing, and from then on kept as a disk's image is."""

from __future__ import annotations

import os
import stat

from .._host.dax import is_dax_directory, is_dax_file, let_new_files_ask, map_sync_works
from .._host.dax_layout import allocate_aligned
from .._host.files import existing_parent, make_directory, open_directory, set_owner_and_mode
from .._host.filesystems import free_space
from .._host.processes import processes_mapping_file, processes_mapping_part
from .._host.users import User
from .backing_devices import device_at, hand_over
from .backing_state import file_access
from .errors import Refused
from .nvdimm import ALIGN, Nvdimm
from .sizes import format_size


def check_nvdimm(nvdimm: Nvdimm) -> None:
    """Whether the file can be used, or made, for a guest that does not run. Changes nothing.

    :raises Refused: it is of another size or in use, or cannot do what the definition demands.
    """
    if nvdimm.device:
        _check_device(nvdimm)
        return
    _check_file(nvdimm)
    present = os.path.exists(nvdimm.path)
    if nvdimm.pmem and not (map_sync_works(nvdimm.path) if present else is_dax_directory(existing_parent(nvdimm.path))):
        raise Refused(
            f"NVDIMM {nvdimm.id}: {nvdimm.path} cannot be mapped with MAP_SYNC.",
            cause="It does not lie on a DAX file system: QEMU would only warn and go on without (pmem).",
            cure="Put it on a mount made by hostmem.qemu.dax_mount, or set pmem to false.",
        )


def ensure_nvdimm(nvdimm: Nvdimm, user: User) -> None:
    """Make the file if it is missing, and a device QEMU's user's.

    :raises Refused: as ``check_nvdimm`` says; nothing was changed then.
    :raises OSError: the kernel refused.
    """
    check_nvdimm(nvdimm)
    if nvdimm.device:
        hand_over(nvdimm.path, file_access(user))
    elif not os.path.exists(nvdimm.path):
        _make(nvdimm, user)


def _check_device(nvdimm: Nvdimm) -> None:
    found = device_at(nvdimm.path)
    if found is None or found.size < nvdimm.size or ALIGN % found.align:
        raise Refused(
            f"NVDIMM {nvdimm.id}: {nvdimm.path} is no device-DAX device of at least {format_size(nvdimm.size)}"
            f" that can be mapped in pieces of {format_size(ALIGN)}.",
            cure="Make one with hostmem.qemu.pmem_namespace (mode devdax).",
        )
    users = processes_mapping_part(nvdimm.path, 0, nvdimm.size)
    if users:
        raise _in_use(nvdimm, users)


def _check_file(nvdimm: Nvdimm) -> None:
    try:
        found = os.lstat(nvdimm.path)
    except FileNotFoundError:
        _check_space(nvdimm)
        return
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise Refused(
            f"NVDIMM {nvdimm.id}: {nvdimm.path} is not a plain file of one name.", cure="Choose another path."
        )
    if found.st_size != nvdimm.size:
        raise Refused(
            f"NVDIMM {nvdimm.id}: {nvdimm.path} is {format_size(found.st_size)} long, the definition says {format_size(nvdimm.size)}.",
            cause="Another size moves the labels, and the guest would not find its namespaces.",
            cure="Correct size, or move the file away.",
        )
    users = processes_mapping_file(nvdimm.path)
    if users and not nvdimm.read_only:
        raise _in_use(nvdimm, users)


def _in_use(nvdimm: Nvdimm, users: list[int]) -> Refused:
    return Refused(
        f"NVDIMM {nvdimm.id}: {nvdimm.path} is mapped by process {', '.join(map(str, users))}.",
        cause="Two guests on one NVDIMM destroy what is on it.",
        cure="Stop the other one first.",
    )


def _check_space(nvdimm: Nvdimm) -> None:
    if nvdimm.read_only:
        raise Refused(
            f"NVDIMM {nvdimm.id}: {nvdimm.path} is read-only and does not exist.", cure="Make it, or correct path."
        )
    free = free_space(os.path.dirname(nvdimm.path))
    if free < nvdimm.size:
        raise Refused(
            f"NVDIMM {nvdimm.id}: not enough space for {nvdimm.path}.",
            cause=f"{format_size(nvdimm.size)} are needed, {format_size(free)} are free.",
            cure="Enlarge the file system, or choose another path.",
        )


def _make(nvdimm: Nvdimm, user: User) -> None:
    """With all its blocks: a short file system would end the guest (SIGBUS) when it writes."""
    parent, name = os.path.split(nvdimm.path)
    if not os.path.isdir(parent):
        make_directory(parent, 0o700, user.uid, user.gid)
    directory = open_directory(parent)
    try:
        if nvdimm.pmem:
            let_new_files_ask(directory)
        descriptor = os.open(
            name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory
        )
        try:
            if is_dax_file(descriptor):
                allocate_aligned(descriptor, nvdimm.size)
            else:
                os.posix_fallocate(descriptor, 0, nvdimm.size)
            set_owner_and_mode(descriptor, 0o600, user.uid, user.gid)
        except BaseException:
            os.unlink(name, dir_fd=directory)
            raise
        finally:
            os.close(descriptor)
    finally:
        os.close(directory)
