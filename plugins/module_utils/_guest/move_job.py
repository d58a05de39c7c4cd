# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One side of a move, as a job that whoever began it can leave alone: a transient unit of systemd, whose result is kept in a file.

A transient unit, not one of the role's: what a move is about (address, port, method) goes as the program's arguments, so that no request can be
left for a later one to take, and it needs nothing that is installed beforehand. Each job has a unit of its own: the QEMU that one has started
stays in its control group, and for as long systemd keeps the unit loaded (unit_may_gc() in src/core/unit.c, systemd 252 to 257).
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .._host.files import read_json, write_json
from .._host.processes import process
from .._host.programs import run
from .._host.users import run_as
from .config import Config
from .errors import Busy, HostmemError, Refused
from .generations import qemu_processes
from .journal import ARRIVED, ARRIVING, ORDERED, Journal
from .move_mark import has_left, leaving
from .move_progress import move_under_way
from .paths import GuestPaths, guest_paths
from .resources import make_directories
from .store import load_guest
from .unforeseen import as_hostmem_error

SYSTEMD = "/run/systemd/system"  # sd_booted(3)
JOB = r"[0-9a-f]{32}"
# Seconds for what a cancelled move leaves to be taken back: a QEMU there may hold the images for so long (departure.py).
CANCEL_TIMEOUT = 120.0
_POLL = 0.1
# The unit ends with its program, and leaves the QEMU alone that this has started, or that is to take a move back (the watchdog's).
_PROPERTIES = (
    "Type=exec",
    "KillMode=process",
    "OOMPolicy=continue",
    "TasksMax=infinity",
    "LimitMEMLOCK=infinity",
    "LimitNOFILE=524288",
    "Slice=machine.slice",
    "UMask=0077",
)


def job_unit(name: str, job: str) -> str:
    """The unit of a job; with ``*`` a pattern for all of the guest's."""
    return f"hostmem-move@{name}:{job}.service"


def begin(config: Config, name: str, job: str, verb: str, words: Sequence[str]) -> dict[str, Any]:
    """Start a verb as a unit, and leave it alone.

    :param job: a number of the caller's, by which the result can be told from that of another move.
    :param words: of the command line, the verb and the guest included.
    :raises Busy: another one is under way.
    :raises Refused: systemd does not run here.
    """
    check_job(job)
    paths = load_paths(config, name)
    make_directories(config, paths)
    if not os.path.isdir(SYSTEMD):
        raise Refused(
            "A move that nobody waits for is a unit of systemd's, which does not run on this host.",
            cause=f"There is no {SYSTEMD}.",
            cure=f"Call hostmem {verb} itself, and keep the session until it has ended.",
        )
    with _one_beginner(config):
        active = _unit(name)
        if job in (active.get("id"), _last_job(config, paths)):
            # Asked twice: connection plugins do that by themselves when the answer is lost.
            return {"changed": True, "job": {"id": job, "verb": verb, "state": "running"}}
        if active:
            raise Busy(
                f"A move of guest {name} is under way on this host.",
                cause=f"The unit {job_unit(name, active['id'])} is active.",
                cure="Wait for its end, or cancel it.",
            )
        _start(config, job_unit(name, job), _description(job, verb), [words[0], "--job", job, *words[1:]])
    return {"changed": True, "job": {"id": job, "verb": verb, "state": "running"}}


def _last_job(config: Config, paths: GuestPaths) -> str:
    return str(run_as(config.user, lambda: _kept_job(paths)))


def _kept_job(paths: GuestPaths) -> str:
    try:
        last = read_json(paths.move_job)
    except (OSError, ValueError):
        return ""
    return str(last.get("id", "")) if isinstance(last, dict) else ""


def _start(config: Config, unit: str, description: str, words: Sequence[str]) -> None:
    command = ["systemd-run", "--quiet", "--collect", f"--unit={unit}", f"--description={description}"]
    command += [f"--property={item}" for item in _PROPERTIES]
    program = [os.path.abspath(sys.argv[0]), "--config", os.path.abspath(config.path)]
    done = run([*command, "--", *program, *words])
    if done.returncode:
        raise HostmemError(f"systemd did not start {unit}.", done.stderr.strip(), f"See: journalctl -u {unit}")


