# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command line of the runtime: ``hostmem VERB [NAME…]``, JSON out. See ``hostmem --help``."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from typing import Any

from . import managed, verbs
from .answer import AnswerOptions
from .config import DEFAULT_PATH, Config, load_config
from .definition import NAME
from .errors import HostmemError
from .host_goes_down import Limits
from .live_update import UpdateOptions
from .move_terms import METHODS as MOVES
from .receive import ReceiveOptions
from .restore import RestoreOptions
from .save import SaveOptions
from .send import MoveOptions
from .store import guest_names
from .unit import LINES, run_line
from .update_methods import AUTO, METHODS
from .version import VERSION

SCHEMA = 1
STOP_TIMEOUT = 60.0
SAVE_TIMEOUT = 120.0


def parser() -> argparse.ArgumentParser:
    """All verbs and options."""
    top = argparse.ArgumentParser(
        prog="hostmem", description="Own the RAM of QEMU guests: start, live-update, stop them. Answers in JSON."
    )
    top.add_argument("--config", default=DEFAULT_PATH, help="configuration file (default: %(default)s)")
    top.add_argument("--version", action="version", version=VERSION)
    sub = top.add_subparsers(dest="verb", required=True)
    define = sub.add_parser("define", help="keep a definition, read from standard input as JSON {definition, argv}")
    define.add_argument("--check", action="store_true", help="change nothing, say what would change")
    define.add_argument("--assume-stopped", action="store_true", help="with --check: as if the guest did not run")
    for verb, text in (
        ("undefine", "forget guests that do not run"),
        ("start", "start guests"),
        ("stop", "power guests down"),
        ("save", "keep running guests with their memory in its place, and end their QEMUs"),
        ("restore", "start saved guests where they were"),
        ("discard", "give saved guests up"),
        ("update", "move running guests into the installed QEMU"),
        ("recover", "finish or roll back what was interrupted"),
        ("info", "what is known of guests (default: all)"),
    ):
        command = sub.add_parser(verb, help=text)
        command.add_argument("names", nargs="*", metavar="NAME")
        command.add_argument("--all", action="store_true", help="every guest defined on this host")
        if verb in ("undefine", "start", "stop", "save", "restore", "discard", "update"):
            command.add_argument("--check", action="store_true", help="change nothing, say what would change")
        if verb == "undefine":
            command.add_argument("--assume-stopped", action="store_true", help="with --check: as if they did not run")
        if verb == "stop":
            command.add_argument(
                "--timeout",
                type=float,
                default=STOP_TIMEOUT,
                help="seconds between ACPI power-down and quit (default: %(default)s)",
            )
            command.add_argument(
                "--in-move",
                action="store_true",
                help="also a guest that runs on another host and has a part of its memory here: it is lost then",
            )
        if verb == "save":
            command.add_argument("--full", action="store_true", help="copy memory that ends with QEMU into the state")
        if verb == "restore":
            command.add_argument("--older", action="store_true", help="also in an older QEMU than the one that saved")
        if verb == "update":
            command.add_argument(
                "--force", action="store_true", help="also when the guest runs in the installed QEMU already"
            )
            command.add_argument(
                "--max-pause", type=float, help="seconds a guest may be paused before the update is called off"
            )
            command.add_argument(
                "--method",
                choices=METHODS,
                default=AUTO,
                help="how the guest gets into the new QEMU (default: %(default)s, transfer where possible, else checkpoint)",
            )
            command.add_argument(
                "--parallel", type=int, default=0, help="live updates at once (default: the host's number)"
            )
    _add_moves(sub)
    unit = sub.add_parser("unit", help="one line of the systemd unit")
    unit.add_argument("line", choices=LINES)
    unit.add_argument("names", nargs=1, metavar="NAME")
    unit.add_argument("--timeout", type=float, default=STOP_TIMEOUT)
    unit.add_argument("--save-timeout", type=float, default=SAVE_TIMEOUT)
    return top


def _add_moves(sub: Any) -> None:
    receive = sub.add_parser("receive", help="wait for a guest that another host sends")
    receive.add_argument("--listen", required=True, metavar="ADDRESS", help="address of this host")
    receive.add_argument("--port", type=int, default=0, help="TCP port (default: the kernel chooses; see hostmem info)")
    receive.add_argument("--timeout", type=float, default=120.0, help="seconds to wait (default: %(default)s)")
    answer = sub.add_parser("answer", help="tell another host what became of a move of its to this one")
    answer.add_argument("--listen", required=True, metavar="ADDRESS", help="address of this host to which it moved")
    answer.add_argument("--port", type=int, required=True, help="TCP port to which it moved")
    answer.add_argument("--timeout", type=float, default=120.0, help="seconds to wait (default: %(default)s)")
    migrate = sub.add_parser("migrate", help="send a running guest to another host")
    migrate.add_argument("--to", required=True, metavar="ADDRESS", help="where hostmem receive waits")
    migrate.add_argument("--port", type=int, required=True, help="TCP port where hostmem receive waits")
    migrate.add_argument("--method", choices=MOVES, required=True, help="memory first, or guest first")
    migrate.add_argument("--max-pause", type=float, help="seconds the guest may be paused before it goes on here")
    migrate.add_argument(
        "--timeout", type=float, default=3600.0, help="seconds until the guest is paused (default: %(default)s)"
    )
    migrate.add_argument("--check", action="store_true", help="ask the destination, change nothing")
    for command in (receive, answer):
        command.add_argument(
            "--from", dest="expected", default="", metavar="NAME", help="a name in the source's certificate"
        )
    for command in (receive, answer, migrate):
        command.add_argument("--plain", action="store_true", help="in clear, without TLS")
        command.add_argument("names", nargs=1, metavar="NAME")


