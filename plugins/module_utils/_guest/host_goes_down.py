# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The end of a guest's unit while its host goes down: a guest that wants to be saved is saved, and if that fails powered down, loudly."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from .._host.durable import sync_file
from .._host.files import read_plain, write_json
from .._host.host_shutdown import going_down
from .._host.journald import log_record
from .._host.times import in_utc
from .checkpoint_store import counts
from .config import Config
from .definition import Definition, parse_definition
from .errors import HostmemError, Refused
from .generations import Generation, living_generations
from .lasting_checks import volatile_memory
from .lifecycle import VERB_WAIT, stop
from .paths import GuestPaths, guest_paths
from .save import SaveOptions, save
from .store import load_guest
from .unforeseen import as_hostmem_error

_ERROR, _WARNING = 3, 4  # syslog(3)
UNKNOWN = "unknown"
"""The kind of a shutdown when systemd did not answer: the guest is saved rather than lost."""


@dataclass(frozen=True)
class Limits:
    """Seconds: ``save`` for bringing the guest's memory to its device while it still runs, ``power_down`` between ACPI power-down and quit."""

    save: float
    power_down: float

    @property
    def wait(self) -> float:
        """For another verb that does not get on: it may be bringing memory to its device, too."""
        return VERB_WAIT + self.save


async def stop_or_save(config: Config, name: str, limits: Limits) -> dict[str, Any]:
    """What ExecStop does when nobody asked for a stop by the runtime's own verb.

    :raises HostmemError: a QEMU could not even be killed.
    """
    paths = guest_paths(config, name)
    defined = load_guest(paths).definition
    kind = _kind() if defined.on_host_shutdown == "save" else ""
    living = living_generations(paths)
    if not kind or not living:
        return await stop(config, name, limits.power_down, limits.wait)
    # What a power cut leaves of the next steps.
    _record(paths, kind, "cut off while it was saved")
    try:
        await _save(config, paths, _started_with(living) or defined, limits.save)
    except Exception as error:
        if not counts(paths):
            return await _power_down(config, paths, kind, limits, as_hostmem_error(error))
        _tell_of_leftover(paths, as_hostmem_error(error))
    _record(paths, kind, "saved")
    return {**await stop(config, name, 0.0), "changed": True, "how": "saved"}


def _started_with(living: list[Generation]) -> Definition | None:
    """An update that was cut off leaves a QEMU without a record beside the guest's; the memory of both is the same."""
    records = [generation.record["definition"] for generation in living if "definition" in generation.record]
    return parse_definition(records[-1]) if records else None


def _kind() -> str:
    try:
        return going_down()
    except HostmemError as error:
        log_record(f"{error} A guest that wants to be saved is saved.", _ERROR, event="shutdown-unknown")
        return UNKNOWN


async def _save(config: Config, paths: GuestPaths, definition: Definition, limit: float) -> None:
    found = volatile_memory(config, definition)
    if found:
        raise Refused(
            f"Guest {paths.name} cannot be saved when its host shuts down: {'; '.join(found)}.",
            cause="It runs since before its memory was moved.",
            cure="Restart it, so that its memory is where the definition says. Until then it is powered down with its host.",
        )
    await save(config, paths.name, SaveOptions(sync_limit=limit))


def _tell_of_leftover(paths: GuestPaths, error: HostmemError) -> None:
    """What failed after the guest was saved, as the end of its QEMU, does not take the guest back."""
    log_record(
        f"Guest {paths.name} is saved as its host goes down, but something is left over: {error}",
        _WARNING,
        guest=paths.name,
        event="left-over",
    )


async def _power_down(
    config: Config, paths: GuestPaths, kind: str, limits: Limits, error: HostmemError
) -> dict[str, Any]:
    log_record(
        f"Guest {paths.name} is powered down, not saved, as its host goes down ({kind}): {error}",
        _ERROR,
        guest=paths.name,
        event="not-saved",
    )
    _record(paths, kind, "cut off while it was powered down", error)
    result = await stop(config, paths.name, limits.power_down, limits.wait)
    _record(paths, kind, result["how"], error)
    return result


def _record(paths: GuestPaths, kind: str, outcome: str, error: HostmemError | None = None) -> None:
    """Kept beside the checkpoint. Without space for it the journal alone tells."""
    record = {"at": time.time(), "kind": kind, "outcome": outcome, **({"error": error.as_dict()} if error else {})}
    with suppress(OSError):
        write_json(_path(paths), record)
        sync_file(_path(paths))


def last_shutdown(paths: GuestPaths) -> dict[str, Any]:
    """What became of the guest when its host last went down; empty when it has never been to be saved then. ``at`` in UTC."""
    try:
        record = json.loads(read_plain(_path(paths)))
        at = in_utc(record["at"])
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    return {**record, "at": at}


def _path(paths: GuestPaths) -> str:
    return f"{paths.state}/last-shutdown.json"
