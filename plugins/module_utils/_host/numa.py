# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""NUMA nodes and their memory (Documentation/ABI/stable/sysfs-devices-node)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

SYS = "/sys"
_LINE = re.compile(r"Node \d+ ([A-Za-z_()]+):\s+(\d+) kB")


@dataclass(frozen=True)
class NodeMemory:
    """Memory of a node, in bytes. ``file`` is the page cache without shared memory, ``slab`` what the kernel can reclaim of its own caches."""

    total: int
    free: int
    file: int
    slab: int

    @property
    def available(self) -> int:
        """What can be allocated without swapping: an estimate like MemAvailable, which the kernel gives for the whole host only.

        Half of the kernel's own caches count, as they cannot all be had (si_mem_available() in mm/show_mem.c).
        """
        return self.free + self.file + self.slab // 2


def parse_node_list(text: str) -> list[int]:
    """The numbers in a list such as ``0-1,4``."""
    numbers: list[int] = []
    for part in text.strip().split(","):
        first, _hyphen, last = part.partition("-")
        if first:
            numbers += range(int(first), int(last or first) + 1)
    return numbers


def memory_nodes(root: str = SYS) -> list[int]:
    """The nodes that have memory; node 0 alone where the kernel knows no NUMA."""
    try:
        with open(f"{root}/devices/system/node/has_memory", encoding="ascii") as file:
            return parse_node_list(file.read())
    except OSError:
        return [0]


def online_nodes(root: str = SYS) -> list[int]:
    """All nodes, those without memory too; node 0 alone where the kernel knows no NUMA."""
    try:
        with open(f"{root}/devices/system/node/online", encoding="ascii") as file:
            return parse_node_list(file.read())
    except OSError:
        return [0]


def node_distances(node: int, root: str = SYS) -> list[int]:
    """How far each online node is from this one, as the firmware says (SLIT): 10 is the node itself; empty without NUMA."""
    try:
        with open(f"{root}/devices/system/node/node{node}/distance", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def node_cpus(nodes: Iterable[int], root: str = SYS) -> set[int]:
    """The CPUs of these nodes; empty when they have none, or where there are no such nodes."""
    found: set[int] = set()
    for node in nodes:
        with (
            suppress(FileNotFoundError),
            open(f"{root}/devices/system/node/node{node}/cpulist", encoding="ascii") as file,
        ):
            found.update(parse_node_list(file.read()))
    return found


def node_memory(node: int, root: str = SYS, meminfo: str = "/proc/meminfo") -> NodeMemory:
    """The memory of a node as it is now.

    :param meminfo: read where the kernel knows no NUMA.
    :raises OSError: there is no such node.
    """
    path = f"{root}/devices/system/node/node{node}/meminfo"
    prefix = ""
    if not os.path.isdir(f"{root}/devices/system/node"):
        path, prefix = meminfo, f"Node {node} "
    with open(path, encoding="ascii") as file:
        found = {match.group(1): int(match.group(2)) * 1024 for line in file if (match := _LINE.match(prefix + line))}
    cached = found["Active(file)"] + found["Inactive(file)"]
    return NodeMemory(found["MemTotal"], found["MemFree"], cached, found.get("SReclaimable", 0))


def compact(node: int, root: str = SYS) -> bool:
    """Let the kernel move pages of a node together, so that larger ones become free; False where it cannot (CONFIG_COMPACTION).

    It takes from milliseconds to many seconds, depending on the size and use of the memory.
    """
    for path in (f"{root}/devices/system/node/node{node}/compact", "/proc/sys/vm/compact_memory"):
        try:
            with open(path, "w", encoding="ascii") as file:
                file.write("1")
        except OSError:
            continue
        return True
    return False
