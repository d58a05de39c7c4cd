# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What became of moves, on real files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.errors import Refused
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.move_line import ALIVE, CONTINUE, GIVE_UP, LOST
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.move_outcomes import (
    BEGUN,
    GIVEN_UP,
    GONE,
    KEPT,
    ORDERED,
    PARTLY,
    RUNS,
    Outcome,
    Outcomes,
    told,
)
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.paths import GuestPaths

TOKEN = "0123456789abcdef" * 2


@pytest.fixture
def paths(tmp_path: Path) -> GuestPaths:
    return GuestPaths("g", "", "", "", str(tmp_path))


@pytest.fixture
def outcomes(paths: GuestPaths) -> Outcomes:
    return Outcomes(paths)


@pytest.mark.parametrize("state", [BEGUN, ORDERED, PARTLY, RUNS, GIVEN_UP, GONE])
def test_what_is_recorded_is_read(outcomes: Outcomes, paths: GuestPaths, state: str) -> None:
    assert outcomes.of(TOKEN) is None
    outcomes.record(TOKEN, BEGUN)
    outcomes.record(TOKEN, state, "so it is")
    assert Outcomes(paths).of(TOKEN) == Outcome(state, "so it is")
    assert os.listdir(paths.arrivals) == [TOKEN]
    assert os.stat(f"{paths.arrivals}/{TOKEN}").st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("state", "stays"),
    [(BEGUN, True), (ORDERED, True), (PARTLY, True), (RUNS, False), (GIVEN_UP, False), (GONE, False)],
)
def test_what_is_settled_goes_with_the_definition(
    outcomes: Outcomes, paths: GuestPaths, state: str, stays: bool
) -> None:
    assert not outcomes.drop_settled()
    outcomes.record("f" * 32, RUNS)
    outcomes.record(TOKEN, state)
    assert outcomes.drop_settled() == stays
    assert os.listdir(paths.arrivals) == [TOKEN] * stays


def test_what_a_killed_writer_left_is_in_nobodys_way(outcomes: Outcomes, paths: GuestPaths) -> None:
    outcomes.record(TOKEN, BEGUN)
    Path(f"{paths.arrivals}/{TOKEN}.{os.getpid()}.new").write_text("{")
    outcomes.record(TOKEN, ORDERED)
    assert outcomes.of(TOKEN) == Outcome(ORDERED)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"state": "else", "why": ""}', '{"state": "runs"}', "\udcff"])
def test_what_cannot_be_read_is_no_answer(outcomes: Outcomes, paths: GuestPaths, text: str) -> None:
    outcomes.record(TOKEN, RUNS)
    Path(f"{paths.arrivals}/{TOKEN}").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(Refused, match="cannot be told"):
        told(outcomes, "g", GIVE_UP, TOKEN)


def test_the_latest_are_kept(outcomes: Outcomes, paths: GuestPaths) -> None:
    tokens = [f"{number:032x}" for number in range(KEPT + 10)]
    for number, token in enumerate(tokens):
        outcomes.record(token, BEGUN)
        os.utime(f"{paths.arrivals}/{token}", ns=(number, number))
    outcomes.record("f" * 32, BEGUN)
    assert sorted(os.listdir(paths.arrivals)) == [*tokens[-KEPT + 1 :], "f" * 32]


@pytest.mark.parametrize(
    ("state", "key"),
    [
        (BEGUN, "given_up"),
        (GIVEN_UP, "given_up"),
        (ORDERED, "lost"),
        (PARTLY, "lost"),
        (GONE, "lost"),
        (RUNS, "running"),
    ],
)
@pytest.mark.parametrize("word", [CONTINUE, ALIVE, GIVE_UP, LOST])
def test_every_question_has_one_answer(outcomes: Outcomes, word: str, state: str, key: str) -> None:
    outcomes.record(TOKEN, state)
    first = told(outcomes, "g", word, TOKEN)
    assert [name for name in ("given_up", "lost", "running") if name in first] == [key]
    assert told(outcomes, "g", word, TOKEN) == first
    assert first.get("running", True) is True


def test_what_was_begun_is_given_up_by_a_question(outcomes: Outcomes) -> None:
    outcomes.record(TOKEN, BEGUN)
    told(outcomes, "g", CONTINUE, TOKEN)
    assert (outcomes.of(TOKEN) or Outcome("")).state == GIVEN_UP


@pytest.mark.parametrize("token", [TOKEN, "", "../" * 10 + "etc/passwd", TOKEN.upper(), f"{TOKEN}\n"])
def test_what_is_not_known(outcomes: Outcomes, token: str) -> None:
    with pytest.raises(Refused, match="No such move"):
        told(outcomes, "g", CONTINUE, token)


def test_what_is_not_known_can_be_given_up(outcomes: Outcomes) -> None:
    """Whoever asks for many drives nothing out that is kept."""
    assert "given_up" in told(outcomes, "g", GIVE_UP, TOKEN)
    assert outcomes.of(TOKEN) is None


def test_nothing_is_told_that_cannot_be_kept(outcomes: Outcomes, paths: GuestPaths) -> None:
    outcomes.record(TOKEN, BEGUN)
    Path(f"{paths.arrivals}/{TOKEN}.{os.getpid()}.new").mkdir()
    with pytest.raises(OSError, match="directory"):
        told(outcomes, "g", CONTINUE, TOKEN)


def test_a_clock_that_is_set_back(outcomes: Outcomes, paths: GuestPaths) -> None:
    """The one that is under way is the oldest by it."""
    for number in range(KEPT + 10):
        outcomes.record(f"{number:032x}", RUNS)
        os.utime(f"{paths.arrivals}/{number:032x}", (2**32, 2**32))
    for state in (BEGUN, ORDERED, RUNS):
        outcomes.record(TOKEN, state)
        assert outcomes.of(TOKEN) == Outcome(state)
    assert len(os.listdir(paths.arrivals)) == KEPT
