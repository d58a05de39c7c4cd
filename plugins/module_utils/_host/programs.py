# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Other programs: run to their end, or started to outlive this one. Always a list of words, never a shell.

A program that is named without a directory is looked for by required(), so that each one that is missing is an error with its package.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from .errors import HostmemError
from .packages import install

Finished = subprocess.CompletedProcess[str]
Started = subprocess.Popen[bytes]
TimeoutExpired = subprocess.TimeoutExpired


def run(words: Sequence[str], timeout: float | None = None) -> Finished:
    """Run a program without input and wait for it; its status and what it wrote, whatever that is.

    :param timeout: in seconds; then the program is killed.
    :raises HostmemError: it is not installed; with the package that has it.
    :raises OSError: it cannot be run.
    :raises TimeoutExpired: it took longer.
    """
    # AnsibleModule.run_command() is for modules; this also runs without Ansible.
    return subprocess.run(  # pylint: disable=ansible-bad-function
        _with_path(words),
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
    :raises HostmemError: it is not installed; with the package that has it.
    :raises OSError: it cannot be run.
    """
    # AnsibleModule.run_command() waits for the end, and is for modules; this also runs without Ansible.
    return subprocess.Popen(  # pylint: disable=ansible-bad-function
        _with_path(words),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        pass_fds=inherited,
        cwd="/",
        umask=0o077,
        env={key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"},  # systemd listens to this one
    )


@contextmanager
def dialogue(words: Sequence[str], timeout: float, complaints: IO[str]) -> Iterator[tuple[IO[str], IO[str]]]:
    """A program while it is talked to: its stdin and its stdout. Afterwards, and when the time is over, it is killed.

    :param timeout: in seconds; then its stdout ends.
    :param complaints: file that takes its stderr.
    :raises HostmemError: it is not installed; with the package that has it.
    :raises OSError: it cannot be run.
    """
    # AnsibleModule.run_command() cannot answer what a program says.
    with subprocess.Popen(  # pylint: disable=ansible-bad-function
        _with_path(words),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=complaints,
        encoding="utf-8",
        errors="replace",
        cwd="/",
    ) as popen:
        if popen.stdin is None or popen.stdout is None:
            raise OSError("no pipes")
        end = threading.Timer(timeout, popen.kill)
        end.start()
        try:
            yield popen.stdin, popen.stdout
        finally:
            end.cancel()
            popen.kill()


# Programs of the administrator lie in sbin, which a service's or user's PATH may lack.
_DIRECTORIES = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin")


def find_program(program: str) -> str | None:
    """The path of a program, on PATH or where administrators' programs lie; None when it is not installed."""
    places = [*os.environ.get("PATH", "").split(os.pathsep), *_DIRECTORIES]
    return shutil.which(program, path=os.pathsep.join(place for place in places if place))


def required(program: str) -> str:
    """The path of a program.

    :raises HostmemError: it is not installed; with the package that has it on this distribution.
    """
    found = find_program(program)
    if found is not None:
        return found
    raise HostmemError(
        f"The program {program} is not installed on this host.",
        cause=f"It is in none of the directories of PATH, nor in {', '.join(_DIRECTORIES)}.",
        cure=install(program),
    )


def _with_path(words: Sequence[str]) -> list[str]:
    """A name without a directory becomes a path; a path stays, whatever is there."""
    return [words[0] if os.path.dirname(words[0]) else required(words[0]), *words[1:]]
