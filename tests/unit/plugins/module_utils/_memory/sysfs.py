# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts as a kernel with two NUMA nodes has them in sysfs (taken from Linux 6.12), in a directory."""

from __future__ import annotations

from pathlib import Path

MIB = 1 << 20
GIB = 1 << 30
MEMINFO = """Node {node} MemTotal:        {total} kB
Node {node} MemFree:         {free} kB
Node {node} MemUsed:         1 kB
Node {node} Active(anon):      9 kB
Node {node} Active(file):      {file} kB
Node {node} Inactive(file):      0 kB
Node {node} SReclaimable:      {slab} kB
Node {node} HugePages_Total:     0
"""


class Sysfs:
    """Pools of 2 MiB and 1 GiB on two nodes of 4 GiB."""

    def __init__(self, root: Path, nodes: int = 2) -> None:
        self.path = root
        self.root = str(root)
        for node in range(nodes):
            self.memory(node, free=3 * GIB)
        (root / "devices/system/node/has_memory").write_text(f"0-{nodes - 1}\n" if nodes > 1 else "0\n")
        for size in (2 * MIB, GIB):
            self.pool(size)
            for node in range(nodes):
                self.node(node, size=size)

    def memory(self, node: int, free: int, file: int = 0, slab: int = 0, total: int = 4 * GIB) -> None:
        """A node's memory, in bytes."""
        numbers = {"total": total, "free": free, "file": file, "slab": slab}
        text = MEMINFO.format(node=node, **{key: value // 1024 for key, value in numbers.items()})
        self._write(f"devices/system/node/node{node}/meminfo", text)

    def node(self, node: int, nr: int = 0, free: int = 0, surplus: int = 0, size: int = 2 * MIB) -> None:
        """A node's pool, in pages."""
        directory = f"devices/system/node/node{node}/hugepages/hugepages-{size // 1024}kB"
        for name, number in (("nr", nr), ("free", free), ("surplus", surplus)):
            self._write(f"{directory}/{name}_hugepages", f"{number}\n")

    def pool(self, size: int = 2 * MIB, **numbers: int) -> None:
        """The host's pool, in pages: nr, free, resv, surplus, nr_overcommit."""
        for name in ("nr", "free", "resv", "surplus", "nr_overcommit"):
            self._write(f"kernel/mm/hugepages/hugepages-{size // 1024}kB/{name}_hugepages", f"{numbers.get(name, 0)}\n")

    def _write(self, name: str, text: str) -> None:
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text(text)
