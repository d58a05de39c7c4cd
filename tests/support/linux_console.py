# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a Linux guest says of itself, and what a stream to it must have been, wherever it runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from support.engine import wait_until

_FAULTS = ("DX", "NX", "MX", "EX", "DIED")


class LinuxConsole:
    """A guest's console; tests/guests/README.md has its lines.

    :param read: the whole console log as it is now.
    :param works: first letters of what it works on: D disk, N NVDIMM, M memory.
    :param seconds: how long it may say nothing of one of them.
    """

    def __init__(self, read: Callable[[], str], works: str, seconds: float = 60.0) -> None:
        self._read = read
        self._works = works
        self._seconds = seconds

    def lines(self, kind: str) -> list[str]:
        """Console lines that begin with a word of the guest's."""
        return [line for line in self._read().splitlines() if line.startswith(kind)]

    def wait_for_more(self, kind: str) -> None:
        """Until the guest has said something of this kind again."""
        before = len(self.lines(kind))
        wait_until(lambda: len(self.lines(kind)) > before, f"the guest says no {kind} any more", self._seconds)

    def assert_whole(self) -> None:
        """Disk, NVDIMM and memory checked by the guest itself, and no boot but the first."""
        for kind in self._works:
            self.wait_for_more(kind)
        for kind in _FAULTS:
            assert not self.lines(kind), self.lines(kind)
        assert len(self.lines("BOOT")) == 1

    def namespaces(self) -> list[dict[str, Any]]:
        """What ndctl in the guest said of its only namespace, at each boot."""
        return [json.loads(line.removeprefix("PMEM "))[0] for line in self.lines("PMEM")]


def assert_unbroken(result: dict[str, Any], console: str = "") -> None:
    """A stream whose every message was echoed, unharmed, in one connection.

    :param console: what the guest said, for the failure's message.
    """
    assert result["alive"], f"the TCP connection did not survive: {result}; the guest's last words: {console[-600:]}"
    assert result["errors"] == 0, result
    assert result["messages"] == result["sent"] > 0, result
