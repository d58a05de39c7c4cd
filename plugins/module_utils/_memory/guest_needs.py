# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Huge pages that the guests defined on a host need, by NUMA node. Pure but for need_of_host()."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .._guest.config import Config
from .._guest.memory_block import MemoryBlock
from .._guest.paths import guest_paths
from .._guest.store import guest_names, load_guest
from .._host.errors import Refused

_FROM_POOLS = ("hugetlbfs", "memfd")


def spread(pages: int, nodes: Sequence[int]) -> dict[int, int]:
    """Pages divided among nodes as evenly as it goes, the first ones getting the rest.

    >>> spread(5, [0, 2])
    {0: 3, 2: 2}
    """
    each, rest = divmod(pages, len(nodes))
    return {node: each + (index < rest) for index, node in enumerate(nodes)}


def need(blocks: Iterable[MemoryBlock], page_size: int, nodes: Sequence[int], present: Sequence[int]) -> dict[int, int]:
    """Pages of one size that memory blocks take, by node.

    :param nodes: where the memory of guests without ``host_nodes`` is expected, spread evenly.
    :param present: nodes of the host.
    :raises Refused: a block is bound to a node that the host lacks.
    """
    total = dict.fromkeys(nodes, 0)
    for block in blocks:
        if block.backing not in _FROM_POOLS or block.page_size != page_size:
            continue
        wanted = sorted(set(block.host_nodes)) or list(nodes)
        missing = [node for node in wanted if node not in present]
        if missing:
            raise Refused(
                f"A guest's memory block {block.id} is to lie on NUMA node {missing[0]}, which this host does not have.",
                cause=f"The nodes with memory are {', '.join(map(str, present))}.",
                cure="Correct host_nodes in the guest's definition.",
            )
        for node, pages in spread(block.size // page_size, wanted).items():
            total[node] = total.get(node, 0) + pages
    return total


def need_of_host(config: Config, page_size: int, nodes: Sequence[int], present: Sequence[int]) -> dict[int, int]:
    """The same for all guests that are defined on this host, running or not.

    :raises HostmemError: a definition cannot be read.
    """
    blocks = []
    for name in guest_names(config):
        blocks += load_guest(guest_paths(config, name)).definition.blocks
    return need(blocks, page_size, nodes, present)
