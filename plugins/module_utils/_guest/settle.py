# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What precedes a stop. systemd does not power a guest down whose unit reloads: it skips ExecStop and sends SIGTERM to QEMU and to the
reload's program (service_stop() in src/core/service.c, systemd 252 to 257). The reload has to be over first.
"""

from __future__ import annotations

import time
from typing import Any

from .._host.journald import log_record
from .._host.users import run_as
from .config import Config
from .journal import Journal
from .paths import GuestPaths, guest_paths
from .systemd import active_state, end_reload_program

_POLL = 0.1


def settle(config: Config, name: str) -> dict[str, Any]:
    """As root: wait until the guest's unit does not reload. A live update that moves the guest ends by itself; one that has not begun
    to, because it waits for its turn, is cut short. systemd bounds the wait.
    """
    paths = guest_paths(config, name)
    moves = cut_short = False
    while (state := active_state(name)) in ("reloading", ""):
        moves = moves or _moves(config, paths)
        # An update that begins just now is killed, too: the unit's next line, or the stop, takes it back.
        if state and not moves:
            end_reload_program(name)
            cut_short = True
        time.sleep(_POLL)
    if cut_short:
        log_record(f"Reload of guest {name} cut short for a stop", 5, guest=name, event="reload-cut-short")
    return {"changed": cut_short}


def _moves(config: Config, paths: GuestPaths) -> bool:
    """Whether the journal, a file of the unprivileged user's, holds a step of an update."""
    moves: bool = run_as(config.user, lambda: Journal(paths).read() is not None)
    return moves
