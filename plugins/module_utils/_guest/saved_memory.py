# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which of a guest's memory stays in place while the guest is saved, and how it is known again afterwards.

QEMU leaves shared memory in a file out of its state, also where that file ends with it: see lasting_memory.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .._host.devdax import dax_device
from .._host.file_identity import file_identity
from .._host.files import identity
from .._host.filesystems import file_system
from .definition import Definition
from .lasting_memory import ends_with_qemu, left_in_place
from .layout import PlacedBlock, layout
from .manifest import SavedBlock
from .nvdimm import Nvdimm


@dataclass(frozen=True)
class MemoryPlan:
    """``copied`` are identifiers of blocks whose content has to go into the state; ``why`` says it of each."""

    blocks: list[PlacedBlock]
    why: dict[str, str]
    ignore_shared: bool

    @property
    def copied_bytes(self) -> int:
        return sum(placed.block.size for placed in self.blocks if placed.block.id in self.why)


def plan_memory(definition: Definition, ram_blocks: list[dict[str, Any]]) -> MemoryPlan:
    """Decide for each block.

    :param ram_blocks: of the generation's record: which file each block really lies in.
    """
    files = {block["name"]: block["file"] for block in ram_blocks}
    blocks = layout(definition)
    why, nameless = {}, []
    for placed in blocks:
        reason = _not_lasting(placed, files.get(placed.block.id))
        if reason:
            why[placed.block.id] = reason
            if left_in_place(placed.block):
                nameless.append(placed.block.id)
    if nameless:
        # QEMU would leave them out as well, and they end with it: so it must leave out nothing.
        for placed in blocks:
            why.setdefault(placed.block.id, f"QEMU copies all blocks or leaves out {nameless[0]} too")
    return MemoryPlan(blocks, why, not nameless)


def _not_lasting(placed: PlacedBlock, mapped: Any) -> str:
    """Why a block ends with its QEMU; empty when it does not."""
    reason = ends_with_qemu(placed.block)
    if reason:
        return f"it {reason}"
    if mapped and (identity(placed.place) or (0, 0))[1] != mapped["inode"]:
        return f"{placed.place} is not the guest's memory any more; the file it has ends with QEMU"
    return ""


def saved_blocks(plan: MemoryPlan) -> list[SavedBlock]:
    """The plan as it goes into the manifest, each block that stays with what it is known by.

    :raises OSError: a file cannot be looked at.
    """
    return [
        SavedBlock(
            placed.block.id,
            placed.place,
            placed.block.size,
            placed.block.id in plan.why,
            {} if placed.block.id in plan.why else memory_identity(placed),
        )
        for placed in plan.blocks
    ]


def saved_nvdimms(definition: Definition, plan: MemoryPlan) -> list[SavedBlock]:
    """NVDIMMs, whose content is in their files anyway: they have to be the same when the guest comes back.

    :raises OSError: a file cannot be looked at.
    """
    return [
        SavedBlock(
            nvdimm.id,
            nvdimm.path,
            nvdimm.size,
            not plan.ignore_shared,
            {} if not plan.ignore_shared else nvdimm_identity(nvdimm),
        )
        for nvdimm in definition.nvdimms
    ]


def nvdimm_identity(nvdimm: Nvdimm) -> dict[str, Any]:
    """As for a block.

    :raises OSError: it is not there.
    """
    return _device_identity(nvdimm.path, 0, nvdimm.size) if nvdimm.device else asdict(file_identity(nvdimm.path))


def lasting_files(definition: Definition, plan: MemoryPlan) -> list[str]:
    """Files with content that stays, and that may not be on their devices yet. Device-DAX has nothing to write, and no power cut
    leaves what lies in memory only.
    """
    stays = [placed.path for placed in plan.blocks if placed.path and placed.block.id not in plan.why]
    stays += [nvdimm.path for nvdimm in definition.nvdimms if not nvdimm.device and not nvdimm.read_only]
    return [path for path in stays if not file_system(path).volatile]


def memory_identity(placed: PlacedBlock) -> dict[str, Any]:
    """What a block's file or device is, in words that a reboot does not change.

    :raises OSError: it is not there.
    """
    if placed.path:
        return asdict(file_identity(placed.path))
    return _device_identity(placed.block.device, placed.block.offset or 0, placed.block.size)


def _device_identity(path: str, offset: int, size: int) -> dict[str, Any]:
    device = dax_device(path)
    if device is None:
        raise FileNotFoundError(f"{path} is no device-DAX device")
    return {"namespace": device.uuid or device.path, "offset": offset, "size": size}
