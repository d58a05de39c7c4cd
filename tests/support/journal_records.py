# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a test's runtime sends to the journal, read at a socket in the place of journald's."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator

from support.engine import EngineHost

JOURNALD = ("_host/journald.py", '"/run/systemd/journal/socket"')


@contextlib.contextmanager
def journal_records(host: EngineHost) -> Iterator[Callable[[], list[str]]]:
    """A function that reads the records that came since its last call, each with all its fields."""
    path = str(host.root / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        os.chmod(path, 0o777)
        listener.setblocking(False)

        def read() -> list[str]:
            found = []
            while True:
                try:
                    found.append(listener.recv(65536).decode(errors="replace"))
                except BlockingIOError:
                    return found

        with host.patched(*JOURNALD, repr(path)):
            yield read
    os.unlink(path)
