# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How fast a file system takes data, by trying it."""

from __future__ import annotations

import os
import time

_SAMPLE = 16 << 20


def write_rate(directory: str) -> float:
    """Bytes per second that reach the device, by a sample that leaves nothing behind.

    :raises OSError: the directory cannot be written, or is full.
    """
    path = f"{directory}/sample.{os.getpid()}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.unlink(path)
        began = time.monotonic()
        file.write(os.urandom(_SAMPLE))
        file.flush()
        os.fsync(file.fileno())
        return _SAMPLE / max(time.monotonic() - began, 1e-6)
