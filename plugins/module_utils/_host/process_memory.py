# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How much memory a process has, and may lock (proc_pid_status(5), proc_pid_smaps(5), proc_pid_limits(5), getrlimit(2))."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterable
from dataclasses import dataclass

_MAPPING = re.compile(r"([0-9a-f]+)-[0-9a-f]+ ")
_LOCKED = re.compile(r"^Max locked memory\s+(\S+)\s+(\S+)", re.M)


@dataclass(frozen=True)
class Limit:
    """A limit in bytes; None for none."""

    soft: int | None
    hard: int | None


def resident_size(pid: int) -> int:
    """Memory of the process that is there, in bytes: VmRSS, which has neither huge pages of a pool nor DAX in it.

    :raises OSError: it is gone.
    """
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        return kilobytes(file.read(), "VmRSS") or 0


def proportional_size(pid: int) -> int | None:
    """The same with shared pages divided among all that map them (Pss), in bytes; the kernel walks all page tables for it.

    :raises OSError: it is gone, or not ours to look at.
    """
    with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8", errors="replace") as file:
        return kilobytes(file.read(), "Pss")


def kernel_page_sizes(pid: int) -> dict[int, int]:
    """Page size of each mapping by its start address, in bytes (KernelPageSize), of untouched ones too; a walk of all page tables.

    :raises OSError: it is gone, or not ours to look at.
    """
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as file:
        return parse_page_sizes(file)


def parse_page_sizes(lines: Iterable[str]) -> dict[int, int]:
    """From lines of smaps: a mapping as in maps, then its properties such as ``KernelPageSize:     2048 kB``."""
    found = {}
    start = 0
    for line in lines:
        match = _MAPPING.match(line)
        if match:
            start = int(match.group(1), 16)
        elif line.startswith("KernelPageSize:"):
            found[start] = int(line.split()[1]) * 1024
    return found


def kilobytes(text: str, name: str) -> int | None:
    """A line such as ``VmRSS:     1234 kB``, in bytes."""
    match = re.search(rf"^{re.escape(name)}:\s+(\d+) kB", text, re.M)
    return int(match.group(1)) * 1024 if match else None


def locked_memory_limit(pid: int) -> Limit | None:
    """RLIMIT_MEMLOCK of a process.

    :raises OSError: it is gone, or not ours to look at.
    """
    with open(f"/proc/{pid}/limits", encoding="ascii", errors="replace") as file:
        return parse_locked_memory(file.read())


def parse_locked_memory(text: str) -> Limit | None:
    """The line ``Max locked memory         8388608              unlimited            bytes``."""
    match = _LOCKED.search(text)
    if match is None:
        return None
    soft, hard = (None if word == "unlimited" else int(word) for word in match.groups())
    return Limit(soft, hard)


def own_locked_memory_limit() -> Limit:
    """RLIMIT_MEMLOCK of this process, and so of what its session starts."""
    soft, hard = (
        None if value == resource.RLIM_INFINITY else value for value in resource.getrlimit(resource.RLIMIT_MEMLOCK)
    )
    return Limit(soft, hard)
