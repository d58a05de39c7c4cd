# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Equal guests that belong to one contender, and what their memory says about them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.host import Host
from support.watch import StatusPage, Watcher

MIB = 1 << 20
READY_TIMEOUT = 120.0
ALIVE_TIMEOUT = 20.0
# After a freeze the guest's timer catches up for some ticks.
THAW_SECONDS = 0.3
# The watch goes on so long around each update, so that both ends of every pause are in it.
MARGIN_SECONDS = 0.1


@dataclass(frozen=True)
class Kind:
    """What the guests are like: memory in MiB, part of it that they check, pages checked each 10 ms, ticks a second.

    ``spawn``: whether their QEMUs may start programs, which cpr-exec needs.
    """

    size: int
    region: int
    pages: int
    hertz: int
    prealloc: bool
    spawn: bool = False

    @property
    def cmdline(self) -> str:
        return f"{self.region} {self.pages} {self.hertz}"

    @property
    def resident(self) -> int:
        """MiB that one guest takes: its touched memory, and 64 for QEMU itself."""
        return (self.size if self.prealloc else self.region + 2) + 64


class Fleet:
    """Guests of one kind, started by the runtime."""

    def __init__(self, host: Host, names: Sequence[str], kind: Kind) -> None:
        self.host = host
        self.names = list(names)
        for name in names:
            host.define(_definition(host, name, kind))
        _run(host, "start", *names)
        self.files = [Path(known["layout"][0]["path"]) for known in _run(host, "info", *names)]
        self.pages = [StatusPage(file) for file in self.files]
        self._hertz = kind.hertz

    def wait_ready(self) -> None:
        """Until every guest has filled its region."""
        deadline = time.monotonic() + READY_TIMEOUT
        while not all(page.ready for page in self.pages):
            if time.monotonic() >= deadline:
                raise RuntimeError(f"guests did not get ready within {READY_TIMEOUT:.0f} s")
            time.sleep(0.02)

    def pids(self) -> list[int]:
        """The QEMUs that live, whoever started them."""
        wanted = [f"guest={name}".encode() for name in self.names]
        root = os.fsencode(self.host.root)
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if words[0].startswith(root) and any(word in words for word in wanted):
                    found.append(int(entry.name))
        return found

    def freeze(self) -> None:
        """No CPU for these guests: they do not disturb others that are measured."""
        for pid in self.pids():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on, and wait until they run evenly."""
        for pid in self.pids():
            os.kill(pid, signal.SIGCONT)
        time.sleep(THAW_SECONDS)

    def check(self) -> None:
        """Every guest goes on, was never reset, and found nothing wrong in its memory: asserted, unlike the times.

        :raises AssertionError: with what is wrong.
        """
        deadline = time.monotonic() + ALIVE_TIMEOUT
        for name, page in zip(self.names, self.pages, strict=True):
            before = page.counter
            while page.counter == before:
                if time.monotonic() >= deadline:
                    raise AssertionError(f"guest {name} stands still")
                time.sleep(0.001)
            if page.boots != 1 or page.errors != 0:
                raise AssertionError(f"guest {name}: {page.boots} boots, {page.errors} wrong pages")

    def watcher(self) -> Watcher:
        """A watcher of these guests, not yet started; its threshold is above the tick."""
        threshold, interval = max(1.0, 3000 / self._hertz), min(0.5, 250 / self._hertz)
        return Watcher(self.files, threshold_ms=threshold, interval_ms=interval)

    def kill(self) -> None:
        """End all QEMUs and forget the guests, so that their names can be used again."""
        for page in self.pages:
            page.close()
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
        while self.pids():
            time.sleep(0.01)
        _run(self.host, "undefine", *self.names)
        self.host.names = [name for name in self.host.names if name not in self.names]


def _run(host: Host, *words: str) -> list[dict[str, Any]]:
    """A verb for many guests, all of which must succeed."""
    results = host.run(*words)
    for result in results:
        if not result["ok"]:
            raise RuntimeError(result["error"])
    return results


def _definition(host: Host, name: str, kind: Kind) -> dict[str, object]:
    definition = host.heartbeat(name, size=f"{kind.size}M", hertz=kind.hertz)
    definition["kernel"]["cmdline"] = kind.cmdline
    definition["memory"]["blocks"][0]["prealloc"] = kind.prealloc
    definition["sandbox"] = {"spawn": kind.spawn}
    return definition
