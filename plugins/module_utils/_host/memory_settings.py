# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kernel's ways with memory (Documentation/admin-guide/mm/transhuge.rst and ksm.rst, Documentation/admin-guide/sysctl/vm.rst)."""

from __future__ import annotations

import re
from typing import Any

from .numa import SYS
from .sysfs import number_in, text_in

_CHOSEN = re.compile(r"\[(\S+)\]")


def transparent_huge_pages(root: str = SYS) -> dict[str, Any]:
    """What is chosen in enabled, defrag and shmem_enabled, and the size in bytes; without what the kernel lacks."""
    directory = f"{root}/kernel/mm/transparent_hugepage"
    found: dict[str, Any] = {}
    for name in ("enabled", "defrag", "shmem_enabled"):
        match = _CHOSEN.search(text_in(f"{directory}/{name}"))
        if match:
            found[name] = match.group(1)
    size = number_in(f"{directory}/hpage_pmd_size")
    return found if size is None else {**found, "page_size": size}


def same_page_merging(root: str = SYS) -> dict[str, Any]:
    """KSM: whether it runs, pages that several mappings share (``sharing`` of them in ``shared`` pages); empty without it."""
    directory = f"{root}/kernel/mm/ksm"
    run = number_in(f"{directory}/run")
    if run is None:
        return {}
    numbers = {name: number_in(f"{directory}/pages_{name}") for name in ("shared", "sharing")}
    # 2 takes all merged pages apart again, and stops.
    return {"running": run == 1, **{f"pages_{name}": number for name, number in numbers.items() if number is not None}}


def overcommit(proc: str = "/proc") -> dict[str, Any]:
    """vm.overcommit_memory (0: by a guess, 1: always, 2: never beyond the limit), and in bytes the limit and what is promised."""
    found: dict[str, Any] = {}
    for key, name in (("memory", "overcommit_memory"), ("ratio", "overcommit_ratio")):
        number = number_in(f"{proc}/sys/vm/{name}")
        if number is not None:
            found[key] = number
    meminfo = text_in(f"{proc}/meminfo")
    for key, name in (("limit", "CommitLimit"), ("committed", "Committed_AS")):
        match = re.search(rf"^{name}:\s+(\d+) kB", meminfo, re.M)
        if match:
            found[key] = int(match.group(1)) * 1024
    return found


def host_memory(proc: str = "/proc") -> dict[str, int]:
    """Memory of the whole host in bytes (proc_meminfo(5)): total, free, available, shared (tmpfs and memfd), swap_total, swap_free."""
    names = {
        "total": "MemTotal",
        "free": "MemFree",
        "available": "MemAvailable",
        "shared": "Shmem",
        "swap_total": "SwapTotal",
        "swap_free": "SwapFree",
    }
    meminfo = text_in(f"{proc}/meminfo")
    found = {key: re.search(rf"^{name}:\s+(\d+) kB", meminfo, re.M) for key, name in names.items()}
    return {key: int(match.group(1)) * 1024 for key, match in found.items() if match}


def unprivileged_userfaultfd(proc: str = "/proc") -> bool | None:
    """vm.unprivileged_userfaultfd: any process may handle faults of the kernel too (Linux 5.2); None where there is no such setting."""
    number = number_in(f"{proc}/sys/vm/unprivileged_userfaultfd")
    return None if number is None else bool(number)
