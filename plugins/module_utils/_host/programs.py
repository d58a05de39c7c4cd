# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Other programs: run to their end, or started to outlive this one. Always a list of words, never a shell."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import IO

Finished = subprocess.CompletedProcess[str]
Started = subprocess.Popen[bytes]
TimeoutExpired = subprocess.TimeoutExpired


def run(words: Sequence[str], timeout: float | None = None) -> Finished:
    """Run a program without input and wait for it; its status and what it wrote, whatever that is.

    :param timeout: in seconds; then the program is killed.
    :raises OSError: it cannot be run.
    :raises TimeoutExpired: it took longer.
    """
    # AnsibleModule.run_command() is for modules; this also runs without Ansible.
    return subprocess.run(  # pylint: disable=ansible-bad-function
        words,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=timeout,
        check=False,
    )


def spawn(words: Sequence[str], output: IO[bytes], inherited: Sequence[int]) -> Started:
    """Start a program in a session of its own, so that it outlives this one; what it makes only its user can open.

    :param output: takes its stdout and stderr.
    :param inherited: descriptors that it keeps, beside those three.
    :raises OSError: it cannot be run.
    """
    # AnsibleModule.run_command() waits for the end, and is for modules; this also runs without Ansible.
    return subprocess.Popen(  # pylint: disable=ansible-bad-function
        words,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        pass_fds=inherited,
        cwd="/",
        umask=0o077,
    )
