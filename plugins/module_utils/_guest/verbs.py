# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The verbs for many guests at once, as JSON-able results: what the command line and the modules call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from .._host.users import run_as
from .answer import AnswerOptions, answer
from .checkpoint_store import is_saved
from .claims import refuse_shared
from .config import Config
from .definition import Definition
from .errors import Ended, HostmemError, NotDefined, Refused
from .generations import living_generations, qemu_processes
from .information import information
from .journal import Journal
from .lasting_checks import refuse_volatile
from .lifecycle import start, stop
from .live_update import UpdateOptions, update
from .locks import busy_with_a_move, resource_locks
from .mount_dependencies import ensure_mount_dependencies, remove_mount_dependencies
from .nics import taps
from .paths import GuestPaths, guest_paths
from .receive import ReceiveOptions, receive
from .recovery import recover
from .resources import ensure_running_taps, foresee, forget, make_directories, prepare, prepare_arrival, release
from .restore import RestoreOptions, restore, saved
from .same_definition import is_same
from .save import SaveOptions, save
from .saved_guest import discard, refuse_change, refuse_undefine
from .send import MoveOptions, migrate
from .store import check_guest, define, is_changed, load_guest, undefine
from .unforeseen import as_hostmem_error
from .watchdog import Watchdog

Result = dict[str, Any]
Verb = Callable[[str], Awaitable[dict[str, Any]]]
_RECOVERY_TIMEOUT = 90.0
# Seconds for which a stop waits until a move has ended.
MOVE_WAIT = 60.0
_POLL = 0.1
Several = Callable[[Sequence[str]], list[Result]]


def failure(name: str, error: BaseException) -> Result:
    """The result of a guest whose verb failed."""
    return {"guest": name, "ok": False, "changed": False, "error": as_hostmem_error(error).as_dict()}


def each(names: Sequence[str], work: Callable[[str], dict[str, Any]]) -> list[Result]:
    """One guest after the other; a failure of one does not keep the others from their turn."""
    results = []
    for name in names:
        try:
            results.append({"guest": name, "ok": True, **work(name)})
        except (HostmemError, OSError) as error:
            results.append(failure(name, error))
    return results


async def _gather(names: Sequence[str], verb: Verb) -> list[Result]:
    async def one(name: str) -> Result:
        try:
            return {"guest": name, "ok": True, **await verb(name)}
        except Exception as error:
            return failure(name, error)

    return list(await asyncio.gather(*(one(name) for name in names)))


def as_user(config: Config, names: Sequence[str], verb: Verb) -> list[Result]:
    """Run a verb for all guests together, as QEMU's user: nothing that talks to QEMU is root."""
    return _run_as(config, names, lambda: asyncio.run(_gather(names, verb)))


def guarded(config: Config, names: Sequence[str], verb: Verb) -> list[Result]:
    """The same with a watchdog that recovers the guests if this program is killed meanwhile, or hangs."""

    def work() -> list[Result]:
        watchdog = Watchdog(lambda pid: hangs(config, names, pid), lambda: _recover_all(config, names))
        results = asyncio.run(_gather(names, verb))
        watchdog.stand_down()
        return results

    return _run_as(config, names, work)


def _run_as(config: Config, names: Sequence[str], work: Callable[[], list[Result]]) -> list[Result]:
    """The results of the unprivileged part, also when it was killed."""
    try:
        results: list[Result] = run_as(config.user, work)
        return results
    except RuntimeError as error:
        killed = Ended(
            "The program that worked on the guest was ended.",
            cause=f"{str(error)[:1].upper()}{str(error)[1:]}.",
            cure="Nothing: what it left is repaired by itself, or by the next verb. See hostmem info.",
        )
        return [failure(name, killed) for name in names]


def hangs(config: Config, names: Sequence[str], pid: int) -> bool:
    """Whether the process has left one of the guests in a step of its journal for too long."""
    return any(Journal(guest_paths(config, name)).overdue(pid) for name in names)


def _recover_all(config: Config, names: Sequence[str]) -> None:
    asyncio.run(_gather(names, lambda name: recover(config, name)))


def define_guest(config: Config, data: dict[str, Any], check: bool, assume_stopped: bool = False) -> Result:
    """Keep a definition and its rendered arguments.

    :param assume_stopped: with ``check``: predict what would happen after a stop.
    """
    wanted = check_guest(data.get("definition"), data.get("argv"))
    paths = guest_paths(config, wanted.definition.name)
    living = [] if assume_stopped and check else living_generations(paths)
    refuse_shared(config, wanted.definition)
    refuse_volatile(config, wanted.definition)
    if is_changed(config, wanted):
        refuse_change(paths, wanted.definition)
    result = define(config, wanted, bool(living), check)
    if config.manager == "systemd":
        result["changed"] = ensure_mount_dependencies(wanted.definition, check) or result["changed"]
    pending = any(not is_same(item.record.get("definition"), wanted.definition) for item in living)
    return {
        **result,
        "definition_pending": result["definition_pending"] or pending,
        "warnings": _warnings(config, wanted.definition),
        **_carrier(paths),
    }


