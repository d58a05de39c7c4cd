# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The taps of a guest: made, used in turn, taken back. (What goes over them: test_linux_guest.py.)"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from support.engine import EngineHost
from support.sound import assert_sound, refuses, undisturbed


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@pytest.fixture
def bridge(host: EngineHost) -> str:
    """A bridge on this machine, which nothing else is in."""
    name = f"hb{os.urandom(4).hex()}"
    ip("link", "add", name, "type", "bridge")
    host.later.callback(ip, "link", "delete", name)
    ip("link", "set", name, "up")
    return name


def nic(host: EngineHost, bridge: str) -> list[dict[str, str]]:
    """A NIC whose taps have a name that is this test's alone."""
    return [{"id": "n0", "bridge": bridge, "mac": "52:54:00:00:00:01", "tap": f"ht{os.urandom(4).hex()}"}]


def held(host: EngineHost) -> set[str]:
    """The taps that the guest's QEMU has open, as the kernel shows them."""
    found = set()
    for entry in Path(f"/proc/{host.only_qemu('g')}/fdinfo").iterdir():
        found.update(re.findall(r"^iff:\s*(\S+)", entry.read_text(), re.M))
    return found


def test_used_in_turn(host: EngineHost, bridge: str) -> None:
    nics = nic(host, bridge)
    page = host.boot("g", nics=nics)
    both = {f"{nics[0]['tap']}.{slot}" for slot in "ab"}
    assert both <= set(os.listdir(f"/sys/class/net/{bridge}/brif"))
    seen = [held(host)]
    host.install("11.1")
    for _number in range(3):
        host.one("update", "--force", "g")
        seen.append(held(host))
    assert seen[0] == seen[2] != seen[1] == seen[3]
    assert seen[0] | seen[1] == both
    assert_sound(host, "g", page)
    page.close()
    host.one("stop", "g")
    assert not both & set(os.listdir("/sys/class/net"))


def test_missing_bridge_is_refused(host: EngineHost) -> None:
    nics = nic(host, "nobridge")
    host.define(host.heartbeat("g", nics=nics))
    refuses(host.refused("start", "g"), "there is no bridge nobridge", "Make the bridge")
    assert host.qemu_pids("g") == []
    assert not [name for name in os.listdir("/sys/class/net") if name.startswith(nics[0]["tap"])]


def test_single_queue_tap_is_refused(host: EngineHost, bridge: str) -> None:
    nics = nic(host, bridge)
    tap = f"{nics[0]['tap']}.a"
    ip("tuntap", "add", "dev", tap, "mode", "tap")
    host.later.callback(subprocess.run, ["ip", "link", "delete", tap], check=False, stderr=subprocess.DEVNULL)
    host.define(host.heartbeat("g", nics=nics))
    refuses(host.refused("start", "g"), f"{tap} exists and has a single queue", "remove it")


def test_other_interface_in_the_way_is_refused_and_stays(host: EngineHost, bridge: str) -> None:
    nics = nic(host, bridge)
    name = f"{nics[0]['tap']}.a"
    ip("link", "add", name, "type", "bridge")
    host.later.callback(ip, "link", "delete", name)
    host.define(host.heartbeat("g", nics=nics))
    refuses(host.refused("start", "g"), f"{name} exists and is not a tap")
    assert name in os.listdir("/sys/class/net")


def test_tap_taken_by_somebody_else(host: EngineHost, bridge: str) -> None:
    """The tap of the next generation is another user's by now: refused before the pause."""
    nics = nic(host, bridge)
    page = host.boot("g", nics=nics)
    tap = f"{nics[0]['tap']}.b"
    ip("link", "delete", tap)
    ip("tuntap", "add", "dev", tap, "mode", "tap", "multi_queue", "user", "root")
    with undisturbed(host, "g", page):
        refuses(host.refused("update", "--force", "g"), tap)
    ip("link", "delete", tap)
    host.one("update", "--force", "g")
    assert_sound(host, "g", page)
