# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which QEMU holds what memory: every one that runs on the host, with the kernel's account of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from .._host.numa_maps import MappedPages, numa_maps
from .._host.process_memory import kernel_page_sizes, locked_memory_limit, proportional_size, resident_size
from .._host.processes import mappings
from .._host.users import user_name
from .left_out import LeftOut
from .mapping_kinds import Holding, dax_question, file_systems, holdings
from .qemu_binaries import Binary
from .qemu_processes import QemuProcess, qemu_processes

# The kernel takes some 20 ms for each GiB in small pages to tell how much of it is shared.
_CHEAP = 4 << 30


def guest_holdings(run: str, installed: Sequence[Binary], left_out: LeftOut) -> list[dict[str, Any]]:
    """By PID; a QEMU that ends meanwhile is left out silently.

    :param run: the run directory of this host's hostmem; empty when that is not known.
    """
    found = []
    for item in qemu_processes(run):
        mine = LeftOut()
        facts = _facts(item, installed, mine)
        if item.process.alive():
            found.append(facts)
            if os.geteuid() not in (0, _owner(item.pid)):
                left_out.add("processes: the memory of other users' QEMUs", "only root may see it; set become to true")
                continue
            for entry in mine.as_list():
                left_out.add(entry["subject"], entry["reason"])
    return found


def _owner(pid: int) -> int:
    """Its user; root for a process that forbids others to look at it, and for one that is gone."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except FileNotFoundError:
        return 0


def _facts(item: QemuProcess, installed: Sequence[Binary], left_out: LeftOut) -> dict[str, Any]:
    subject = f"processes: {item.pid}"
    facts: dict[str, Any] = {"pid": item.pid, "name": item.name, "manager": item.manager}
    if item.generation is not None:
        facts["generation"] = item.generation
    with left_out.around(subject):
        facts["user"] = user_name(_owner(item.pid))
        facts["rss"] = resident_size(item.pid)
    facts["qemu"] = _qemu(item, installed)
    with left_out.around(f"{subject}: its memory"):
        facts["memory"] = [holding.as_dict() for holding in _memory(item.pid, left_out)]
    with left_out.around(f"{subject}: its limit of locked memory"):
        limit = locked_memory_limit(item.pid)
        facts["memlock"] = {"soft": limit.soft, "hard": limit.hard} if limit else None
    if facts.get("rss", _CHEAP) < _CHEAP:
        with left_out.around(f"{subject}: its share of shared memory"):
            facts["pss"] = proportional_size(item.pid)
    return facts


def _qemu(item: QemuProcess, installed: Sequence[Binary]) -> dict[str, Any]:
    """Which file it runs: whether that is gone or replaced, and which of the installed ones it is."""
    if not item.executable:
        return {"path": None, "deleted": None, "installed_as": None, "version": None, "package": None}
    identity = item.process.executable()
    same = next((binary for binary in installed if identity and binary.identity == identity), None)
    told = same.told if same else None
    return {
        "path": item.executable.removesuffix(" (deleted)"),
        "deleted": item.executable.endswith(" (deleted)"),
        "installed_as": same.path if same else None,
        "version": ".".join(str(part) for part in told.version) if told else None,
        "package": told.package if told else None,
    }


def _memory(pid: int, left_out: LeftOut) -> list[Holding]:
    """:raises OSError: it is not ours to look at."""
    types = file_systems(pid)
    pages: dict[int, MappedPages] = {}
    try:
        pages = numa_maps(pid)
    except FileNotFoundError:
        left_out.add("processes: nodes of their memory", "this kernel knows no NUMA (CONFIG_NUMA)")
    sizes: dict[int, int] = {}
    if not pages or any(item.huge and not item.page_size for item in pages.values()):
        sizes = kernel_page_sizes(pid)
    question = dax_question(pid, lambda reason: left_out.add(f"processes: {pid}: its memory", reason))
    return holdings(mappings(pid), types, pages, sizes, question)
