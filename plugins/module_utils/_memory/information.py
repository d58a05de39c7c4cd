# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host has of memory, who holds it, and what QEMU may do here: everything that is looked at before a guest comes. Read only."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from .._guest.config import Config, load_config
from .._host.hugepages import default_page_size, node_pool, page_sizes, pool
from .._host.memory_settings import host_memory as memory_of_host
from .._host.memory_settings import overcommit, same_page_merging, transparent_huge_pages
from .._host.numa import memory_nodes, node_cpus, node_distances, node_memory, online_nodes
from .device_access import kvm, userfaultfd
from .guest_holdings import guest_holdings
from .left_out import LeftOut
from .limit_information import guest_unit, limits
from .mount_information import memory_mounts
from .pmem_information import persistent_memory
from .qemu_binaries import Binary, ask, binaries


def host_memory(config_path: str, subset: Sequence[str]) -> dict[str, Any]:
    """The parts that are asked for, and in ``left_out`` what could not be read of them, with the reasons.

    :param subset: some of SUBSETS.
    """
    report = _Report(config_path, subset)
    return {**report.parts(), "left_out": report.left_out.as_list()}


class _Report:
    """What several parts need is read once."""

    def __init__(self, config_path: str, subset: Sequence[str]) -> None:
        self.left_out = LeftOut()
        self.wanted = set(subset)
        self.config: Config | None = None
        self.unit: dict[str, Any] | None = None
        self.binaries: list[Binary] = []
        if self.wanted & {"kvm", "userfaultfd", "limits", "qemus", "processes"}:
            with self.left_out.around("config"):
                self.config = load_config(config_path)
        if self.wanted & {"kvm", "userfaultfd", "limits"}:
            with self.left_out.around("limits: of the guests' unit"):
                self.unit = guest_unit(self.config)
        if self.wanted & {"qemus", "processes"}:
            self.binaries = binaries(self.config, self.left_out)

    def parts(self) -> dict[str, Any]:
        found = {}
        for name, part in _PARTS.items():
            if name in self.wanted:
                with self.left_out.around(name):
                    found[name] = part(self)
        return found


def _numa_nodes(report: _Report) -> list[dict[str, Any]]:
    found = []
    with_memory = memory_nodes()
    for node in online_nodes():
        facts: dict[str, Any] = {"node": node, "cpus": _cpus(node), "distances": node_distances(node), "memory": None}
        found.append(facts)
        with report.left_out.around(f"numa_nodes: memory of node {node}"):
            if node in with_memory:
                memory = node_memory(node)
                facts["memory"] = {"total": memory.total, "free": memory.free, "available": memory.available}
    return found


def _cpus(node: int) -> list[int]:
    """All CPUs belong to the one node where the kernel knows no NUMA."""
    if os.path.isdir("/sys/devices/system/node"):
        return sorted(node_cpus([node]))
    return sorted(os.sched_getaffinity(0))


def _huge_pages(report: _Report) -> dict[str, Any]:
    pools = []
    for size in page_sizes():
        with report.left_out.around(f"huge_pages: pages of {size} bytes"):
            nodes = [{"node": node, **node_pool(size, node).as_dict()} for node in memory_nodes()]
            pools.append({"page_size": size, **pool(size).as_dict(), "nodes": nodes})
    return {"default_page_size": default_page_size() or None, "pools": pools}


def _kernel(_report: _Report) -> dict[str, Any]:
    return {
        "release": os.uname().release,
        "transparent_huge_pages": transparent_huge_pages(),
        "ksm": same_page_merging(),
        "overcommit": overcommit(),
    }


def _qemus(report: _Report) -> list[dict[str, Any]]:
    ask(report.binaries, report.left_out)
    return [item.as_dict() for item in report.binaries]


def _processes(report: _Report) -> list[dict[str, Any]]:
    run = report.config.run if report.config else ""
    return guest_holdings(run, report.binaries, report.left_out)


# In this order: the processes' versions are those of the QEMUs that were asked.
_PARTS: dict[str, Callable[[_Report], Any]] = {
    "memory": lambda _report: memory_of_host(),
    "numa_nodes": _numa_nodes,
    "huge_pages": _huge_pages,
    "mounts": lambda report: memory_mounts(report.left_out),
    "pmem": lambda report: persistent_memory(report.left_out),
    "userfaultfd": lambda report: userfaultfd(
        report.config.user if report.config else None, report.unit, report.left_out
    ),
    "kvm": lambda report: kvm(report.config.user if report.config else None, report.unit, report.left_out),
    "kernel": _kernel,
    "limits": lambda report: limits(report.unit),
    "qemus": _qemus,
    "processes": _processes,
}
SUBSETS = tuple(_PARTS)
