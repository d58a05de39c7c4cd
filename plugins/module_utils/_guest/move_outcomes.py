# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What became of each move to this host, by its token; on its device before anybody is told of it.

A source that lost its line, or its program, asks for it later, and gets the same answer after a kill or a boot of this host. Only who holds
the guest's verb lock and the QEMU that waits can order the guest to run in it: of a move that is not under way any more, one that was
``begun`` can never come to run here, and one that was ``ordered`` and is not known to have come as a whole may have run, and is gone.
"""

from __future__ import annotations

import json
import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from .._host.durable import rename_durably, sync_directory, sync_file, write_new
from .._host.files import read_plain, remove_file
from .._host.unfinished import remove_unfinished
from .errors import Refused
from .move_line import GIVE_UP
from .paths import GuestPaths

BEGUN, ORDERED, RUNS, GIVEN_UP, GONE = "begun", "ordered", "runs", "given-up", "lost"
# By post-copy, as long as a part of its memory is at the source: without QEMU it is as lost as one that was ordered.
PARTLY = "runs-in-part"
_OPEN = (BEGUN, ORDERED, PARTLY)
_STATES = (*_OPEN, RUNS, GIVEN_UP, GONE)
_TOKEN = re.compile("[0-9a-f]{32}")
# Of the latest moves to this host; a source asks for its last one.
KEPT = 64


@dataclass(frozen=True)
class Outcome:
    """``state`` of one move, and why it is so."""

    state: str
    why: str = ""


def is_token(text: str) -> bool:
    """Whether a source may call its move so."""
    return bool(_TOKEN.fullmatch(text))


class Outcomes:
    """The moves of one guest to this host."""

    def __init__(self, paths: GuestPaths) -> None:
        self._paths = paths

    def of(self, token: str) -> Outcome | None:
        """None for a token that is not known.

        :raises Refused: what is kept of it cannot be read.
        """
        if not is_token(token):
            return None
        path = self._path(token)
        try:
            kept = json.loads(read_plain(path))
            if kept["state"] not in _STATES:
                raise ValueError(f"the state is {kept['state']!r}")
            return Outcome(kept["state"], str(kept["why"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Refused(
                f"What became of a move of guest {self._paths.name} to this host cannot be told.",
                cause=f"{path} cannot be read: {error}",
                cure="Look on both hosts whether the guest runs (hostmem info).",
            ) from error

    def record(self, token: str, state: str, why: str = "") -> None:
        """The token is one (``is_token``).

        :raises OSError: it cannot be kept; then nobody may rely on it.
        """
        directory = self._paths.arrivals
        if not os.path.isdir(directory):
            os.mkdir(directory, 0o700)
            sync_directory(self._paths.state)
        begins = not os.path.lexists(self._path(token))
        new = f"{self._path(token)}.{os.getpid()}.new"  # unfinished.py knows this name
        remove_file(new)
        write_new(new, json.dumps({"state": state, "why": why, "at": time.time()}).encode())
        sync_file(new)
        rename_durably(new, self._path(token))
        if begins:  # not in the guest's pause
            self._prune(token)

    def record_order(self, token: str) -> None:
        """That the guest may run here from now on. One that is not known to last has not been given, and is not to be read either.

        :raises OSError: it cannot be kept.
        """
        try:
            self.record(token, ORDERED)
        except OSError:
            with suppress(OSError):
                self.record(token, BEGUN)
            if self.of(token) == Outcome(ORDERED):
                remove_file(self._path(token))
            raise

    def drop_settled(self) -> bool:
        """Before the guest's definition goes. What a source may still settle here, when it is defined again, stays: True when there is such."""
        try:
            names = os.listdir(self._paths.arrivals)
        except FileNotFoundError:
            return False
        left = [name for name in names if self._is_open(name)]
        for name in set(names) - set(left):
            os.unlink(self._path(name))
        return bool(left)

    def _is_open(self, name: str) -> bool:
        try:
            outcome = self.of(name)
        except Refused:
            return True
        return outcome is not None and outcome.state in _OPEN

    def _path(self, token: str) -> str:
        return f"{self._paths.arrivals}/{token}"

    def _prune(self, kept: str) -> None:
        """Not the one that is kept, of whatever time: clocks are set back."""
        remove_unfinished(self._paths.arrivals)
        with os.scandir(self._paths.arrivals) as entries:
            known = sorted((entry.stat().st_mtime_ns, entry.path) for entry in entries if entry.name != kept)
        for _time, path in known[: max(len(known) - KEPT + 1, 0)]:
            with suppress(OSError):
                os.unlink(path)


def told(outcomes: Outcomes, name: str, word: str, token: str) -> dict[str, Any]:
    """What a source is told of a move that is not under way here any more. It is settled by that: one that had not been ordered never
    comes to run here. Of one that is not known nothing is kept by that: anybody could ask for many.

    :raises Refused: there is none with this token.
    """
    outcome = outcomes.of(token)
    if outcome is None and is_token(token) and word == GIVE_UP:
        return {"given_up": "It never began here."}
    if outcome is None:
        raise Refused(
            f"No such move of guest {name} is known here.",
            "None was begun with this token, or it was so long ago that nothing is kept of it.",
            "Look on both hosts whether the guest runs (hostmem info).",
        )
    if outcome.state == BEGUN:
        why = "It was called off before the guest was ordered to run here."
        outcomes.record(token, GIVEN_UP, why)
        return {"given_up": why}
    if outcome.state == GIVEN_UP:
        return {"given_up": outcome.why}
    if outcome.state == RUNS:
        return {"running": True, "finished": True, "status": "completed"}
    return {"lost": outcome.why or "The guest was ordered to run here, and its QEMU is gone."}
