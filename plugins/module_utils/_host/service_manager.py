# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Telling systemd that a line of a unit needs more time than the unit gives it (sd_notify(3))."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress

EXTENSION = 120.0
"""Seconds from the last word on, after which the line counts as hanging."""

_PAUSE = 10.0
_ends: list[float] = []


def still_at_work(within: float = EXTENSION) -> None:
    """To be called again and again by what can take minutes. Does nothing outside a unit, or in one that does not listen (NotifyAccess=).

    :param within: seconds in which the next word comes, or the line ends.

    systemd moves the end of the current state's timeout for any Type= and any of the unit's lines (service_notify_message() in
    src/core/service.c); without a further word the line is ended.
    """
    now = time.monotonic()
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address or (_ends and now + within < _ends[0] + _PAUSE):
        return
    _ends[:] = [now + within]
    word = f"EXTEND_TIMEOUT_USEC={int(within * 1e6)}".encode("ascii")
    # If it cannot be said, the unit's own time is all there is.
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notice:
        notice.sendto(word, _address(address))


def _address(text: str) -> str:
    return f"\0{text[1:]}" if text.startswith("@") else text
