# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A mark that a guest runs, which outlives its host: what a stop or a save has not taken away tells the next start of a power cut."""

from __future__ import annotations

import json
from contextlib import suppress

from .._host.boot_id import boot_id
from .._host.durable import remove_durably, sync_directory, sync_file
from .._host.files import read_plain, write_json
from .._host.journald import log_record
from .definition import Definition
from .errors import Refused
from .paths import GuestPaths

_ERROR = 3  # syslog(3)


def mark_running(paths: GuestPaths, generation: int) -> None:
    """The guest runs. Without the mark, for which there may be no space, it runs all the same, and the journal tells of it."""
    try:
        write_json(paths.running_mark, {"boot_id": boot_id(), "generation": generation})
        sync_file(paths.running_mark)
        sync_directory(paths.state)
    except OSError as error:
        log_record(
            f"Guest {paths.name} runs without {paths.running_mark}: after a power cut its next start would not know that it had run. {error}",
            _ERROR,
            guest=paths.name,
            event="not-marked",
        )


def unmark_running(paths: GuestPaths) -> None:
    """The guest ended in order."""
    with suppress(OSError):
        remove_durably(paths.running_mark)


def went_down(paths: GuestPaths) -> bool:
    """Whether the host went down under the guest, in an earlier boot than this one."""
    try:
        kept = json.loads(read_plain(paths.running_mark))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except ValueError:
        return True
    return not isinstance(kept, dict) or kept.get("boot_id") != boot_id()


def refuse_after_power_cut(paths: GuestPaths, definition: Definition) -> None:
    """:raises Refused: the host went down under the guest, and its definition says that it does not start anew then."""
    if definition.on_power_cut == "refuse" and went_down(paths):
        raise Refused(
            f"Guest {paths.name} ran when its host went down, and had not been saved.",
            cause="Its memory is there, but not what its devices and vCPUs were: it can only be started anew (on_power_cut is refuse).",
            cure=f"Look at its disks if need be, then give up what it was: hostmem discard {paths.name}",
        )