def _warnings(config: Config, definition: Definition) -> list[str]:
    """What the definition asks for, and this host does not do."""
    if definition.on_host_shutdown == "save" and config.manager == "direct":
        return [
            f"Guest {definition.name} is not saved when its host goes down, although its on_host_shutdown is save."
            " Cause: No systemd units manage the guests of this host (manager is direct), and it is a guest's unit that saves it."
            f" Cure: Save it before (hostmem save {definition.name}), or prepare the host with hypervisor_manager: systemd."
        ]
    return []


def runs(config: Config, name: str) -> bool:
    """Whether a QEMU carries the guest now."""
    return bool(qemu_processes(guest_paths(config, name)))


def _carrier(paths: GuestPaths) -> dict[str, Any]:
    """Whether a QEMU carries the guest now, and which: the newest, while a live update has two."""
    living = sorted(qemu_processes(paths).items())
    return {"running": True, "generation": living[-1][0], "pid": living[-1][1].pid} if living else {"running": False}


def undefine_guest(config: Config, name: str, check: bool, assume_stopped: bool = False) -> Result:
    """Forget a guest that does not run, with its RAM files, taps, logs and state.

    :param assume_stopped: with ``check``: predict what would happen after a stop.
    """
    paths = guest_paths(config, name)
    try:
        definition = load_guest(paths).definition
    except NotDefined:
        return {"changed": False, "diff": {"before": {}, "after": {}}}
    refuse_undefine(paths, definition)
    carried = bool(qemu_processes(paths)) and not (assume_stopped and check)
    if check:
        return undefine(config, name, carried, check)
    make_directories(config, paths)  # what is locked, and what keeps a start that begins now waiting
    with resource_locks([paths.run]):
        result = undefine(config, name, bool(qemu_processes(paths)), check)
        release(config, definition)
        forget(config, name)
        if config.manager == "systemd":
            remove_mount_dependencies(name)
    return result


def foresee_guest(config: Config, name: str) -> Result:
    """As root, what a start would prepare for a guest without a QEMU; changes nothing."""
    paths = guest_paths(config, name)
    if not qemu_processes(paths):
        foresee(config, load_guest(paths).definition)
    return {"changed": False}


def prepare_guest(config: Config, name: str) -> Result:
    """As root, before a start."""
    prepare(config, load_guest(guest_paths(config, name)))
    return {"changed": False}


def prepare_alone(config: Config, name: str) -> Result:
    """The same in a unit, where nobody holds the locks for it and for what starts the guest next."""
    _known(config, name)
    with resource_locks([guest_paths(config, name).run]):
        return prepare_guest(config, name)


def ensure_guest_taps(config: Config, name: str) -> Result:
    """As root, before a live update: the taps of a guest that runs, in case somebody removed one."""
    paths = guest_paths(config, name)
    if any(taps(load_guest(paths).definition)):
        ensure_running_taps(config, paths)
    return {"changed": False}


def release_guest(config: Config, name: str) -> Result:
    """As root, after a stop."""
    release(config, load_guest(guest_paths(config, name)).definition)
    return {"changed": False}


def start_guests(config: Config, names: Sequence[str], check: bool, options: RestoreOptions) -> list[Result]:
    """Start those that do not run; of these, restore the saved ones."""
    if check:
        return each(names, lambda name: would_start(config, name, not qemu_processes(guest_paths(config, name))))
    made = each(names, lambda name: _known(config, name))
    known = [item["guest"] for item in made if item["ok"]]
    with resource_locks(guest_paths(config, name).run for name in known):
        return in_order(names, [item for item in made if not item["ok"]] + _start(config, known, options))


def _start(config: Config, names: Sequence[str], options: RestoreOptions) -> list[Result]:
    prepared = each(names, lambda name: prepare_guest(config, name))
    ready = [item["guest"] for item in prepared if item["ok"]]
    results = [item for item in prepared if not item["ok"]]
    started = guarded(config, ready, lambda name: start(config, name, options))
    for item in started:
        if not item["ok"]:
            each([item["guest"]], lambda name: release_guest(config, name))
    return results + started