@contextmanager
def _one_beginner(config: Config) -> Iterator[None]:
    """Two controllers at once: the second sees the first one's unit."""
    lock = os.open(f"{config.run}/.begin.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def check_job(job: str) -> None:
    """:raises HostmemError: it is no number of a job."""
    if not re.fullmatch(JOB, job):
        raise HostmemError(f"{job!r} is no job.", f"Jobs match {JOB}.", "Use the one that hostmem outcome shows.")


def kept(
    config: Config, name: str, job: str, verb: str, work: Callable[[], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Do the verb's work, and keep its result in the guest's state directory, for whoever asks later."""
    check_job(job)
    paths = load_paths(config, name)
    make_directories(config, paths)
    facts = {"id": job, "verb": verb, "began": time.time()}
    _keep(config, paths, facts)
    try:
        results = work()
    except Exception as error:
        _keep(config, paths, {**facts, "result": {"guest": name, **_failed(error)}})
        raise
    _keep(config, paths, {**facts, "result": results[0]})
    return results


def _failed(error: Exception) -> dict[str, Any]:
    return {"ok": False, "changed": False, "error": as_hostmem_error(error).as_dict()}


def _keep(config: Config, paths: GuestPaths, facts: dict[str, Any]) -> None:
    """The directory is the unprivileged user's: root writes nothing in it."""

    def write() -> bool:
        write_json(paths.move_job, facts)
        return True

    run_as(config.user, write)


def outcome(config: Config, name: str) -> dict[str, Any]:
    """The last job of the guest on this host, how far it is, whether a QEMU carries the guest here, whether it is (or may be) ``away``, and
    where its host is to be asked when that is in ``doubt``."""
    paths = load_paths(config, name)
    unit = _unit(name)  # first: the result is there before the unit has ended
    facts: dict[str, Any] = run_as(config.user, lambda: _seen(paths))
    last = facts.pop("last", None)
    facts["carried"] = bool(qemu_processes(paths))
    if unit:
        facts["job"] = {**unit, "state": "running"}
    elif isinstance(last, dict) and "id" in last:
        facts["job"] = {**last, "state": "ended" if "result" in last else "cut off"}
    return {"changed": False, **facts}


def _seen(paths: GuestPaths) -> dict[str, Any]:
    try:
        last = read_json(paths.move_job)
    except (OSError, ValueError):
        last = None
    asked = leaving(paths)
    doubt = {"doubt": {"to": asked.to, "port": asked.port, "plain": not asked.tls}} if asked else {}
    return {"last": last, "away": has_left(paths), **doubt, **move_under_way(paths)}


def cancel(config: Config, name: str, unclaimed: bool = False, job: str = "") -> dict[str, Any]:
    """End the program that moves the guest: what it left is taken back, where that is possible.

    :param unclaimed: only one that waits for a guest, to which no source has come.
    :param job: only this one; empty for any.
    :raises Refused: the guest was ordered to run at the destination.
    :raises HostmemError: that is not taken back in time.
    """
    paths = load_paths(config, name)
    step = run_as(config.user, lambda: _interrupt(paths, unclaimed, job))
    if step in (ORDERED, ARRIVED):
        raise Refused(
            f"The move of guest {name} cannot be called off any more.",
            cause="The guest was told to run at the destination.",
            cure="Let it come to its end.",
        )
    if not step:
        return {"changed": False}
    deadline = time.monotonic() + CANCEL_TIMEOUT
    while _unit(name) or run_as(config.user, lambda: Journal(paths).read() is not None):
        if time.monotonic() >= deadline:
            raise HostmemError(
                f"The move of guest {name} was cut off, and is not taken back yet.",
                cause=f"That has taken {CANCEL_TIMEOUT:.0f} s.",
                cure=f"Run on both hosts: hostmem recover {name}",
            )
        time.sleep(_POLL)
    return {"changed": True}


def _interrupt(paths: GuestPaths, unclaimed: bool, job: str) -> str:
    """The step at which it was, when there is a move; not after the order. As the user whose program it is, so that a journal that is wrong
    means no other one."""
    journal = Journal(paths)
    entry = journal.read() or {}
    working = process(int(entry["pid"])) if journal.moves() else None
    if working is None:
        return ""
    step = str(entry["step"])
    if job and _kept_job(paths) != job:
        return ""
    if unclaimed and (step != ARRIVING or entry.get("token")):
        return ""
    if step not in (ORDERED, ARRIVED):
        os.kill(working.pid, signal.SIGTERM)
    return step


def load_paths(config: Config, name: str) -> GuestPaths:
    """:raises NotDefined: there is no such guest here."""
    paths = guest_paths(config, name)
    load_guest(paths)
    return paths


def _description(job: str, verb: str) -> str:
    return f"hostmem {verb}, job {job}"


def _unit(name: str) -> dict[str, str]:
    """The job whose unit is active; empty without one."""
    done = run(["systemctl", "show", "--property=ActiveState,Description", job_unit(name, "*")])
    if done.returncode:
        raise HostmemError(
            f"systemd does not say whether a move of guest {name} is under way.",
            cause=done.stderr.strip(),
            cure="Ask again; see: systemctl status",
        )
    for unit in done.stdout.split("\n\n"):
        facts = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line)
        found = re.fullmatch(rf"hostmem ([a-z]+), job ({JOB})", facts.get("Description", ""))
        if found and facts.get("ActiveState") not in ("inactive", "failed", None):
            return {"id": found[2], "verb": found[1]}
    return {}
