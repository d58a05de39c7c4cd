# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a guest runs in an older QEMU than the installed one, from the kernel's and QEMU's own word."""

from __future__ import annotations

from .._host.processes import Process, mappings
from .preflight import Preflight


def outdated_reasons(found: Preflight, process: Process) -> list[str]:
    """Why the running QEMU is not the installed one; empty when it is."""
    installed = found.installed
    if not installed.inode:
        return []
    reasons = []
    running = ".".join(str(part) for part in found.running_version)
    if (running, found.running_package) != (installed.version_text, installed.package):
        reasons.append(
            f"runs QEMU {running} ({found.running_package}), installed is {installed.version_text} ({installed.package})"
        )
    if process.executable() != (installed.device, installed.inode):
        reasons.append(f"{installed.path} was replaced since the guest's QEMU started")
    replaced = sorted(
        {item.path[: -len(" (deleted)")] for item in mappings(process.pid) if _is_deleted_library(item.path)}
    )
    if replaced:
        reasons.append("uses replaced libraries: " + ", ".join(replaced))
    return reasons


def _is_deleted_library(path: str) -> bool:
    return path.endswith(" (deleted)") and ".so" in path.rpartition("/")[2]
