# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real directories for RAM files in a tmpfs, and a real process that maps one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.backing_files import Plan, apply_present, plan_present
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.layout import PlacedBlock
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.single_block import parse_single_block
from ansible_collections.hostmem.qemu.plugins.module_utils._host.users import User, group_name, user_name

ME = User(user_name(os.getuid()), os.getuid(), os.getgid(), group_name(os.getgid()))
MEBIBYTE = 1 << 20
_MAP = "import mmap, sys; f = open(sys.argv[1], 'r+b'); m = mmap.mmap(f.fileno(), 4096); print('mapped', flush=True); sys.stdin.read()"


def block(directory: Path, size: int = MEBIBYTE, **options: object) -> PlacedBlock:
    """A single block in the directory."""
    return parse_single_block({"size": size, "directory": str(directory), **options})


def make(*blocks: PlacedBlock, fresh: bool = False) -> Plan:
    """Plan and carry out; the plan."""
    plan = plan_present(blocks, ME, fresh)
    apply_present(plan, ME)
    return plan


@contextlib.contextmanager
def mapped(path: str) -> Iterator[int]:
    """Another process maps the file; its PID."""
    with subprocess.Popen(
        [sys.executable, "-c", _MAP, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            if process.stdout is None or process.stdout.readline() != "mapped\n":
                raise AssertionError(f"{path} could not be mapped")
            yield process.pid
        finally:
            process.kill()
