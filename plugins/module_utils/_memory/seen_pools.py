# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pools of huge pages as plans see them: the kernel's, or in check mode those that the tasks before would leave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from .._guest.sizes import format_size
from .._host.hugepages import NodePool, Pool, node_pool, pool
from .._host.numa import SYS, NodeMemory, node_memory


@dataclass(frozen=True)
class ForeseenPool:
    """The pool of one page size as it would be, of the whole host and of those nodes where it would be another."""

    pool: Pool
    nodes: Mapping[int, NodePool] = field(default_factory=dict)


@dataclass(frozen=True)
class SeenPools:
    """``foreseen`` by page size in bytes; what is not among them is as the kernel shows it."""

    foreseen: Mapping[int, ForeseenPool] = field(default_factory=dict)
    root: str = SYS

    def pool(self, page_size: int) -> Pool:
        """The whole host's pool.

        :raises OSError: there is none of this page size.
        """
        found = self.foreseen.get(page_size)
        return found.pool if found else pool(page_size, self.root)

    def node_pool(self, page_size: int, node: int) -> NodePool:
        """A node's pool.

        :raises OSError: there is none of this page size.
        """
        found = self.foreseen.get(page_size)
        return found.nodes[node] if found and node in found.nodes else node_pool(page_size, node, self.root)

    def node_memory(self, node: int) -> NodeMemory:
        """The memory of a node, without what foreseen pools would take of it.

        :raises OSError: there is no such node.
        """
        memory = node_memory(node, self.root)
        taken = sum(
            (found.nodes[node].nr - node_pool(size, node, self.root).nr) * size
            for size, found in self.foreseen.items()
            if node in found.nodes
        )
        return replace(memory, free=max(0, memory.free - taken))

    def with_pool(self, page_size: int, whole: Pool, nodes: Mapping[int, NodePool]) -> SeenPools:
        """The same with another pool, that of some nodes or of none included."""
        known = self.foreseen[page_size].nodes if page_size in self.foreseen else {}
        return replace(self, foreseen={**self.foreseen, page_size: ForeseenPool(whole, {**known, **nodes})})

    def presumed(self, page_size: int) -> str:
        """What is presumed of a page size, as a sentence; empty where the kernel shows the same."""
        if page_size not in self.foreseen:
            return ""
        found, now = self.foreseen[page_size], pool(page_size, self.root)
        nodes = [item for node, item in found.nodes.items() if item != node_pool(page_size, node, self.root)]
        if found.pool == now and not nodes:
            return ""
        return (
            f"Presuming that the host has {_in_words(found.pool, page_size)} by then, as the tasks before would leave them;"
            f" now it has {_in_words(now, page_size)}."
        )


def _in_words(whole: Pool, page_size: int) -> str:
    return f"{whole.nr} huge pages of {format_size(page_size)} ({whole.free} free, {whole.reserved} of them reserved)"