def stop_guests(
    config: Config, names: Sequence[str], timeout: float, check: bool, in_move: bool = False
) -> list[Result]:
    """Stop those that run."""
    if check:
        return each(names, lambda name: would(config, name, bool(qemu_processes(guest_paths(config, name)))))
    waited = each(names, lambda name: _wait_for_move(config, name))
    moving = [item for item in waited if not item["ok"]]
    others = [item["guest"] for item in waited if item["ok"]]
    with resource_locks(guest_paths(config, name).run for name in others) as locked:
        stopped = _stop(config, others, lambda name: stop(config, name, timeout, in_move=in_move), locked)
    return in_order(names, moving + stopped)


def _wait_for_move(config: Config, name: str) -> dict[str, Any]:
    """What waits for a guest from another host holds the guest's resources until it has come, or does not.

    :raises Busy: it takes long.
    """
    journal, deadline = Journal(guest_paths(config, name)), time.monotonic() + MOVE_WAIT
    while run_as(config.user, journal.moves):
        if time.monotonic() >= deadline:
            raise busy_with_a_move(name)
        time.sleep(1.0)
    return {}


def _stop(config: Config, names: Sequence[str], stop_one: Verb, locked: Sequence[str]) -> list[Result]:
    known = each(names, lambda name: {"changed": bool(load_guest(guest_paths(config, name)))})
    present = [item["guest"] for item in known if item["ok"] and guest_paths(config, item["guest"]).run in locked]
    absent = [
        {**item, "changed": False, "how": "stopped already"}
        for item in known
        if item["ok"] and item["guest"] not in present
    ]
    stopped = as_user(config, present, stop_one)
    for item in stopped:
        if item["ok"]:
            each([item["guest"]], lambda name: release_guest(config, name))
    return in_order(names, [item for item in known if not item["ok"]] + absent + stopped)


def save_guests(config: Config, names: Sequence[str], options: SaveOptions, stop_all: Several) -> list[Result]:
    """Save those that run, and end their QEMUs.

    :param stop_all: for guests without QEMU: what the host's manager does after a stop.
    """
    known = each(names, lambda name: _known(config, name))
    ready = [item["guest"] for item in known if item["ok"]]
    work = as_user if options.check else guarded
    results = work(config, ready, lambda name: save(config, name, options))
    done = [item["guest"] for item in results if item["ok"] and not options.check]
    failed = {item["guest"]: item for item in (stop_all(done) if done else []) if not item["ok"]}
    results = [failed.get(item["guest"], item) for item in results]
    return in_order(names, [item for item in known if not item["ok"]] + results)


def release_guests(config: Config, names: Sequence[str]) -> list[Result]:
    """As root, of guests that do not run any more."""
    with resource_locks(guest_paths(config, name).run for name in names):
        return each(names, lambda name: release_guest(config, name))


def restore_guests(config: Config, names: Sequence[str], options: RestoreOptions, start_all: Several) -> list[Result]:
    """Start those that are saved; others are an error.

    :param start_all: starts guests as the host's manager does it.
    """
    known = each(names, lambda name: _restorable(config, name))
    wanted = [item["guest"] for item in known if item["ok"] and item["changed"]]
    done: list[Result] = []
    if wanted and options.check:
        seen = each(wanted, lambda name: foresee_guest(config, name))
        ready = [item["guest"] for item in seen if item["ok"]]
        done = [item for item in seen if not item["ok"]]
        done += as_user(config, ready, lambda name: restore(config, name, options))
    elif wanted:
        done = start_all(wanted)
    return in_order(names, [item for item in known if item["guest"] not in wanted] + done)


def _restorable(config: Config, name: str) -> dict[str, Any]:
    """Whether there is something to restore; what it has to fit, the restore itself finds out."""
    _known(config, name)  # the host may have been booted since, and the run directory is in memory
    paths = guest_paths(config, name)
    if qemu_processes(paths) and not is_saved(paths):
        return {"changed": False, **_carrier(paths)}
    if saved(paths) is None:
        raise Refused(f"Guest {name} is not saved.", cure="Start it.")
    return {"changed": True, "running": False}


def discard_guests(config: Config, names: Sequence[str], check: bool) -> list[Result]:
    """Give saved guests up, and drop their memory as after a stop."""
    known = each(
        names, lambda name: _known(config, name)
    )  # the host may have been booted since, and the run directory is in memory
    ready = [item["guest"] for item in known if item["ok"]]
    with resource_locks(guest_paths(config, name).run for name in ready):
        results = as_user(config, ready, lambda name: discard(config, name, check))
        gone = [item["guest"] for item in results if item["ok"] and item["changed"] and not check]
        failed = {
            item["guest"]: item for item in each(gone, lambda name: release_guest(config, name)) if not item["ok"]
        }
    results = [failed.get(item["guest"], item) for item in results]
    return in_order(names, [item for item in known if not item["ok"]] + results)


