# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One NVDIMM of a guest definition: persistent memory that the guest sees as such, in a file that lasts as a disk does. Pure: no I/O."""

from __future__ import annotations

from dataclasses import dataclass

from .fields import IDENTIFIER, IDENTIFIER_HINT, Fields
from .memory_block import NAMESPACE, NAMESPACE_HINT
from .sizes import format_size

ALIGN = 2 << 20
"""Of the mapping and of the size, in bytes: so it is mapped by 2 MiB at once, and as a device-DAX device demands."""

_LEAST_LABEL = 128 << 10  # MIN_NAMESPACE_LABEL_SIZE, QEMU include/hw/mem/nvdimm.h


@dataclass(frozen=True)
class Nvdimm:
    """Sizes in bytes; ``size`` is the file's, of which the last ``label_size`` hold the guest's labels.

    ``path`` is empty where ``namespace`` (its name or UUID) says which device-DAX device it is, until the host has told.
    ``pmem``: QEMU maps with MAP_SYNC, so that what the guest flushed survives a power cut of the host.
    """

    id: str
    path: str
    namespace: str
    size: int
    label_size: int
    pmem: bool
    read_only: bool

    @property
    def device(self) -> bool:
        """True for a device-DAX device in the place of a file."""
        return bool(self.namespace) or self.path.startswith("/dev/dax")


def parse_nvdimm(fields: Fields) -> Nvdimm:
    """One NVDIMM; what is wrong goes to the problems of ``fields``."""
    nvdimm = Nvdimm(
        id=fields.text("id", None, IDENTIFIER, IDENTIFIER_HINT),
        path=fields.path("path", "" if fields.raw("namespace") is not None else None),
        namespace=fields.text("namespace", "", NAMESPACE, NAMESPACE_HINT),
        size=fields.size("size") or 0,
        label_size=0 if fields.raw("label_size") == 0 else fields.size("label_size") or 0,
        pmem=fields.boolean("pmem", False),
        read_only=fields.boolean("read_only", False),
    )
    fields.finish()
    if nvdimm.path and nvdimm.namespace:
        fields.fail("namespace", "names the device, which path does too: leave one of them out")
    if fields.raw("size") is None:
        fields.fail("size", "is required")
    elif nvdimm.size % ALIGN:
        fields.fail("size", f"{format_size(nvdimm.size)} is not a multiple of {format_size(ALIGN)}")
    if nvdimm.label_size and (nvdimm.label_size < _LEAST_LABEL or nvdimm.label_size % 4096):
        fields.fail("label_size", f"must be 0 or a multiple of 4K from {format_size(_LEAST_LABEL)} on")
    if nvdimm.size and nvdimm.label_size >= nvdimm.size:
        fields.fail("label_size", "leaves nothing of the size")
    if nvdimm.read_only and nvdimm.pmem:
        fields.fail("pmem", "has no meaning with read_only: nothing is written")
    return nvdimm
