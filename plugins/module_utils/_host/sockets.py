# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Unix sockets as the kernel shows them in /proc/net/unix (proc_net_unix(5))."""

from __future__ import annotations

import os

_LISTENING = 0x10000  # __SO_ACCEPTCON


def listening(path: str) -> bool:
    """Whether a connection to the socket at an absolute path would be accepted, found out without making one.

    The file alone does not tell: bind(2) makes it, and until listen(2) whoever connects is refused.
    """
    if not os.path.exists(path):
        return False
    with open("/proc/net/unix", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.split(maxsplit=7)  # Num RefCount Protocol Flags Type St Inode Path
            if len(fields) == 8 and fields[7].rstrip("\n") == path and int(fields[3], 16) & _LISTENING:
                return True
    return False