def update_guests(config: Config, names: Sequence[str], options: UpdateOptions) -> list[Result]:
    """Live update of those whose QEMU is outdated."""
    known = each(names, lambda name: _known(config, name) if options.check else _ready(config, name))
    ready = [item["guest"] for item in known if item["ok"]]
    work = as_user if options.check else guarded
    results = work(config, ready, lambda name: update(config, name, options))
    return in_order(names, [item for item in known if not item["ok"]] + results)


def receive_guest(config: Config, name: str, options: ReceiveOptions) -> list[Result]:
    """Wait for a guest that another host sends."""
    paths = guest_paths(config, name)
    known = each([name], lambda name: _known(config, name))
    if not known[0]["ok"]:
        return known
    with resource_locks([paths.run]):
        prepared = each([name], lambda name: _prepare_arrival(config, name))
        if not prepared[0]["ok"]:
            return prepared
        results = guarded(config, [name], lambda name: receive(config, name, options))
        _wait_for_recovery(config, paths, results[0])
        if not results[0]["ok"]:
            each([name], lambda name: release_guest(config, name))
    return results


def answer_guest(config: Config, name: str, options: AnswerOptions) -> list[Result]:
    """Tell another host what became of a move of its to this one."""
    known = each([name], lambda name: _known(config, name))
    return as_user(config, [name], lambda name: answer(config, name, options)) if known[0]["ok"] else known


def _prepare_arrival(config: Config, name: str) -> dict[str, Any]:
    prepare_arrival(config, load_guest(guest_paths(config, name)))
    return {}


def migrate_guest(config: Config, name: str, options: MoveOptions) -> list[Result]:
    """Send a guest to another host; what it had here is released."""
    known = each([name], lambda name: _known(config, name))
    if not known[0]["ok"]:
        return known
    work = as_user if options.check else guarded
    results = work(config, [name], lambda name: migrate(config, name, options))
    _wait_for_recovery(config, guest_paths(config, name), results[0])
    if not options.check and not qemu_processes(guest_paths(config, name)):
        released = release_guests(config, [name])
        return results if released[0]["ok"] else released
    return results


def _wait_for_recovery(config: Config, paths: GuestPaths, result: Result) -> None:
    """Of a verb that was killed: what its watchdog leaves is released here."""
    deadline = time.monotonic() + _RECOVERY_TIMEOUT
    ended = result.get("error", {}).get("code") == Ended.code
    while ended and time.monotonic() < deadline and run_as(config.user, lambda: Journal(paths).read() is not None):
        time.sleep(_POLL)


def recover_guests(config: Config, names: Sequence[str]) -> list[Result]:
    """Finish or roll back what was interrupted."""
    known = each(names, lambda name: _known(config, name))
    ready = [item["guest"] for item in known if item["ok"]]
    results = as_user(config, ready, lambda name: recover(config, name))
    left = [item["guest"] for item in results if item["ok"] and item["changed"] and not runs(config, item["guest"])]
    failed = {item["guest"]: item for item in release_guests(config, left) if not item["ok"]}
    results = [failed.get(item["guest"], item) for item in results]
    return in_order(names, [item for item in known if not item["ok"]] + results)


def inform(config: Config, names: Sequence[str]) -> list[Result]:
    """Facts about each guest."""
    return as_user(config, names, lambda name: information(config, name))


def _ready(config: Config, name: str) -> dict[str, Any]:
    _known(config, name)
    return ensure_guest_taps(config, name)


def _known(config: Config, name: str) -> dict[str, Any]:
    paths = guest_paths(config, name)
    load_guest(paths)
    make_directories(config, paths)
    return {}


def would(config: Config, name: str, changed: bool) -> dict[str, Any]:
    """What a verb would do to a guest that is defined here, and which QEMU carries it now."""
    load_guest(guest_paths(config, name))
    return {"changed": changed, **_carrier(guest_paths(config, name))}


def would_start(config: Config, name: str, changed: bool) -> dict[str, Any]:
    """The same for a start, which may be refused."""
    paths = guest_paths(config, name)
    if changed:
        foresee(config, load_guest(paths).definition)
    if changed and is_saved(paths):
        checked = as_user(config, [name], lambda name: restore(config, name, RestoreOptions(check=True)))[0]
        if not checked["ok"]:
            raise Refused(*(checked["error"].get(key, "") for key in ("message", "cause", "cure", "qemu")))
    return would(config, name, changed)


def in_order(names: Sequence[str], results: Sequence[Result]) -> list[Result]:
    """Results in the order in which the guests were named."""
    by_name = {item["guest"]: item for item in results}
    return [by_name[name] for name in names if name in by_name]
