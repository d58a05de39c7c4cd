# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Leads both hosts of a move: begins the work on each, says how far it is, and reads what became of it. The hosts do it without this program."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.hostmem.qemu.plugins.module_utils._runtime import describe
from ansible_collections.hostmem.qemu.plugins.plugin_utils._move_lines import end_line, progress_line
from ansible_collections.hostmem.qemu.plugins.plugin_utils._plain import plain
from ansible_collections.hostmem.qemu.plugins.plugin_utils._second_host import SecondHost

_MODULE = "hostmem.qemu.guest_migration"
# Seconds between two looks at what takes no longer than some.
_SOON = 0.5
# Seconds in which a destination listens, after it has made the guest's memory; and in which one whose source has gone ends.
_LISTEN = 600.0
_END = 120.0
# Seconds for which a destination waits for its source, and one that is to answer for the question.
_WAIT = 120.0


class _Wrong(Exception):
    """Ends the task."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(describe(error))
        self.error = error


class _Side:
    """One of the two hosts."""

    def __init__(
        self, action: ActionBase, host: str, task_vars: dict[str, Any], connection: Any, arguments: dict[str, Any]
    ) -> None:
        self.host = host
        self._action = action
        self._vars = task_vars
        self._connection = connection
        self._arguments = arguments
        self._reconnect = float(arguments.get("reconnect", 300.0))

    def ask(self, step: str, words: Sequence[str] = ()) -> dict[str, Any]:
        """One step of the module's; the runtime's result, which may be an error.

        :raises _Wrong: the runtime could not be asked.
        :raises AnsibleConnectionFailure: nor could the host.
        """
        arguments = {**self._arguments, "_step": step, "_words": list(words)}
        answer = self._action._execute_module(module_name=_MODULE, module_args=arguments, task_vars=self._vars)
        if answer.get("failed") or "told" not in answer:
            error = answer.get("error") or {
                "message": str(answer.get("msg") or answer.get("module_stderr") or "It said nothing.")
            }
            raise _Wrong({**error, "message": f"{self.host}: {error['message']}"})
        told: dict[str, Any] = answer["told"]
        return told

    def ask_again(self, step: str, words: Sequence[str] = ()) -> dict[str, Any]:
        """The same; a connection that is lost is made anew. For what can be asked twice."""
        deadline = time.monotonic() + self._reconnect
        while True:
            try:
                return self.ask(step, words)
            except AnsibleConnectionFailure as error:
                if time.monotonic() >= deadline:
                    raise
                Display().display(f"{self.host}: no connection, tried again: {error.message}")
                self._connection.reset()
                time.sleep(_SOON)

    def look(self) -> dict[str, Any]:
        """hostmem outcome.

        :raises _Wrong: it is an error.
        """
        return self._good(self.ask_again("look"))

    def begin(self, verb: str, options: Sequence[str]) -> str:
        """A job; its number.

        :raises _Wrong: it was not begun.
        """
        job = uuid.uuid4().hex
        words = [job, verb, *options]
        try:
            self._good(self.ask("begin", words))
        except AnsibleConnectionFailure:
            if self.look().get("job", {}).get("id") != job:
                self._good(self.ask_again("begin", words))
        return job

    def cancel(self) -> bool:
        """True when something was called off.

        :raises _Wrong: it cannot be.
        """
        return bool(self._good(self.ask_again("cancel"))["changed"])

    def cancel_wait(self, job: str) -> bool:
        """The same for a wait for a guest, unless a source has come meanwhile, or it is another job's; ``job`` empty for anybody's."""
        words = ["--unclaimed", *(["--job", job] if job else [])]
        return bool(self._good(self.ask_again("cancel", words))["changed"])

    def _good(self, told: dict[str, Any]) -> dict[str, Any]:
        if not told["ok"]:
            raise _Wrong({**told["error"], "message": f"{self.host}: {told['error']['message']}"})
        return told


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """The module does one step on one host."""

    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Move, cancel or recover."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        arguments = plain({**self._task.args})
        for hidden in ("_step", "_words"):
            if hidden in arguments:
                raise AnsibleActionFail(f"{hidden} is not for users.")
        for needed in ("name", "destination"):
            if not arguments.get(needed):
                raise AnsibleActionFail(f"{needed} is needed.")
        state = arguments.get("state", "moved")
        work: dict[str, Callable[[_Move], dict[str, Any]]] = {
            "moved": _Move.moved,
            "cancelled": _Move.cancelled,
            "recovered": _Move.recovered,
        }
        if state not in work:
            raise AnsibleActionFail(f"state is {state!r}, not one of {', '.join(work)}.")
        move = self._move(arguments, task_vars)
        try:
            result.update(work[state](move))
        except _Wrong as wrong:
            result.update(move.facts, failed=True, msg=str(wrong), error=wrong.error)
        except AnsibleConnectionFailure as error:
            result.update(
                move.facts,
                failed=True,
                msg=f"{error.message} What was begun on the hosts goes on; the same task picks it up.",
            )
        return result

    def _move(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> _Move:
        source = plain(self._task.delegate_to or task_vars["inventory_hostname"])
        destination = str(arguments["destination"])
        if destination == source:
            raise AnsibleActionFail(f"destination: {destination} is the host that the guest is to leave.")
        second = SecondHost(self, destination, task_vars)
        own = {**arguments}
        other = {**arguments}
        there = task_vars["hostvars"][destination]
        address = str(arguments.get("address") or there.get("ansible_host") or destination)
        return _Move(
            _Side(self, source, task_vars, self._connection, own),
            _Side(second.action, destination, second.variables, second.connection, other),
            {**arguments, "address": plain(address)},
            bool(self._task.check_mode),
        )


class _Move:
    """One guest, from ``here`` to ``there``."""

    def __init__(self, here: _Side, there: _Side, arguments: dict[str, Any], check: bool) -> None:
        self._here = here
        self._there = there
        self._arguments = arguments
        self._check = check
        self._name = str(arguments["name"])
        self._poll = float(arguments.get("poll", 2.0))
        self._said = ""
        # The job at the destination that this program has begun.
        self._own = ""
        self.facts: dict[str, Any] = {"changed": False}

    # --- state=moved

    def moved(self) -> dict[str, Any]:
        """:raises _Wrong: the guest was not moved, or not yet."""
        here, there = self._here.look(), self._there.look()
        if not _works(here) and ("move" in here or "doubt" in here) and not self._check:
            self.recovered()
            here, there = self._here.look(), self._there.look()
        if _works(here):
            return self._picked_up(here)
        if there["carried"] and "move" not in there and not here["carried"]:
            return self._where(here, there)
        if not here["carried"]:
            raise _Wrong(
                {
                    "message": f"Guest {self._name} runs neither on {self._here.host} nor on {self._there.host}.",
                    "cure": f"Start it on {self._here.host}, or see there: hostmem info {self._name}",
                }
            )
        port = self._waits(there)
        if self._check:
            return self._checked(port)
        try:
            job = self._here.begin("migrate", self._sending(port))
        except _Wrong:
            self._give_wait_up()
            raise
        return self._followed(job)

    def _picked_up(self, here: dict[str, Any]) -> dict[str, Any]:
        """A move that somebody else began."""
        job, to = here["job"], here.get("move", {}).get("to")
        if job["verb"] != "migrate" or to not in (None, self._arguments["address"]):
            raise _Wrong(
                {
                    "message": f"Guest {self._name} is in another move on {self._here.host}: hostmem {job['verb']}{f' to {to}' if to else ''}.",
                    "cure": "Wait for its end, or cancel it.",
                }
            )
        self._say(f"{self._name}: a move is under way, and is waited for")
        if self._check:
            return {**self.facts, "changed": True}
        return self._followed(job["id"])

    def _waits(self, there: dict[str, Any]) -> int:
        """The port at which the destination waits."""
        if self._check and _works(there):
            raise _Wrong(
                {
                    "message": f"{self._there.host} waits for guest {self._name} already: that is somebody else's move.",
                    "cure": "Wait for its end, or cancel it.",
                }
            )
        # Somebody may have let it wait already.
        if not _unclaimed(there):
            self._own = self._there.begin("receive", self._receiving())
        own = self._own
        deadline = time.monotonic() + _LISTEN
        while True:
            there = self._there.look()
            move = there.get("move", {})
            if move.get("port") and _unclaimed(there):
                return int(move["port"])
            if not _works(there) and (not own or there.get("job", {}).get("id") == own):
                result = there.get("job", {}).get("result", {})
                self.facts["arrival"] = result
                error = result.get("error") or {"message": "What waited for the guest there ended without a result."}
                raise _Wrong({**error, "message": f"{self._there.host}: {error['message']}"})
            if time.monotonic() >= deadline:
                raise _Wrong(
                    {"message": f"{self._there.host} does not wait for guest {self._name} after {_LISTEN:.0f} s."}
                )
            time.sleep(_SOON)

    def _give_wait_up(self) -> None:
        if self._own:
            self._there.cancel_wait(self._own)

    def _receiving(self) -> list[str]:
        options = [
            "--listen",
            self._arguments["address"],
            "--port",
            str(self._arguments.get("port", 0)),
            "--timeout",
            str(_WAIT),
        ]
        return [*options, *self._trust()]

    def _trust(self) -> list[str]:
        if self._plain:
            return ["--plain"]
        return ["--from", str(self._arguments.get("source_name") or self._here.host)]

    @property
    def _plain(self) -> bool:
        return str(self._arguments.get("plain", False)).lower() in ("true", "yes", "on", "1")

    def _sending(self, port: int) -> list[str]:
        options = [
            "--to",
            self._arguments["address"],
            "--port",
            str(port),
            "--method",
            self._arguments.get("method", "precopy"),
        ]
        for option, word in (("max_pause", "--max-pause"), ("timeout", "--timeout")):
            if self._arguments.get(option) is not None:
                options += [word, str(self._arguments[option])]
        return options + (["--plain"] if self._plain else [])

    def _checked(self, port: int) -> dict[str, Any]:
        try:
            told = self._here.ask_again("check", ["--check", *self._sending(port)])
        finally:
            self._give_wait_up()
        self.facts["move"] = told
        if not told["ok"]:
            raise _Wrong(told["error"])
        return {**self.facts, "changed": True, "diff": self._diff(self._here.host, self._there.host)}

    def _followed(self, job: str) -> dict[str, Any]:
        """Until the source's job has ended."""
        result = self._result(self._here, job, progress=True)
        self.facts["move"] = result
        self._say(end_line(self._name, result))
        if not result.get("ok"):
            self._give_wait_up()
        self._arrived()
        if not result.get("ok"):
            raise _Wrong(self._error(result))
        self.facts.update(self._where(self._here.look(), self._there.look(), before=self._here.host), changed=True)
        if self.facts["runs_on"] != [self._there.host]:
            raise _Wrong(
                {
                    "message": f"Guest {self._name} came to {self._there.host}, but runs on {', '.join(self.facts['runs_on']) or 'no host'} now.",
                    "cure": f"See on both hosts: hostmem info {self._name}, and QEMU's log in the guest's log directory.",
                }
            )
        return self.facts

    def _error(self, result: dict[str, Any]) -> dict[str, Any]:
        """The source's; with the destination's where that says more."""
        error = result.get("error") or {"message": f"What moved the guest on {self._here.host} ended without a result."}
        there = self.facts.get("arrival", {}).get("error")
        cause = (
            f"{error.get('cause', '')} {self._there.host} says: {describe(there)}".strip()
            if there
            else error.get("cause", "")
        )
        return {**error, "message": f"{self._here.host}: {error['message']}", "cause": cause}

    def _arrived(self) -> None:
        """What the destination says, once it has ended."""
        deadline = time.monotonic() + _END
        while _works(there := self._there.look()) and time.monotonic() < deadline:
            time.sleep(_SOON)
        job = there.get("job", {})
        if job.get("verb") == "receive" and "result" in job:
            self.facts["arrival"] = job["result"]

    def _result(self, side: _Side, job: str, progress: bool = False) -> dict[str, Any]:
        while True:
            told = side.look()
            if told.get("job", {}).get("id") != job or not _works(told):
                break
            if progress:
                self._say(progress_line(self._name, told.get("move", {})))
            time.sleep(self._poll if progress else _SOON)
        found = told.get("job", {})
        if found.get("id") != job:
            return {
                "guest": self._name,
                "ok": False,
                "changed": False,
                "error": {"message": "Another job took its place."},
            }
        lost = {"message": "Its program was ended.", "cure": "Run this again with state=recovered."}
        return found.get("result") or {"guest": self._name, "ok": False, "changed": False, "error": lost}

    # --- state=cancelled

    def cancelled(self) -> dict[str, Any]:
        """:raises _Wrong: it cannot be called off."""
        here, there = self._here.look(), self._there.look()
        moves = [side for side, told in ((self._here, here), (self._there, there)) if _works(told) or "move" in told]
        if self._check or not moves:
            return {**self.facts, "changed": bool(moves)}
        changed = self._here in moves and self._here.cancel()
        if _unclaimed(self._there.look()):
            changed = self._there.cancel_wait("") or changed
        self._arrived()
        result = {**self._where(self._here.look(), self._there.look(), before=self._here.host), "changed": changed}
        if self._here in moves and result["runs_on"] != [self._here.host]:
            self.facts.update(result)
            raise _Wrong(
                {
                    "message": f"The move of guest {self._name} was not called off: it runs on {', '.join(result['runs_on']) or 'no host'} now.",
                    "cure": f"See on both hosts: hostmem info {self._name}",
                }
            )
        return result

    # --- state=recovered

    def recovered(self) -> dict[str, Any]:
        """Both hosts at once: each may wait for the other.

        :raises _Wrong: one of them could not.
        """
        here, there = self._here.look(), self._there.look()
        if not any("move" in told or "doubt" in told or _works(told) for told in (here, there)):
            return self._where(here, there)
        if self._check:
            return {**self.facts, "changed": True}
        waits_there = _works(there) and there["job"]["verb"] == "receive"
        recovers_there = not waits_there and ("move" in there or "doubt" in there)
        job_there = self._recovers(self._there, there) or self._answers(here, there)
        job_here = self._recovers(self._here, here)
        wrong = []
        for side, job, key in ((self._here, job_here, "move"), (self._there, job_there, "arrival")):
            if job:
                result = self._result(side, job, progress=side is self._here)
                self.facts[key] = result
                self.facts["changed"] = self.facts["changed"] or bool(result.get("changed"))
                # Nobody may have had a question: the source knew all by itself.
                if not result.get("ok") and not (
                    key == "arrival" and not recovers_there and job_here and self.facts.get("move", {}).get("ok")
                ):
                    wrong.append(f"{side.host}: {describe(result['error'])}")
                elif "the guest is lost" in str(result.get("outcome", "")):
                    wrong.append(f"{side.host}: {result['outcome']}")
        if wrong:
            raise _Wrong({"message": " ".join(wrong)})
        return self._where(self._here.look(), self._there.look())

    def _recovers(self, side: _Side, told: dict[str, Any]) -> str:
        """The job that does it, begun here or before; empty without anything to recover."""
        if _works(told):
            return str(told["job"]["id"])
        return side.begin("recover", []) if "move" in told or "doubt" in told else ""

    def _answers(self, here: dict[str, Any], there: dict[str, Any]) -> str:
        """A destination at which nobody listens any more tells what is kept there."""
        if "doubt" not in here or _works(there):
            return ""
        doubt = here["doubt"]
        trust = ["--plain"] if doubt["plain"] else self._trust()
        options = ["--listen", doubt["to"], "--port", str(doubt["port"]), "--timeout", str(_WAIT), *trust]
        return self._there.begin("answer", options)

    # --- what both say

    def _where(self, here: dict[str, Any], there: dict[str, Any], before: str = "") -> dict[str, Any]:
        sides = ((self._here, here), (self._there, there))
        hosts = list(dict.fromkeys(side.host for side, told in sides if told["carried"] and "move" not in told))
        now = hosts[0] if hosts else ""
        return {**self.facts, "runs_on": hosts, "diff": self._diff(before or now, now)}

    def _diff(self, before: str, after: str) -> dict[str, Any]:
        return {"before": {self._name: before}, "after": {self._name: after}}

    def _say(self, line: str) -> None:
        """One line at a time, as it comes: also in the output of AWX."""
        if line != self._said:
            self._said = line
            Display().display(line)


def _works(told: dict[str, Any]) -> bool:
    """Whether a job is under way on the host."""
    return bool(told.get("job", {}).get("state") == "running")


def _unclaimed(told: dict[str, Any]) -> bool:
    """Whether a QEMU there waits for the guest, and no source has come."""
    move = told.get("move", {})
    return move.get("step") == "arriving" and not move["claimed"]
