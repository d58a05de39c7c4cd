# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Points at which the runtime is cut off by tests."""

from __future__ import annotations

import contextlib
from pathlib import Path

from support.engine import EngineHost

KILL = "os.kill(os.getpid(), 9)"
"""What a runtime does to itself at a point."""

# Where a restore is cut off, and whether the guest is still saved then; if not, it runs.
RESTORE_POINTS = [
    ("_guest/journal.py", "restoring", "before", True),
    ("_guest/journal.py", "restoring", "after", True),
    ("_guest/restore.py", "launch", "after", True),
    ("_guest/restore.py", "save_record", "after", True),
    ("_guest/qmp.py", "migrate-incoming", "before", True),
    ("_guest/qmp.py", "migrate-incoming", "after", True),
    ("_guest/restore.py", "prepare_current", "after", True),
    ("_guest/checkpoint_store.py", "rename_durably", "before", True),
    ("_guest/checkpoint_store.py", "rename_durably", "after", False),
    ("_guest/checkpoint_store.py", "_write_spent", "before", False),
    ("_guest/checkpoint_store.py", "_write_spent", "after", False),
    ("_guest/checkpoint_store.py", "remove_durably", "after", False),
    ("_guest/journal.py", "restored", "before", False),
    ("_guest/journal.py", "restored", "after", False),
    ("_guest/qmp.py", "cont", "before", False),
    ("_guest/qmp.py", "cont", "after", False),
    ("_guest/restore.py", "make_current", "after", False),
    ("_guest/checkpoint_store.py", "forget_spent", "before", False),
    ("_guest/checkpoint_store.py", "forget_spent", "after", False),
]


def fault(
    host: EngineHost, path: str, name: str, when: str, act: str = KILL
) -> contextlib.AbstractContextManager[None]:
    """The runtime that dies at a point: a journal step, a QMP command, or a function of a file. What recovers may pass it."""
    once = f"/tmp/{host.root.name}.once"
    host.later.callback(Path(once).unlink, missing_ok=True)
    act = f"if not os.path.exists({once!r}): open({once!r}, 'w').close(); {act}"
    if path == "_guest/journal.py":
        return host.at_step(name, act, when)
    if path == "_guest/qmp.py":
        return host.at_command(name, act, when)
    return host.at_function(path, name, act, when)


def names(points: list[tuple[str, str, str, bool]]) -> list[str]:
    return [f"{when}-{name}" for _path, name, when, _saved in points]
