# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The verbs on a host whose guests systemd manages: asked of the units, answered by what the units' own lines leave in result.json."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from .._host.files import read_json, read_plain, remove_file, write_json
from .._host.users import run_as
from .config import Config
from .errors import HostmemError
from .generations import qemu_processes
from .late_devices import check_devices_there
from .live_update import UpdateOptions
from .paths import guest_paths
from .resources import make_directories
from .restore import RestoreOptions
from .store import load_guest
from .systemd import active_state, is_active, systemctl
from .verbs import Result, each, failure, in_order, would, would_start


def start_guests(config: Config, names: Sequence[str], check: bool, options: RestoreOptions) -> list[Result]:
    """systemctl start of those whose unit is not active."""
    if not check:
        join_starts(names)
    return _change(config, names, "start", check, lambda name: not is_active(name), older=options.older)


def join_starts(names: Sequence[str]) -> None:
    """At boot systemd starts guests itself: one that it has begun to start runs only when that is over."""
    begun = [name for name in names if active_state(name) == "activating"]
    if begun:
        with suppress(HostmemError):  # the start that follows tells what is wrong
            systemctl("start", begun)


def stop_guests(config: Config, names: Sequence[str], timeout: float, check: bool) -> list[Result]:
    """systemctl stop of those whose unit is active."""
    return _change(config, names, "stop", check, is_active, timeout=timeout)


def wait_stopped(names: Sequence[str]) -> list[Result]:
    """After a save, which ends QEMU and with it the unit: wait until the unit has done what it does after a stop."""
    try:
        systemctl("stop", names)
    except HostmemError as error:
        return [failure(name, error) for name in names]
    return [{"guest": name, "ok": True, "changed": True} for name in names]


def _change(
    config: Config, names: Sequence[str], verb: str, check: bool, needed: Callable[[str], bool], **options: Any
) -> list[Result]:
    foretell = would if verb != "start" else would_start if check else _would_begin
    known = each(names, lambda name: foretell(config, name, needed(name)))
    wanted = [item["guest"] for item in known if item["ok"] and item["changed"]]
    if check or not wanted:
        return known
    return in_order(
        names, [item for item in known if item["guest"] not in wanted] + _ask(config, wanted, verb, options)
    )


def _would_begin(config: Config, name: str, changed: bool) -> dict[str, Any]:
    """The unit waits for a device that is not there; whoever asks for a start is told."""
    if changed:
        check_devices_there(load_guest(guest_paths(config, name)).definition)
    return would(config, name, changed)


def update_guests(config: Config, names: Sequence[str], options: UpdateOptions) -> list[Result]:
    """systemctl reload of all; how many run at once is the host's limit, kept by the units' own programs."""
    known = each(names, lambda name: _running(config, name))
    wanted = [item["guest"] for item in known if item["ok"]]
    return in_order(
        names,
        [item for item in known if not item["ok"]]
        + (_ask(config, wanted, "update", asdict(options)) if wanted else []),
    )


def _running(config: Config, name: str) -> dict[str, Any]:
    load_guest(guest_paths(config, name))
    if not qemu_processes(guest_paths(config, name)):
        raise HostmemError(f"Guest {name} does not run.", cure="Start it; it then runs in the installed QEMU.")
    return {}


def _ask(config: Config, names: Sequence[str], line: str, options: dict[str, Any]) -> list[Result]:
    """Leave a numbered request for this line of the units, run systemctl, collect the answers with that number."""
    token = os.urandom(16).hex()
    for name in names:
        make_directories(config, guest_paths(config, name))
    # The directories are the unprivileged user's: root writes nothing in them.
    run_as(config.user, lambda: _leave_requests(config, names, {"token": token, "line": line, "options": options}))
    try:
        systemctl("reload" if line == "update" else line, names)
        trouble = None
    except HostmemError as error:
        trouble = error
    results = [_answer(config, name, token, trouble) for name in names]
    if trouble:
        run_as(config.user, lambda: _take_back_requests(config, names, token))
    return results


def _leave_requests(config: Config, names: Sequence[str], request: dict[str, Any]) -> bool:
    for name in names:
        write_json(guest_paths(config, name).request, request)
    return True


def _take_back_requests(config: Config, names: Sequence[str], token: str) -> bool:
    """Those that no unit has taken, so that none takes them later."""
    for name in names:
        if _request(config, name).get("token") == token:
            remove_file(guest_paths(config, name).request)
    return True


def _answer(config: Config, name: str, token: str, trouble: Any) -> Result:
    paths = guest_paths(config, name)
    try:
        answer = json.loads(read_plain(paths.result))  # a file of the unprivileged user's
    except (OSError, ValueError):
        answer = None
    if isinstance(answer, dict) and answer.get("token") == token:
        return dict(answer["result"])
    return failure(
        name,
        trouble
        or HostmemError(f"The unit of guest {name} left no result.", cure=f"See: journalctl -u hostmem-guest@{name}"),
    )


def _request(config: Config, name: str) -> dict[str, Any]:
    try:
        request = read_json(guest_paths(config, name).request)
    except ValueError:
        request = None
    return request if isinstance(request, dict) else {}


def is_asked(config: Config, name: str, line: str) -> bool:
    """In the unit: whether somebody waits for what this line does."""
    return _request(config, name).get("line") == line


def take_request(config: Config, name: str, line: str) -> dict[str, Any]:
    """In the unit: what was asked for, taken away; empty when somebody called systemctl himself.

    An update that begins leaves the request of a stop that waits for its end. Nothing else waits: an older one is void.
    """
    request = _request(config, name)
    asked = request.get("line") == line
    if asked or line != "update":
        remove_file(guest_paths(config, name).request)
    return request if asked else {}


def leave_result(config: Config, name: str, request: dict[str, Any], result: Result) -> None:
    """In the unit: the answer for whoever asked."""
    write_json(guest_paths(config, name).result, {"token": request.get("token"), "result": result})


def last_failed(config: Config, name: str) -> bool:
    """In the unit: True when the verb before this line failed, so that the reload as a whole fails too."""
    answer = read_json(guest_paths(config, name).result)
    return isinstance(answer, dict) and not answer.get("result", {}).get("ok", True)
