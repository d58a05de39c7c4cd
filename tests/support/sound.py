# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What has to be true of a guest after any fault, judged from outside: the kernel, QEMU, and the guest's own memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.engine import EngineHost, wait_until
from support.watch import Watcher

_LONGEST_GAP_MS = 1000.0  # no measure of a pause: what a busy machine may do to a process


def assert_alive(page: Any, boots: int = 1) -> None:
    """The guest's counter moves, its memory was never wrong, and it was not started again."""
    before = page.counter
    wait_until(lambda: page.counter != before, "the guest stands still")
    assert page.errors == 0, f"{page.errors} pages of the guest were not what it had written"
    assert page.boots == boots, f"the guest started {page.boots} times"


def assert_never_two(host: EngineHost, name: str) -> None:
    """At no instant two QEMUs ran the guest, by the run states that they wrote down; each that ended had stopped it."""
    spans: list[tuple[float, float, int]] = []
    begun: dict[int, float] = {}
    for state in host.run_states(name):
        if state.new == "running":
            begun[state.generation] = state.at
        elif state.old == "running":
            spans.append((begun.pop(state.generation), state.at, state.generation))
    assert list(begun) == [host.generation(name)], "a QEMU ended while it ran the guest"
    spans += [(at, float("inf"), generation) for generation, at in begun.items()]
    spans.sort()
    for (begin, end, one), (following, _end, other) in zip(spans, spans[1:]):
        assert end <= following, f"generation {one} ran from {begin} to {end}, generation {other} from {following}"


def assert_sound(host: EngineHost, name: str, page: Any, *, logged: bool = True) -> None:
    """Exactly one QEMU runs the guest, unharmed; nothing is left of what was tried; the next live update succeeds.

    Nobody helps: first the verbs and watchdogs at work are waited for, then everything is only looked at.

    :param logged: False when QEMU could not write down its run states.
    """
    host.wait_quiet()
    _assert_one(host, name, page)
    assert_nothing_left(host, name)
    if logged:
        assert_never_two(host, name)
    before = host.generation(name)
    result = host.one("update", "--force", name)
    assert result["changed"]
    assert result["from"]["generation"] == before
    _assert_one(host, name, page)
    assert_nothing_left(host, name)
    if logged:
        assert_never_two(host, name)


def assert_nothing_left(host: EngineHost, name: str) -> None:
    """There is what there was after the start, and nothing else."""
    now, then = set(host.listing(name)), set(host.baseline[name])
    assert (sorted(now - then), sorted(then - now)) == ([], [])


def _assert_one(host: EngineHost, name: str, page: Any) -> None:
    pid = host.only_qemu(name)
    run = host.run_directory(name)
    assert (run / "pid").read_text() == f"{pid}\n"
    with host.qmp(name) as qmp:
        assert qmp("query-status")["status"] == "running"
        assert qmp("query-migrate-parameters")["mode"] == "normal"
        assert [item["capability"] for item in qmp("query-migrate-capabilities") if item["state"]] == []
    assert f"{run}/gen-{host.generation(name)}/qmp.sock,".encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert_alive(page)


def assert_lost(host: EngineHost, name: str) -> None:
    """No QEMU has the guest, nothing stands in its way, and it can be started anew."""
    assert host.qemu_pids(name) == []
    assert host.info(name)["state"] == "stopped"
    assert host.one("start", name)["changed"]
    page = host.page(name)
    wait_until(lambda: page.ready, "the guest did not start")
    assert_alive(page)


@contextlib.contextmanager
def undisturbed(host: EngineHost, name: str, page: Any) -> Iterator[None]:
    """What happens within must not have paused the guest: no change of its run state, the same QEMU, the counter watched throughout."""
    pid, states, listing = host.only_qemu(name), host.run_states(name), host.listing(name)
    with contextlib.ExitStack() as stack:
        watcher = None
        if hasattr(page, "quads"):  # memory that others can map
            watcher = stack.enter_context(Watcher([host.ram_path(name)], threshold_ms=_LONGEST_GAP_MS, interval_ms=2))
        yield
        if watcher:
            seen = watcher.stop()[0]
            assert seen["last"] > seen["first"]
            assert seen["longest_ms"] < _LONGEST_GAP_MS
    assert host.run_states(name) == states, "the guest was paused"
    assert host.only_qemu(name) == pid
    assert host.listing(name) == listing
    assert_alive(page)


def refuses(error: dict[str, Any], *texts: str) -> None:
    """A refusal says what is wrong, and names cause and cure; ``texts`` are found somewhere in it."""
    whole = " | ".join(str(value) for value in error.values())
    for text in texts:
        assert text in whole, f"{text!r} is not in: {whole}"
