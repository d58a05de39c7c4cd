# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How many free huge pages a node has to keep for those who can take them nowhere else. Pure but for the names of processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .._host.bound_pages import BoundPages, node_groups
from .._host.processes import command_lines
from .qemu_processes import guest_name


def kept_free(node: int, free: Mapping[int, int], promised: Sequence[BoundPages]) -> tuple[int, list[BoundPages]]:
    """Free pages that must stay on the node, and for whom.

    All can be served if each group of nodes has as many free pages as are promised to those who keep to it (Hall's theorem).

    :param free: free pages by node, of all nodes.
    """
    most, whom = 0, list[BoundPages]()
    for group in node_groups([item.nodes for item in promised]):
        inside = [item for item in promised if item.nodes <= group]
        elsewhere = sum(free.get(other, 0) for other in group if other != node)
        needed = sum(item.pages for item in inside) - elsewhere
        if node in group and needed > most:
            most, whom = needed, inside
    return most, whom


def describe(promised: Sequence[BoundPages]) -> str:
    """Who they are, for errors: ``guest web1 (process 12), which may still take 4``."""
    words = dict(command_lines())
    return "; ".join(
        f"{_name(words.get(item.pid, []))} (process {item.pid}), which may still take {item.pages} from node"
        f" {' or '.join(map(str, sorted(item.nodes)))} only"
        for item in promised
    )


def _name(words: Sequence[str]) -> str:
    guest = guest_name(words)
    return f"guest {guest}" if guest else (words[0] if words else "a process")
