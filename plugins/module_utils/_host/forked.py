# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Work done in a child process, whose end ends nothing else: processes it started go on."""

from __future__ import annotations

import os
import select
import traceback
from collections.abc import Callable
from typing import NoReturn


def text_from_child(work: Callable[[], str], meanwhile: Callable[[], None] = lambda: None) -> tuple[str, int]:
    """What ``work`` gives, and the child's wait status (waitpid(2)). The text is empty when it raised something, which stderr shows, or
    was killed.

    :param meanwhile: called about each second until then, by this process.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _tell(work, reading, writing)
    os.close(writing)
    try:
        with os.fdopen(reading, encoding="utf-8") as pipe:
            while not select.select([pipe], [], [], 1.0)[0]:
                meanwhile()
            text = pipe.read()
    finally:
        _pid, status = os.waitpid(child, 0)
    return text, status


def _tell(work: Callable[[], str], reading: int, writing: int) -> NoReturn:
    """Never returns into the parent's code, whatever happens."""
    status = 1
    try:
        os.close(reading)
        text = work()
        with os.fdopen(writing, "w", encoding="utf-8") as pipe:
            pipe.write(text)
        status = 0
    except BaseException:  # the parent sees the missing result
        traceback.print_exc()
    finally:
        os._exit(status)
