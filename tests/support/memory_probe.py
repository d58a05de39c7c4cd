# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel says of a host's memory and of its guests' RAM, without asking the collection.

It runs as root on any Python >= 3.9 and needs nothing but guest_probe.py and file_listing.py beside it, so that a test may copy them to a host:
``python3 -m support.memory_probe GUEST...`` prints one JSON object.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import mmap
import os
import re
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any

from support.file_listing import listing
from support.guest_probe import heartbeat, qemu_pids, unit

# include/uapi/linux/stat.h; the system call's number is that of x86-64.
STATX = 332
STATX_ATTR_DAX = 0x00200000
# struct statx: mask, block size, attributes
STATX_HEAD = struct.Struct("<IIQ")
AT_FDCWD = -100
# include/uapi/asm-generic/mman-common.h
MAP_SHARED_VALIDATE = 0x03
MAP_SYNC = 0x80000
# What others configured, which the collection must not touch.
FOREIGN = (
    "/etc/fstab",
    "/etc/default/grub",
    "/etc/default/grub.d/10_tests.cfg",
    "/etc/systemd/system.conf",
    "/boot/grub/grub.cfg",
    "/etc/sysctl.d/90-others.conf",
    "/etc/libvirt/qemu.conf",
)
# Where the collection puts what belongs to it.
OURS = ("/etc", "/usr/lib/hostmem*", "/usr/sbin/hostmem*", "/var/lib/hostmem*", "/var/log/hostmem*", "/run/hostmem*")
NODES = Path("/sys/devices/system/node")
PERSISTENT = Path("/sys/bus/nd/devices")
FILE_SYSTEMS = ("hugetlbfs", "ext4", "xfs")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


def pools() -> dict[str, dict[str, int]]:
    """Pages of each node's pools by ``NODE/SIZE_IN_KB``: total, free, surplus."""
    found = {}
    for directory in sorted(NODES.glob("node*/hugepages/hugepages-*kB")):
        name = f"{directory.parents[1].name[4:]}/{directory.name[10:-2]}"
        values = {key: int((directory / f"{key}_hugepages").read_text()) for key in ("nr", "free", "surplus")}
        found[name] = {"total": values["nr"], "free": values["free"], "surplus": values["surplus"]}
    return found


def namespaces() -> list[str]:
    """Names of the namespaces of persistent memory that have one. The kernel also shows one without size, for the next."""
    found = [path for path in PERSISTENT.glob("namespace*/alt_name") if int((path.parent / "size").read_text(), 0)]
    return sorted(filter(None, (path.read_text().strip() for path in found)))


def uses_dax(path: str) -> bool:
    """The kernel's word for one file: STATX_ATTR_DAX."""
    answer = ctypes.create_string_buffer(256)
    if _libc.syscall(STATX, AT_FDCWD, path.encode(), 0, 0, answer):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
    attributes: int = STATX_HEAD.unpack_from(answer.raw)[2]
    return bool(attributes & STATX_ATTR_DAX)


def maps_synchronously(descriptor: int) -> bool:
    """Whether the kernel lets a page of this file be mapped with MAP_SYNC, which it does on true DAX only."""
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    address = _libc.mmap(None, mmap.PAGESIZE, protection, MAP_SHARED_VALIDATE | MAP_SYNC, descriptor, 0)
    if address == ctypes.c_void_p(-1).value:
        return False
    _libc.munmap(address, mmap.PAGESIZE)
    return True


def mount_dax(point: str) -> dict[str, bool]:
    """What a new file on this file system can do."""
    with tempfile.NamedTemporaryFile(dir=point, prefix=".probe-") as file:
        file.truncate(mmap.PAGESIZE)
        return {"statx": uses_dax(file.name), "map_sync": maps_synchronously(file.fileno())}


def mounts() -> dict[str, dict[str, Any]]:
    """Mounts of the file systems that hold guests' RAM, by mount point; options as the kernel shows them."""
    found: dict[str, dict[str, Any]] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, after = line.split(" - ")
        point, options = before.split()[4:6]
        kind, source, own = after.split()
        if kind not in FILE_SYSTEMS or point == "/":
            continue
        status = os.stat(point)
        found[point] = {
            "type": kind,
            "source": source,
            "options": sorted({*options.split(","), *own.split(",")}),
            "mode": f"{status.st_mode & 0o7777:04o}",
            "owner": [status.st_uid, status.st_gid],
            "dax": mount_dax(point) if source.startswith("/dev/pmem") else None,
        }
    return found


def ram(pid: int) -> list[dict[str, Any]]:
    """The mappings of a QEMU's RAM files: file, kilobytes, page size, flags, and pages by node."""
    nodes = _pages_by_node(pid)
    found: list[dict[str, Any]] = []
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            wanted = len(words) > 5 and ("qemu_back_mem" in line or words[5].startswith("/dev/dax"))
            if wanted:
                found.append({"path": words[5], "nodes": nodes.get(line.split("-")[0].lstrip("0"), {})})
        elif found and wanted and words[0] == "VmFlags:":
            found[-1]["flags"] = words[1:]
        elif found and wanted:
            found[-1][words[0].rstrip(":")] = int(words[1])
    return found


def _pages_by_node(pid: int) -> dict[str, dict[str, int]]:
    """Of each mapping, by its address: pages on each node, in pages of the mapping's size."""
    found = {}
    for line in Path(f"/proc/{pid}/numa_maps").read_text().splitlines():
        found[line.split()[0].lstrip("0")] = {node: int(count) for node, count in re.findall(r" N(\d+)=(\d+)", line)}
    return found


def foreign() -> dict[str, str]:
    """Digests of files that belong to others, those that are there."""
    return {path: hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in FOREIGN if Path(path).exists()}


def guest(name: str) -> dict[str, Any]:
    """Unit, heartbeat and RAM of one guest."""
    pids = qemu_pids(name)
    found: dict[str, Any] = {"unit": unit(name), "pids": pids}
    if pids:
        found.update(heartbeat=heartbeat(pids[-1]), ram=ram(pids[-1]))
    return found


def main() -> int:
    """Print all of it."""
    print(
        json.dumps(
            {
                "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
                "pools": pools(),
                "mounts": mounts(),
                "namespaces": namespaces(),
                "foreign": foreign(),
                "files": listing(OURS),
                "guests": {name: guest(name) for name in sys.argv[1:]},
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
