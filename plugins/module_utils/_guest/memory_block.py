# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One memory block of a guest definition: where a part of the guest's RAM lies, checked and completed. Pure: no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .backend_options import NO_RAM, NOT_KEYS
from .fields import IDENTIFIER, IDENTIFIER_HINT, Fields
from .sizes import format_size

BACKINGS = ("tmpfs", "file", "memfd", "hugetlbfs", "dax")
_DEFAULT_DIRECTORY = {"tmpfs": "/dev/shm/hostmem", "hugetlbfs": "/dev/hugepages/hostmem"}
_DEVICE = r"/dev/dax[0-9]+\.[0-9]+"
NAMESPACE = r"[!-~]([ -~]{0,61}[!-~])?"
"""Name or UUID of a namespace; names have room for 63 characters in its label (NSLABEL_NAME_LEN, drivers/nvdimm/label.h)."""
NAMESPACE_HINT = "is not the name or UUID of a namespace: 1 to 63 printable characters"
_DEVICE_ALIGN = 2 << 20  # of a devdax namespace, unless it was made with another (ndctl-create-namespace(1))
_PAGE = 4096


@dataclass(frozen=True)
class MemoryBlock:
    """One memory backend; sizes in bytes. The words keep the meaning of Feiner's -mem-path series (qemu-devel, 2012).

    ``mode``: ``create`` makes the named file or takes an old one over, whose content a cold start never sees;
    ``open`` demands an existing file of exactly this offset, size and name; ``temp`` is unlinked, for this run only.
    ``device``: a devdax device instead of a directory; ``offset``: where in it the block begins. ``namespace``: the device by the
    name or UUID of its namespace instead; which one that is, the host tells when the guest starts.
    ``pmem``: QEMU maps with MAP_SYNC (Zhang Yi's series, qemu-devel, 2019). ``read_only``: the file is never written.
    """

    id: str
    size: int
    backing: str
    directory: str
    device: str
    namespace: str
    offset: int | None
    page_size: int | None
    align: int | None
    numa_node: int | None
    host_nodes: list[int]
    policy: str
    mmap: str
    mode: str
    filesystem: str
    pmem: bool
    read_only: bool
    prealloc: bool
    prealloc_threads: int | None
    reserve: bool
    seal: bool
    merge: bool
    dump: bool

    @property
    def named(self) -> bool:
        """True when the block lives in a file with a name (not memfd, not an unlinked file, not a device)."""
        return bool(self.directory) and self.mode != "temp"

    @property
    def on_device(self) -> bool:
        """True when the block lives on a devdax device, by whatever name."""
        return bool(self.device or self.namespace)


def parse_block(fields: Fields, guest: str) -> MemoryBlock:
    """One memory block; what is wrong goes to the problems of ``fields``. ``guest`` names the default directory."""
    backing = _backing(fields)
    device = fields.text("device", "", _DEVICE, "is not a devdax device such as /dev/dax0.0")
    namespace = fields.text("namespace", "", NAMESPACE, NAMESPACE_HINT)
    on_device = bool(device or namespace)
    mmap = fields.choice("mmap", ("shared", "private"), "shared")
    block = MemoryBlock(
        id=fields.text("id", "ram0", IDENTIFIER, IDENTIFIER_HINT),
        size=fields.size("size") or _missing_size(fields),
        backing=backing,
        directory=_directory(fields, backing, guest),
        device=device,
        namespace=namespace,
        offset=fields.size("offset"),
        page_size=fields.size("page_size"),
        align=fields.size("align") or (_DEVICE_ALIGN if on_device else None),
        numa_node=fields.integer("numa_node", None, 0, 127),
        host_nodes=[_node(key, item, fields.problems) for key, item in fields.items("host_nodes")],
        policy=fields.choice("policy", ("default", "bind", "interleave", "preferred"), "default"),
        mmap=mmap,
        mode=fields.choice("mode", ("create", "open", "temp"), "create"),
        filesystem=fields.choice(
            "filesystem", ("any", "tmpfs", "hugetlbfs", "dax"), _natural_filesystem(backing, on_device)
        ),
        pmem=fields.boolean("pmem", backing == "dax" and mmap == "shared"),
        read_only=fields.boolean("read_only", False),
        prealloc=fields.boolean("prealloc", False),
        prealloc_threads=fields.integer("prealloc_threads", None, 1, 1024),
        reserve=fields.boolean("reserve", True),
        seal=fields.boolean("seal", True),
        merge=fields.boolean("merge", True),
        dump=fields.boolean("dump", True),
    )
    for name, reason in NOT_KEYS.items():
        for key in dict.fromkeys((name, name.replace("-", "_"))):
            fields.refuse(key, reason)
    fields.finish()
    for check in (_check_private, _check_policy, _check_backing, _check_device, _check_pmem, _check_filling):
        check(block, fields)
    _check_block_size(block, fields)
    return block


def _backing(fields: Fields) -> str:
    if fields.raw("backing") == "ram":
        fields.fail("backing", NO_RAM)
        return "memfd"
    return fields.choice("backing", BACKINGS, "memfd")


def _missing_size(fields: Fields) -> int:
    if fields.raw("size") is None:
        fields.fail("size", "is required")
    return 0


def _node(key: str, item: Any, problems: list[str]) -> int:
    if isinstance(item, bool) or not isinstance(item, int) or not 0 <= item < 1024:
        problems.append(f"{key}: must be the number of a NUMA node, not {item!r}")
        return 0
    return int(item)


