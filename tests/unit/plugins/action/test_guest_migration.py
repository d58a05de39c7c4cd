# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of the two hosts of a move: both are scripts here."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.action.guest_migration import _Move, _Wrong


class Side:
    """Answers the looks one after the other, the last one for ever; keeps what was asked of it."""

    def __init__(self, host: str, *looks: dict[str, Any]) -> None:
        self.host = host
        self.looks = list(looks)
        self.asked: list[tuple[str, ...]] = []

    def look(self) -> dict[str, Any]:
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    def begin(self, verb: str, _options: list[str]) -> str:
        self.asked.append(("begin", verb))
        if verb == "migrate":
            raise _Wrong({"message": "It is busy."})
        return "own"

    def cancel(self) -> bool:
        self.asked.append(("cancel",))
        return True

    def cancel_wait(self, job: str) -> bool:
        self.asked.append(("cancel_wait", job))
        return True


RUNS = {"carried": True}
OFF = {"carried": False}
WAITS = {
    "carried": True,
    "job": {"id": "other", "verb": "receive", "state": "running"},
    "move": {"step": "arriving", "claimed": False, "port": 4711},
}
ARGUMENTS = {"name": "g", "address": "10.0.0.2", "plain": True}


def test_a_wait_of_its_own_is_given_up() -> None:
    here, there = Side("a", RUNS), Side("b", OFF, WAITS)
    with pytest.raises(_Wrong):
        _Move(here, there, ARGUMENTS, False).moved()  # type: ignore[arg-type]
    assert there.asked == [("begin", "receive"), ("cancel_wait", "own")]


def test_the_wait_of_somebody_else_is_left_alone() -> None:
    here, there = Side("a", RUNS), Side("b", WAITS)
    with pytest.raises(_Wrong):
        _Move(here, there, ARGUMENTS, False).moved()  # type: ignore[arg-type]
    assert there.asked == []


def test_a_guest_that_has_moved_was_not_called_off() -> None:
    sends = {"carried": True, "job": {"id": "sends", "verb": "migrate", "state": "running"}}
    here, there = Side("a", sends, OFF), Side("b", RUNS)
    move = _Move(here, there, ARGUMENTS, False)  # type: ignore[arg-type]
    with pytest.raises(_Wrong, match="was not called off: it runs on b"):
        move.cancelled()
    assert move.facts["changed"]
    assert move.facts["runs_on"] == ["b"]


def _recovered(outcome: str, arrival: dict[str, Any]) -> _Move:
    cut_off = {"carried": True, "move": {"step": "arriving", "claimed": True}}
    told = {"ok": True, "changed": True, "outcome": outcome}
    here = Side("a", cut_off, {"carried": False, "job": {"id": "own", "state": "ended", "result": told}})
    there = Side("b", cut_off, {"carried": True, "job": {"id": "own", "state": "ended", "result": arrival}})
    return _Move(here, there, ARGUMENTS, False)  # type: ignore[arg-type]


def test_a_recovery_that_failed_there_is_no_success() -> None:
    failed = {"ok": False, "changed": False, "error": {"message": "It is stuck."}}
    with pytest.raises(_Wrong, match="b: It is stuck"):
        _recovered("finished the move", failed).recovered()


def test_a_lost_guest_is_no_success() -> None:
    with pytest.raises(_Wrong, match="a: the guest is lost"):
        _recovered("the guest is lost: gone", {"ok": True, "changed": True, "outcome": "ended"}).recovered()


def test_a_check_takes_no_wait_of_somebody_else() -> None:
    here, there = Side("a", RUNS), Side("b", WAITS)
    with pytest.raises(_Wrong, match="somebody else's move"):
        _Move(here, there, ARGUMENTS, True).moved()  # type: ignore[arg-type]
    assert (here.asked, there.asked) == ([], [])
