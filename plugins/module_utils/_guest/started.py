# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Waiting for a QEMU that was just started to answer, and holding it against the layout before its vCPUs run."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from .._host.files import identity
from .._host.processes import mapping_flags
from .._host.sockets import listening
from .definition import Definition
from .errors import HostmemError
from .inventory import machine, mapped_file, ram_blocks
from .layout import PlacedBlock, layout
from .nvdimm import Nvdimm
from .qemu_process import QemuProcess
from .qmp import Qmp, connect

_POLL = 0.002


async def wait_for_socket(qemu: QemuProcess, path: str, deadline: float) -> None:
    """Wait until somebody listens on the socket; ``deadline`` as time.monotonic().

    :raises HostmemError: QEMU ended first, or the time is over.
    """
    while not listening(path):
        if qemu.ended():
            raise qemu.complaint("The new QEMU ended while starting.")
        if time.monotonic() >= deadline:
            raise qemu.complaint(f"The new QEMU did not make {os.path.basename(path)} in time.")
        await asyncio.sleep(_POLL)


async def wait_for_qmp(qemu: QemuProcess, deadline: float) -> Qmp:
    """Wait until QEMU answers on its QMP socket.

    :raises HostmemError: QEMU ended first, or the time is over.
    """
    await wait_for_socket(qemu, qemu.generation.qmp, deadline)
    while True:
        try:
            return await connect(qemu.generation.qmp)
        except HostmemError:
            if qemu.ended():
                raise qemu.complaint("The new QEMU ended while starting.") from None
            if time.monotonic() >= deadline:
                raise
            await asyncio.sleep(_POLL)


async def verify_memory(qmp: Qmp, qemu: QemuProcess, definition: Definition) -> list[dict[str, Any]]:
    """Hold the real RAMBlocks against the layout: offset, size, page size, file. Returns them, each with its file.

    :raises HostmemError: with every difference.
    """
    real = await machine(qmp)
    problems = []
    if real["type"] != definition.machine:
        problems.append(f"the machine is {real['type']}, the definition says {definition.machine}")
    if definition.aux_ram_share and real["aux_ram_share"] is False:
        problems.append("aux-ram-share is off")
    blocks = await ram_blocks(qmp)
    for block in blocks:
        block["file"] = mapped_file(qemu.process.pid, block["address"])
    by_name = {block["name"]: block for block in blocks}
    for nvdimm in definition.nvdimms:
        problems += _nvdimm_problems(qemu.process.pid, nvdimm, by_name.get(nvdimm.id))
    for placed in layout(definition):
        problems += _block_problems(qemu.process.pid, placed, by_name.get(placed.block.id))
    if problems:
        raise HostmemError(
            f"QEMU laid guest {definition.name} out differently: " + "; ".join(problems) + ".",
            cause="The vCPUs have not run yet.",
            cure="Report this with the definition and the output of hostmem info.",
        )
    return [{key: value for key, value in block.items() if key != "address"} for block in blocks]


def _block_problems(pid: int, placed: PlacedBlock, found: dict[str, Any] | None) -> list[str]:
    block = placed.block
    if found is None:
        return [f"RAMBlock {block.id} is missing: the memory backend is not used"]
    problems = []
    if found["offset"] != placed.offset or found["used"] != block.size:
        problems.append(
            f"RAMBlock {block.id} is at {found['offset']:#x}+{found['used']:#x}, not at {placed.offset:#x}+{block.size:#x}"
        )
    if block.page_size and found["page_size"] != block.page_size:
        problems.append(f"RAMBlock {block.id} has pages of {found['page_size']} bytes, not {block.page_size}")
    problems += _file_problems(placed.path or block.device, block.id, found["file"], block.mmap == "shared")
    return problems + (_sync_problems(pid, found) if block.pmem else [])


def _nvdimm_problems(pid: int, nvdimm: Nvdimm, found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return [f"RAMBlock {nvdimm.id} is missing: the NVDIMM has no memory"]
    problems = _file_problems(nvdimm.path, nvdimm.id, found["file"], True)
    return problems + (_sync_problems(pid, found) if nvdimm.pmem else [])


def _sync_problems(pid: int, block: dict[str, Any]) -> list[str]:
    """QEMU only warns, on stderr, when there is no MAP_SYNC, and maps without (util/mmap-alloc.c)."""
    return (
        []
        if "sf" in mapping_flags(pid, block["address"])
        else [f"RAMBlock {block['name']} is not mapped with MAP_SYNC"]
    )


def _file_problems(path: str, name: str, mapped: Any, shared: bool) -> list[str]:
    if mapped is None:
        return [f"RAMBlock {name} is anonymous memory"]
    problems = []
    if path:
        found = identity(path)
        # st_dev and the device in maps differ on some file systems (btrfs, overlayfs); the inode is compared then.
        if found is None or found[1] != mapped["inode"]:
            problems.append(f"RAMBlock {name} lies in {mapped['path']}, not in {path}")
    if mapped["shared"] != shared:
        problems.append(f"RAMBlock {name} is mapped {'shared' if mapped['shared'] else 'private'}")
    return problems
