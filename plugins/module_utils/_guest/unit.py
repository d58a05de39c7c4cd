# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lines of hostmem-guest@.service. Those marked + in the unit run as root, the others as QEMU's user, in its sandbox.

Only ``settle`` is a line of hostmem-updates@.service, which runs as root.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from .._host.cgroups import in_same_groups
from .._host.journald import log_record
from .._host.processes import Process
from .._host.service_manager import still_at_work
from .._host.users import run_as
from .config import Config
from .errors import HostmemError
from .generations import qemu_processes
from .host_goes_down import Limits, stop_or_save
from .late_devices import wait_for_devices
from .lifecycle import start, stop
from .live_update import UpdateOptions, update
from .locks import resource_locks
from .managed import is_asked, last_failed, leave_result, take_request
from .paths import GuestPaths, guest_paths
from .recovery import recover
from .restore import RestoreOptions
from .settle import settle
from .store import load_guest
from .verbs import Result, ensure_guest_taps, failure, hangs, prepare_alone, release_guest
from .watchdog import Watchdog

LINES = ("prepare", "taps", "start", "update", "recover", "settle", "stop", "release")


def run_line(config: Config, line: str, name: str, limits: Limits) -> Result:
    """Run one line of the unit.

    :param limits: for ``stop``, and for ``release`` where that has been left out.
    """
    if line == "prepare":
        return _prepare(config, name)
    if line == "taps":
        return _plain(name, lambda: ensure_guest_taps(config, name))
    if line == "settle":
        return _plain(name, lambda: settle(config, name))
    if line == "release":
        return _release(config, name, limits)
    if line == "recover":
        return _recover(config, name)
    request = take_request(config, name, line)
    options = UpdateOptions(**request.get("options", {})) if line == "update" else UpdateOptions()
    older = bool(request.get("options", {}).get("older", False))
    works: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {
        "start": lambda: start(config, name, RestoreOptions(older)),
        "update": lambda: update(config, name, options),
        "stop": lambda: _stop(config, name, request, limits),
    }
    with resource_locks([guest_paths(config, name).run] if line == "start" else []):
        result = _watched(config, name, lambda: _awaited(name, works[line]()))
    leave_result(config, name, request, result)
    return result


def _stop(config: Config, name: str, request: dict[str, Any], limits: Limits) -> Awaitable[dict[str, Any]]:
    """Whoever asked for a stop gets one; otherwise the guest is stopped by systemctl, or because its host goes down."""
    if "timeout" in request.get("options", {}):
        return stop(config, name, float(request["options"]["timeout"]), limits.wait)
    return stop_or_save(config, name, limits)


def _release(config: Config, name: str, limits: Limits) -> Result:
    """systemd leaves ExecStop out for a unit that is stopped while it starts, sends SIGTERM to what starts it, and ends the unit's
    other processes after this line (service_stop(), service_sigchld_event() in src/core/service.c, systemd 252 to 257).
    """
    paths = guest_paths(config, name)
    if _unit_runs(paths) or os.path.lexists(paths.request):
        try:
            # systemd hears only this process (NotifyAccess=exec), which waits for the one that stops.
            run_as(config.user, lambda: _stop_left_out(config, name, limits), still_at_work)
        except RuntimeError as error:  # its watchdog ended it
            log_record(f"Guest {name} was not stopped in order: {error}", 3, guest=name, event="not-stopped")
    return _plain(name, lambda: release_guest(config, name))


def _unit_runs(paths: GuestPaths) -> bool:
    """A QEMU that runs outside of the unit, as one that was started before there were units, is not what the unit's end ends."""
    return any(in_same_groups(process.pid) for process in qemu_processes(paths).values())


def _stop_left_out(config: Config, name: str, limits: Limits) -> bool:
    """A guest that has not begun to run is off afterwards, or still saved; one that has is stopped, or saved, in order."""
    asked = is_asked(config, name, "stop")
    if not asked and not _unit_runs(guest_paths(config, name)):
        return False
    request = take_request(config, name, "stop") if asked else {}
    result = _watched(config, name, lambda: _awaited(name, _stop(config, name, request, limits)))
    leave_result(config, name, request, result)
    return True


def _plain(name: str, work: Any) -> Result:
    try:
        return {"guest": name, "ok": True, **work()}
    except Exception as error:
        return failure(name, error)


def _prepare(config: Config, name: str) -> Result:
    """A failure ends the unit's start here: it is the answer for whoever asked."""
    result = _plain(name, lambda: _prepare_when_there(config, name))
    if not result["ok"] and os.path.isdir(guest_paths(config, name).run):
        # The directory is the unprivileged user's: root writes nothing in it.
        run_as(config.user, lambda: _answer_request(config, name, result))
    return result


def _prepare_when_there(config: Config, name: str) -> dict[str, Any]:
    paths = guest_paths(config, name)
    if not qemu_processes(paths):
        wait_for_devices(load_guest(paths).definition)
    return prepare_alone(config, name)


def _answer_request(config: Config, name: str, result: Result) -> bool:
    leave_result(config, name, take_request(config, name, "start"), result)
    return True


def _awaited(name: str, work: Awaitable[dict[str, Any]]) -> Result:
    async def run() -> dict[str, Any]:
        return await work

    try:
        return {"guest": name, "ok": True, **asyncio.run(run())}
    except Exception as error:
        return failure(name, error)


def _watched(config: Config, name: str, work: Callable[[], Result]) -> Result:
    """Killed when it hangs; what it leaves is the next line's, or the next start's, to repair."""
    watchdog = Watchdog(lambda pid: hangs(config, [name], pid), lambda: None)
    result = work()
    watchdog.stand_down()
    return result


def _recover(config: Config, name: str) -> Result:
    """After ``update``: repairs what a killed updater left; fails when the guest was not moved, so that the reload is seen to fail."""
    result = _awaited(name, recover(config, name))
    if not result["ok"]:
        return result
    failed = not result["moved"] if result["changed"] else last_failed(config, name)
    if not failed:
        return result
    carriers = [f"generation {number}, process {item.pid}" for number, item in _carriers(config, name)]
    return failure(
        name,
        HostmemError(
            f"The live update of guest {name} failed. Recovery: {result['outcome']}.",
            cause=f"It is carried by {'; '.join(carriers)}." if carriers else "No QEMU carries it.",
            cure="See the unit's journal for the reason.",
        ),
    )


def _carriers(config: Config, name: str) -> list[tuple[int, Process]]:
    return sorted(qemu_processes(guest_paths(config, name)).items())