def _natural_filesystem(backing: str, on_device: bool) -> str:
    return backing if backing in ("tmpfs", "hugetlbfs") or (backing == "dax" and not on_device) else "any"


def _directory(fields: Fields, backing: str, guest: str) -> str:
    on_device = fields.raw("device") is not None or fields.raw("namespace") is not None
    nameless = "backing memfd" if backing == "memfd" else "a device" if on_device else ""
    if nameless:
        if fields.raw("directory") is not None:
            fields.fail("directory", f"has no meaning with {nameless}, which has no file name")
        return ""
    base = _DEFAULT_DIRECTORY.get(backing)
    return fields.path("directory", f"{base}/{guest}" if base else None)


def _check_private(block: MemoryBlock, fields: Fields) -> None:
    if block.mmap == "private" and block.backing in ("memfd", "tmpfs"):
        fields.fail(
            "mmap",
            f"private on {block.backing} costs the memory twice, once in the file and once in the private copy: use shared, or backing file",
        )
    if block.mmap == "private" and block.prealloc:
        fields.fail(
            "prealloc", "with mmap private copies every page of the file at start, which defeats the file: leave it off"
        )
    if block.read_only and (block.mmap, block.mode) != ("private", "open"):
        fields.fail(
            "read_only", "needs mmap private and mode open: only then the guest can write, into copies of its own"
        )


def _check_policy(block: MemoryBlock, fields: Fields) -> None:
    if block.policy != "default" and not block.host_nodes:
        fields.fail("policy", f"{block.policy} needs host_nodes")
    if block.policy == "default" and block.host_nodes:
        fields.fail("host_nodes", "needs a policy other than default")
    if block.backing == "dax" and block.host_nodes:
        fields.fail("host_nodes", "has no effect with backing dax: the memory is where the device is")


def _check_backing(block: MemoryBlock, fields: Fields) -> None:
    if block.backing == "hugetlbfs" and block.page_size is None:
        fields.fail("page_size", "is required with backing hugetlbfs (2M, 1G)")
    if block.backing in ("tmpfs", "file", "dax") and block.page_size is not None:
        fields.fail("page_size", f"has no meaning with backing {block.backing}: the mount decides")
    if block.backing == "memfd" and block.mode != "create":
        fields.fail("mode", f"{block.mode} has no meaning with backing memfd, which has no file name")
    if block.backing in ("tmpfs", "hugetlbfs", "dax") and block.filesystem not in ("any", block.backing):
        fields.fail("filesystem", f"{block.filesystem} contradicts backing {block.backing}")
    if block.backing == "memfd" and block.filesystem != "any":
        fields.fail("filesystem", "has no meaning with backing memfd")
    if block.backing != "memfd" and not block.seal:
        fields.fail("seal", "has a meaning with backing memfd only")


def _check_device(block: MemoryBlock, fields: Fields) -> None:
    if not block.on_device:
        if block.offset is not None:
            fields.fail("offset", "has a meaning with a device only: a RAM file's offset follows from the layout")
        return
    if block.backing != "dax":
        fields.fail("namespace" if block.namespace else "device", "needs backing dax")
    if block.device and block.namespace:
        fields.fail("namespace", "names the device, which device does too: leave one of them out")
    if block.mmap == "private":
        fields.fail("mmap", "private is refused by the kernel for a devdax device")
    if block.mode == "temp":
        fields.fail("mode", "temp has no meaning with a device, which has no file name")
    if (block.offset or 0) % (block.align or 1):
        fields.fail("offset", f"is not a multiple of align ({format_size(block.align or 1)})")
    if block.size % (block.align or 1):
        fields.fail("size", f"is not a multiple of the device's align ({format_size(block.align or 1)})")


def _check_pmem(block: MemoryBlock, fields: Fields) -> None:
    """MAP_SYNC is there only for a shared mapping of a DAX file; elsewhere QEMU warns on stderr and goes on without."""
    if not block.pmem:
        return
    if block.mmap == "private":
        fields.fail("pmem", "needs mmap shared: what the guest writes to a private mapping never reaches the device")
    if block.filesystem != "dax" and not block.on_device:
        fields.fail("pmem", "needs backing dax (or filesystem dax): QEMU would go on without MAP_SYNC elsewhere")


def _check_filling(block: MemoryBlock, fields: Fields) -> None:
    if block.prealloc_threads is not None and not block.prealloc:
        fields.fail("prealloc_threads", "needs prealloc")
    if not block.reserve and (block.mmap != "private" or block.backing == "hugetlbfs"):
        fields.fail(
            "reserve",
            "false is for private mappings of plain files: huge pages that are not reserved end the guest (SIGBUS)"
            " when they are missing, and a shared file reserves nothing",
        )


def _check_block_size(block: MemoryBlock, fields: Fields) -> None:
    step = block.page_size or _PAGE
    if block.page_size is not None and (step & (step - 1) or step <= _PAGE):
        fields.fail("page_size", f"{format_size(step)} is not a page size")
    elif block.size % step:
        fields.fail("size", f"{format_size(block.size)} is not a multiple of the page size {format_size(step)}")
    if block.align is not None and (block.align & (block.align - 1) or block.align < _PAGE):
        fields.fail("align", f"{format_size(block.align)} is not a power of two from 4K on")
