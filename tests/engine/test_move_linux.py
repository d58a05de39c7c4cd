# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real Linux guest moves between two hosts: a disk that both have and that it writes, a tap on each, a TCP connection that must not break."""

from __future__ import annotations

from typing import Any

import pytest

from support.engine import EngineHost
from support.linux import NAME, LinuxGuest
from support.moves import TwoHosts, two_hosts


def shared_disk(host: EngineHost) -> list[dict[str, Any]]:
    path = host.root / "disks" / "root.qcow2"
    return [{"id": "d0", "path": str(path), "format": "qcow2", "shared": True}]


def define_there(hosts: TwoHosts, guest: LinuxGuest) -> None:
    """The same guest for the other host, with that one's QEMU, memory and taps (both hosts are one machine, which has each name once)."""
    nics = [{**nic, "tap": f"{nic['tap']}t"} for nic in guest.definition["nics"]]
    own = hosts.target.heartbeat(NAME, size="192M")
    definition = {**guest.definition, "qemu": own["qemu"], "memory": own["memory"], "nics": nics}
    hosts.target.define(definition)


@pytest.mark.parametrize(("method", "network"), [("precopy", 61), ("postcopy", 62)])
def test_linux_guest(host: EngineHost, method: str, network: int) -> None:
    with two_hosts(host, "11.1", NAME) as hosts:
        guest = LinuxGuest(host, network, disks=shared_disk(host))
        define_there(hosts, guest)
        guest._read = lambda: host.console(NAME) + hosts.console_there()
        with guest.stream():
            hosts.move(method)
            guest.wait_for_more("D")
        guest.assert_whole()
        hosts.assert_never_two()
        assert host.qemu_pids(NAME) == []
        assert hosts.target.one("stop", NAME)["how"] == "powered down"
