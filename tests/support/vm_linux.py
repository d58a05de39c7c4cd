# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The real Linux guest on a virtual machine: emulated twice, it takes one or two minutes to boot."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator
from typing import Any

from support import stream
from support.engine import wait_until
from support.linux import LINUX, NAME
from support.linux_console import LinuxConsole, assert_unbroken
from support.vm_runtime import VmRuntime

PLACE = "/srv/linux"
BRIDGE = "brlinux"
ADDRESS = "10.97.0.2"
FILES = ("vmlinux", "initrd", "disk.qcow2")
PREPARE = f"""set -e
ip link add {BRIDGE} type bridge stp_state 0
ip link set {BRIDGE} up
ip addr add 10.97.0.1/24 dev {BRIDGE}
chown hostmem: {PLACE} {PLACE}/disk.qcow2
"""
STREAM = "systemd-run --quiet --collect --unit stream python3 {place}/stream.py {address} --connect 120 --interval 100 --output {place}/result"
PAUSE = "30"  # seconds a live update may take from the guest there


class VmLinuxGuest(LinuxConsole):
    """A running Linux guest with a disk and a tap."""

    def __init__(self, vm: VmRuntime, block: dict[str, Any]) -> None:
        super().__init__(self._console, "DM", 600)
        self._vm = vm
        vm.host.push([*(str(LINUX / name) for name in FILES), stream.__file__], PLACE)
        vm.host.run(PREPARE)
        vm.define(
            NAME,
            {"size": "192M", **block},
            kernel={
                "image": f"{PLACE}/vmlinux",
                "initrd": f"{PLACE}/initrd",
                "cmdline": f"{(LINUX / 'cmdline').read_text().strip()} hm.ip={ADDRESS}/24",
            },
            disks=[{"id": "d0", "path": f"{PLACE}/disk.qcow2", "format": "qcow2"}],
            nics=[{"id": "n0", "bridge": BRIDGE, "mac": "52:54:00:97:00:02"}],
        )

    def boot(self) -> None:
        """Start it, and wait until it works."""
        before = len(self.lines("ECHO"))
        self._vm.one("start", NAME)
        wait_until(lambda: len(self.lines("ECHO")) > before, "the Linux guest has no echo server", 1200)

    def _console(self) -> str:
        time.sleep(1)  # each look takes CPU that the guest's own needs
        return self._vm.host.run(f"cat /var/log/hostmem/{NAME}/console-c0.log", check=False)

    def mapped(self, path: str) -> tuple[int, list[str]]:
        """Inode and VmFlags of the one mapping of a file in the guest's QEMU, by the kernel's word."""
        text = self._vm.host.run(f"cat /proc/$(cat /run/hostmem/{NAME}/pid)/smaps")
        blocks = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", text, flags=re.M)
        (block,) = [item for item in blocks if item.split("\n")[0].endswith(f" {path}")]
        flags = next(line for line in block.splitlines() if line.startswith("VmFlags"))
        return int(block.split()[4]), flags.split()[1:]

    def update(self) -> dict[str, Any]:
        """A live update to the same QEMU."""
        return self._vm.one("update", "--force", "--max-pause", PAUSE, NAME)

    @contextlib.contextmanager
    def stream(self) -> Iterator[None]:
        """A TCP connection that sends all the time; afterwards every message must have been echoed, unharmed, in that connection."""
        run = self._vm.host.run
        run(f"rm -f {PLACE}/result; {STREAM.format(place=PLACE, address=ADDRESS)}")
        try:
            wait_until(lambda: run(f"ss -Htn state established dst {ADDRESS}"), "the stream does not connect", 120)
            self.wait_for_more("D")
            yield
            self.wait_for_more("D")
        finally:
            run("systemctl stop stream", check=False)
        assert_unbroken(json.loads(run(f"cat {PLACE}/result")))
