# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real Linux guest with disk, NIC, agent and display comes through live updates, and through failed ones."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.engine import EngineHost
from support.linux import NAME, LinuxGuest
from support.sound import assert_never_two, refuses


def taps_of(guest: LinuxGuest) -> set[str]:
    return {path.name for path in Path("/sys/class/net").iterdir() if path.name.startswith(f"{guest.tap}.")}


def test_live_updates(host: EngineHost) -> None:
    guest = LinuxGuest(host, 1)
    overlay = guest.disk.with_name("snapshot.qcow2")
    with guest.stream():
        with host.qmp(NAME) as qmp:
            qmp("blockdev-snapshot-sync", node_name="disk-d0", snapshot_node_name="overlay", snapshot_file=str(overlay))
        host.install("11.1")
        assert host.one("update", NAME)["to"]["version"].startswith("11.1.")
        guest.wait_for_more("D")
        host.one("update", "--force", NAME)
        host.one("update", "--force", NAME)
    guest.assert_whole()
    assert_never_two(host, NAME)
    assert host.info(NAME)["followed_disks"]["d0"]["path"] == str(overlay)
    assert taps_of(guest) == {f"{guest.tap}.a", f"{guest.tap}.b"}
    assert ask_agent(host) == {}
    with host.qmp(NAME) as qmp:
        assert qmp("query-vnc")["enabled"]
    assert host.one("stop", NAME)["how"] == "powered down"
    assert taps_of(guest) == set()


def ask_agent(host: EngineHost) -> object:
    """guest-ping through the channel of the current generation."""
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(30)
        channel.connect(str(host.run_directory(NAME) / "current" / "qga.sock"))
        channel.sendall(b'{"execute": "guest-ping"}\n')
        return json.loads(channel.makefile().readline())["return"]


@pytest.mark.parametrize(
    ("model", "interface"), [("e1000e", "sata"), ("virtio-net-pci", "scsi")], ids=["e1000e-sata", "virtio-scsi"]
)
def test_other_devices(host: EngineHost, model: str, interface: str) -> None:
    nic: dict[str, Any] = {"id": "n0", "bridge": "brhm2", "mac": "52:54:00:98:02:02", "model": "virtio-net-pci"}
    disk = {"id": "d0", "path": str(host.root / "disks" / "root.qcow2"), "format": "qcow2", "interface": interface}
    if model != "virtio-net-pci":
        nic["id"] = "n1"  # beside it: the guest has no driver for it, QEMU moves its state all the same
        nic.update(model=model, mac="52:54:00:98:02:03")
        nics = [{"id": "n0", "bridge": "brhm2", "mac": "52:54:00:98:02:02"}, nic]
    else:
        nics = [{**nic, "queues": 2}]
    guest = LinuxGuest(host, 2, nics=nics, disks=[disk])
    with guest.stream():
        host.install("11.1")
        host.one("update", NAME)
    guest.assert_whole()


def test_network_survives_a_failed_update(host: EngineHost) -> None:
    guest = LinuxGuest(host, 3)
    host.install("11.1")
    with guest.stream(), host.at_step("incoming", "os.kill(qemu(facts['to'])[0], 9)"):
        host.refused("update", NAME)
    with guest.stream():
        pass
    with guest.stream():
        host.one("update", NAME)
    guest.assert_whole()


def test_network_dies_when_both_qemus_share_a_tap(host: EngineHost) -> None:
    """What the two taps protect from: without them a failed update cuts the guest off for ever."""
    guest = LinuxGuest(host, 4)
    host.install("11.1")
    slots = '1 - int(self.old.record.get("tap_slot", 0))'
    with (
        pytest.raises(AssertionError, match=r"survive|messages"),
        guest.stream(drain=5.0),
        host.patched("_guest/update_attempt.py", slots, "0"),
        host.at_step("incoming", "os.kill(qemu(facts['to'])[0], 9)"),
    ):
        host.refused("update", NAME)


def test_missing_tap_is_made_again(host: EngineHost) -> None:
    guest = LinuxGuest(host, 5)
    subprocess.run(["ip", "link", "delete", f"{guest.tap}.b"], check=True)
    with guest.stream():
        host.one("update", "--force", NAME)
    guest.assert_whole()
    assert taps_of(guest) == {f"{guest.tap}.a", f"{guest.tap}.b"}


def test_spanning_tree_is_refused(host: EngineHost) -> None:
    guest = LinuxGuest(host, 6)
    subprocess.run(["ip", "link", "set", guest.bridge, "type", "bridge", "stp_state", "1"], check=True)
    refuses(host.refused("update", "--force", NAME), guest.bridge, "stp_state 0")
    subprocess.run(["ip", "link", "set", guest.bridge, "type", "bridge", "stp_state", "0"], check=True)
    with guest.stream():
        host.one("update", "--force", NAME)
    guest.assert_whole()


def test_larger_queues_are_refused(host: EngineHost) -> None:
    """Debian's QEMU 10.0.13 gives virtio queues 1024 entries, which QEMU 11.1 cannot load."""
    host.install("10.0.13")
    guest = LinuxGuest(host, 7)
    host.install("11.1")
    with guest.stream():
        refuses(host.refused("update", NAME), "virtio queues", "1024", "256")
    guest.assert_whole()
    assert [state.new for state in host.run_states(NAME)].count("running") == 1
    host.install("10.0.13")
    with guest.stream():
        host.one("update", "--force", NAME)
    guest.assert_whole()
