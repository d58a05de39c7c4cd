# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""At most N live updates at once on a host, also when systemd starts all reloads together."""

from __future__ import annotations

import asyncio
import fcntl
import os
from types import TracebackType

from .config import Config

_POLL = 0.02


class UpdateSlot:
    """One of the host's ``parallel`` places; an asynchronous context manager that waits for a free one.

    :param parallel: 0 for the host's configured number.
    """

    def __init__(self, config: Config, parallel: int = 0) -> None:
        self._directory = f"{config.run}/.slots"
        self._parallel = parallel or config.parallel
        self._descriptor = -1

    async def __aenter__(self) -> UpdateSlot:
        while True:
            for number in range(self._parallel):
                descriptor = os.open(
                    f"{self._directory}/{number}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
                )
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(descriptor)
                    continue
                self._descriptor = descriptor
                return self
            await asyncio.sleep(_POLL)

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)
