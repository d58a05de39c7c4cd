# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The real Linux guest on an engine test's host: a disk, a bridge with a tap, an agent, and a TCP stream to it."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

from support.engine import EngineHost, wait_until
from support.host import CACHE, USER
from support.linux_console import LinuxConsole, assert_unbroken
from support.stream import DRAIN_SECONDS, StreamClient

LINUX = CACHE / "guests" / "linux"
NAME = "linux"


class LinuxGuest(LinuxConsole):
    """A running Linux guest. ``network`` is a number of its own for the bridge and the addresses of this test."""

    def __init__(self, host: EngineHost, network: int, **changes: Any) -> None:
        super().__init__(lambda: host.console(NAME), "DNM" if changes.get("nvdimms") else "DM")
        self.host = host
        self.bridge = f"brhm{network}"
        self.address = f"10.98.{network}.2"
        self._make_bridge(f"10.98.{network}.1/24")
        self.disk = host.root / "disks" / "root.qcow2"
        self._copy_disk()
        initrd = "initrd-nvdimm" if changes.get("nvdimms") else "initrd"
        self.definition = host.heartbeat(
            NAME,
            size="192M",
            kernel={
                "image": str(LINUX / "vmlinux"),
                "initrd": str(LINUX / initrd),
                "cmdline": f"{(LINUX / 'cmdline').read_text().strip()} hm.ip={self.address}/24",
            },
            disks=[{"id": "d0", "path": str(self.disk), "format": "qcow2"}],
            nics=[{"id": "n0", "bridge": self.bridge, "mac": f"52:54:00:98:{network:02x}:02"}],
            guest_agent=True,
            vnc=True,
            video="std",
        )
        self.definition.update(changes)
        # The default is made of the guest's name, which tests that run beside each other share.
        for number, nic in enumerate(self.definition["nics"]):
            nic["tap"] = f"hmt{network}-{number}"
        host.start(self.definition)
        wait_until(lambda: "ECHO" in host.console(NAME), "the Linux guest has no echo server", 120)
        self.tap = host.definition(NAME).nics[0].tap

    def _make_bridge(self, address: str) -> None:
        for words in (["add", self.bridge, "type", "bridge", "stp_state", "0"], ["set", self.bridge, "up"]):
            subprocess.run(["ip", "link", *words], check=True)
        self.host.later.callback(subprocess.run, ["ip", "link", "delete", self.bridge], check=True)
        subprocess.run(["ip", "addr", "add", address, "dev", self.bridge], check=True)

    def _copy_disk(self) -> None:
        self.disk.parent.mkdir(exist_ok=True)
        shutil.copy(LINUX / "disk.qcow2", self.disk)
        for path in (self.disk.parent, self.disk):
            shutil.chown(path, USER, USER)

    @contextlib.contextmanager
    def stream(self, drain: float = DRAIN_SECONDS) -> Iterator[None]:
        """A TCP connection that sends all the time; afterwards every message must have been echoed, unharmed, in that connection.

        :param drain: seconds that the last echoes may take.
        """
        client = StreamClient(self.address, drain=drain).start()
        try:
            self.wait_for_more("D")
            yield
            self.wait_for_more("D")
        finally:
            result = client.stop()
        assert_unbroken(result, self.host.console(NAME))
