# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from ansible_collections.hostmem.qemu.plugins.module_utils._host.processes import command_line

_LOOKS = 20000


def test_process_that_replaces_itself_always_shows_its_arguments(tmp_path: Path) -> None:
    script = tmp_path / "again"
    script.write_text('exec sh "$0"\n')
    with subprocess.Popen(["sh", str(script)]) as child:
        try:
            empty = sum(not command_line(child.pid) for _look in range(_LOOKS))
        finally:
            child.kill()
    assert empty == 0


def test_process_without_arguments() -> None:
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie
        assert command_line(child.pid) == []
    assert command_line(2) == []  # kthreadd, or nothing in a container