def main(words: Sequence[str] | None = None) -> int:
    """0: all guests well; 1: some failed; 2: called wrongly."""
    options = parser().parse_args(words)
    try:
        config = load_config(options.config)
        results = _run(config, options)
    except HostmemError as error:
        _answer(results=[], error=error.as_dict())
        return 2
    _answer(results=results)
    return 0 if all(item["ok"] for item in results) else 1


def _answer(**answer: Any) -> None:
    sys.stdout.write(json.dumps({"schema": SCHEMA, "runtime": VERSION, **answer}, sort_keys=True) + "\n")


def _names(config: Config, options: argparse.Namespace) -> list[str]:
    names = list(dict.fromkeys(options.names))
    if getattr(options, "all", False) or (options.verb == "info" and not names):
        return guest_names(config)
    for name in names:
        if not re.fullmatch(NAME, name):
            raise HostmemError(
                f"{name!r} is not a guest's name.",
                cause=f"Names match {NAME}.",
                cure="Correct it; hostmem info lists the guests there are.",
            )
    if not names:
        raise HostmemError("No guest is named.", cure="Name guests, or use --all.")
    return names


def _run(config: Config, options: argparse.Namespace) -> list[dict[str, Any]]:
    verb = options.verb
    if verb == "define":
        return _define(config, options.check, options.assume_stopped)
    names = _names(config, options)
    if verb in ("receive", "answer", "migrate"):
        return _move(config, names[0], options)
    if verb == "unit":
        return [run_line(config, options.line, names[0], Limits(options.save_timeout, options.timeout))]
    if verb == "undefine":
        return verbs.each(names, lambda name: verbs.undefine_guest(config, name, options.check, options.assume_stopped))
    if verb == "recover":
        return verbs.recover_guests(config, names)
    if verb == "info":
        return verbs.inform(config, names)
    return _lifecycle(config, names, options)


def _move(config: Config, name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    if config.manager == "systemd":
        raise HostmemError(
            "Guests of units do not move between hosts yet.",
            cause="The unit here would not know of the guest.",
            cure="Prepare the host with hypervisor_manager: direct, or save the guest.",
        )
    if options.verb == "receive":
        wanted = ReceiveOptions(options.listen, options.port, options.plain, options.timeout, options.expected)
        return verbs.receive_guest(config, name, wanted)
    if options.verb == "answer":
        asked = AnswerOptions(options.listen, options.port, options.plain, options.timeout, options.expected)
        return verbs.answer_guest(config, name, asked)
    move = MoveOptions(
        options.to, options.port, options.method, options.plain, options.max_pause, options.timeout, options.check
    )
    return verbs.migrate_guest(config, name, move)


def _lifecycle(config: Config, names: list[str], options: argparse.Namespace) -> list[dict[str, Any]]:
    by_systemd = config.manager == "systemd"
    start = managed.start_guests if by_systemd else verbs.start_guests
    stop = managed.stop_guests if by_systemd else verbs.stop_guests
    if options.verb == "start":
        return start(config, names, options.check, RestoreOptions())
    if options.verb == "save":
        wanted = SaveOptions(options.full, options.check)
        ended = managed.wait_stopped if by_systemd else (lambda saved: verbs.release_guests(config, saved))
        return verbs.save_guests(config, names, wanted, ended)
    if options.verb == "restore":
        way = RestoreOptions(options.older, options.check)
        if by_systemd and not options.check:
            managed.join_starts(names)
        return verbs.restore_guests(config, names, way, lambda saved: start(config, saved, False, way))
    if options.verb == "discard":
        return verbs.discard_guests(config, names, options.check)
    if options.verb == "stop" and options.in_move and not by_systemd:  # guests of units do not move
        return verbs.stop_guests(config, names, options.timeout, options.check, in_move=True)
    if options.verb == "stop":
        return stop(config, names, options.timeout, options.check)
    return _update(config, names, options)


def _update(config: Config, names: list[str], options: argparse.Namespace) -> list[dict[str, Any]]:
    """All guests means all that run: the others start in the installed QEMU anyway."""
    wanted = UpdateOptions(options.force, options.check, options.max_pause, options.parallel, options.method)
    update = managed.update_guests if config.manager == "systemd" and not options.check else verbs.update_guests
    if not options.all:
        return update(config, names, wanted)
    stopped = [name for name in names if not verbs.runs(config, name)]
    results: list[dict[str, Any]] = [
        {"guest": name, "ok": True, "changed": False, "reason": "does not run"} for name in stopped
    ]
    running = [name for name in names if name not in stopped]
    return verbs.in_order(names, results + (update(config, running, wanted) if running else []))


def _define(config: Config, check: bool, assume_stopped: bool) -> list[dict[str, Any]]:
    try:
        data = json.load(sys.stdin)
    except ValueError as error:
        raise HostmemError(
            f"Standard input is not JSON: {error}.",
            cause="define reads the definition and its arguments there, as the module guest gives them.",
            cure="Define guests with the module hostmem.qemu.guest.",
        ) from error
    data = data if isinstance(data, dict) else {}
    definition = data.get("definition")
    name = str(definition.get("name", "")) if isinstance(definition, dict) else ""
    return verbs.each([name], lambda _name: verbs.define_guest(config, data, check, assume_stopped))


if __name__ == "__main__":
    raise SystemExit(main())
