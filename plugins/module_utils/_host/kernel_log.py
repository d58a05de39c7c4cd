# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the kernel logs while something is done (/dev/kmsg, Documentation/ABI/testing/dev-kmsg): often the only place with the reason."""

from __future__ import annotations

import contextlib
import os
from types import TracebackType


class KernelLog:
    """The kernel's messages from the ``with`` on; none where its log cannot be read (containers)."""

    def __init__(self) -> None:
        self._descriptor = -1

    def __enter__(self) -> KernelLog:
        with contextlib.suppress(OSError):
            self._descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._descriptor, 0, os.SEEK_END)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def lines(self, *containing: str) -> list[str]:
        """The new messages that contain one of the texts, whatever the case of letters; the newest last."""
        found = []
        while self._descriptor >= 0:
            try:
                record = os.read(self._descriptor, 8192).decode("utf-8", "replace")
            except BrokenPipeError:
                continue  # overwritten before it was read; the next read goes on with the oldest one left
            except OSError:
                break  # EAGAIN: no more
            # "PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;MESSAGE", then lines of details
            message = record.partition(";")[2].split("\n")[0]
            if any(text.lower() in message.lower() for text in containing):
                found.append(message)
        return found
