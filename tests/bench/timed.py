# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Timing a command: wall clock and CPU, from before it is started until it has been reaped."""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Timed:
    """``cpu_ms``: user and system time of the command and of the children it waited for. QEMU outlives it and is not in it."""

    wall_ms: float
    cpu_ms: float
    output: str


def timed(words: Sequence[str], user: str | None = None, environment: Mapping[str, str] | None = None) -> Timed:
    """Run a command, as another user where one is given.

    :raises RuntimeError: it failed; with what it wrote.
    """
    account = pwd.getpwnam(user) if user else None
    identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
    # A file: reading a pipe meanwhile would take CPU from what is measured.
    with tempfile.TemporaryFile() as output:
        began = time.monotonic()
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=environment,
            **identity,  # type: ignore[call-overload]
        )
        _pid, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode(errors="replace")
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(words)} ended with {process.returncode}:\n{text}")
    return Timed(wall * 1000, (usage.ru_utime + usage.ru_stime) * 1000, text)
