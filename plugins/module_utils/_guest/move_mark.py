# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A mark that a guest goes, or went, to another host, or is to come from one. It outlives this one: a start here, after a power cut, could be
a second guest."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from typing import Any

from .._host.durable import remove_durably, sync_directory, sync_file
from .._host.files import read_plain, write_json
from .errors import Refused
from .paths import GuestPaths


@dataclass(frozen=True)
class Leaving:
    """A move to another host whose end is not known: all that is needed to ask for it. ``tls`` is the directory of the certificates, empty
    for a move in clear."""

    to: str
    port: int
    token: str
    tls: str
    method: str


def mark_leaving(paths: GuestPaths, move: Leaving) -> None:
    """Before a move begins; at its end there is no time for it.

    :raises OSError: there is no space.
    """
    _write(paths, asdict(move))


def mark_left(paths: GuestPaths) -> None:
    """The guest runs there: nobody has to be asked any more. Without space for that somebody is."""
    kept = _kept(paths)
    if "to" in kept:
        with suppress(OSError):
            _write(paths, {**kept, "left": True})


def leaving(paths: GuestPaths) -> Leaving | None:
    """None without a move of this host's, or when its end is known."""
    kept = _kept(paths)
    if kept.get("left"):
        return None
    try:
        return Leaving(**{field.name: kept[field.name] for field in fields(Leaving)})
    except KeyError:
        return None


def mark_coming(paths: GuestPaths, origin: str, generation: int, token: str) -> None:
    """Before the other host is told that its guest can come: until it has, it runs there.

    :param generation: of the QEMU that waits for it.
    :raises OSError: there is no space.
    """
    if not has_left(paths) or "origin" in _kept(paths):
        _write(paths, {"origin": origin, "generation": generation, "token": token})


def unmark_coming(paths: GuestPaths, move: int | str) -> None:
    """It does not come, and what waited for it has ended. A mark of another move stays.

    :param move: the generation that waited for it, or the move's token.
    """
    kept = _kept(paths)
    if "origin" in kept and move in (kept.get("generation"), kept.get("token")):
        with suppress(OSError):
            remove_durably(paths.moved_mark)


def _write(paths: GuestPaths, facts: dict[str, Any]) -> None:
    write_json(paths.moved_mark, {**facts, "at": time.time()})
    sync_file(paths.moved_mark)
    sync_directory(paths.state)


def unmark_leaving(paths: GuestPaths) -> None:
    """The guest stays, has come, or is given up."""
    remove_durably(paths.moved_mark)


def _kept(paths: GuestPaths) -> dict[str, Any]:
    """Empty when it cannot be read."""
    try:
        kept = json.loads(read_plain(paths.moved_mark))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def has_left(paths: GuestPaths) -> bool:
    """Whether the guest runs on another host, or may; a mark that cannot be read says so, too."""
    return os.path.lexists(paths.moved_mark)


def left_by(paths: GuestPaths, token: str) -> bool:
    """Whether the guest left by this very move. A mark can be an old one."""
    return has_left(paths) and _kept(paths).get("token") == token


def refuse_moved(paths: GuestPaths) -> None:
    """:raises Refused: the guest is on another host, or may be."""
    if not has_left(paths):
        return
    kept = _kept(paths)
    if "origin" in kept:
        raise Refused(
            f"Guest {paths.name} was to come here from {kept['origin'] or 'another host'}, and runs there, as far as is known here.",
            cause="A start here would make it run twice.",
            cure=f"Let it come (hostmem receive). If it does not exist there any more: hostmem discard {paths.name}",
        )
    move = leaving(paths)
    if move is not None:
        raise Refused(
            f"Guest {paths.name} was on its way to {move.to}, and may run there.",
            cause="Its move was cut off on this host. A start here could make it run twice.",
            cure=f"Ask there: hostmem recover {paths.name} (if nobody listens on port {move.port} of {move.to} any more, run there:"
            f" hostmem answer {paths.name}). If it does not exist there: hostmem discard {paths.name}",
        )
    raise Refused(
        f"Guest {paths.name} was moved to {kept.get('to', 'another host')}.",
        cause="If it runs there, a start here would make it run twice.",
        cure=f"Start it there, or move it back. If it does not exist there any more: hostmem discard {paths.name}",
    )
