# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Live updates that succeed."""

from __future__ import annotations

from support.engine import EngineHost
from support.sound import assert_never_two, assert_sound


def test_to_the_next_version(host: EngineHost) -> None:
    page = host.boot("g")
    host.install("11.1")
    result = host.one("update", "g")
    assert result["changed"]
    assert result["from"]["version"].startswith("10.0.")
    assert result["to"]["version"].startswith("11.1.")
    assert "installed is 11.1" in result["reason"]
    assert result["pause_ms"] > 0
    assert host.one("update", "g")["changed"] is False
    assert_sound(host, "g", page)


def test_ten_in_a_row(host: EngineHost) -> None:
    page = host.boot("g")
    host.install("11.1")
    for number in range(10):
        assert host.one("update", "--force", "g")["to"]["generation"] == number + 1
    assert_sound(host, "g", page)
    assert_never_two(host, "g")
