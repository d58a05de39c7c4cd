# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the pages of a process lie: /proc/PID/numa_maps (proc_pid_numa_maps(5), show_numa_map() in fs/proc/task_mmu.c)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

_NODE = re.compile(r"N(\d+)=(\d+)")


@dataclass(frozen=True)
class MappedPages:
    """The pages of one mapping that are there. ``policy`` is the mapping's own, such as ``bind:1``, or the process's.

    ``page_size`` is what the kernel maps it by, in bytes; ``huge``: they are from a pool of huge pages. ``nodes``: bytes on each node.
    """

    start: int
    policy: str
    huge: bool
    page_size: int
    nodes: dict[int, int] = field(default_factory=dict)

    @property
    def present(self) -> int:
        """Bytes on all nodes."""
        return sum(self.nodes.values())


def numa_maps(pid: int) -> dict[int, MappedPages]:
    """The mappings of a process by their start addresses; the kernel walks all its page tables for it.

    :raises OSError: it is gone, not ours to look at, or the kernel knows no NUMA.
    """
    with open(f"/proc/{pid}/numa_maps", encoding="utf-8", errors="surrogateescape") as file:
        return {item.start: item for item in parse_numa_maps(file)}


def parse_numa_maps(lines: Iterable[str]) -> Iterator[MappedPages]:
    """Lines such as ``7f2a40000000 bind:1 file=/mnt/huge/ram0 huge dirty=32 N1=32 kernelpagesize_kB=2048``.

    A mapping of which nothing was touched shows neither nodes nor page size; then that is 0.
    """
    for line in lines:
        words = line.split()
        if len(words) < 2:
            continue
        size = next((int(word.partition("=")[2]) for word in words if word.startswith("kernelpagesize_kB=")), 0) * 1024
        matches = [_NODE.fullmatch(word) for word in words[2:]]
        nodes = {int(match.group(1)): int(match.group(2)) * size for match in matches if match}
        yield MappedPages(int(words[0], 16), words[1], "huge" in words[2:], size, nodes)
