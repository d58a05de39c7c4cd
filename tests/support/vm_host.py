# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A test host that is a virtual machine: its QEMU, its files, and ways to reach it.

The QEMU is emulation only (TCG), with the same CPU everywhere, so that a state saved on one machine is good on another.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from support.qmp import QmpSession

CACHE = Path(os.environ.get("HOSTMEM_CACHE", "/var/cache/hostmem-tests"))
VMS = CACHE / "vms"
KEY = VMS / "id_ed25519"
QEMU = CACHE / "qemu" / "11.1" / "usr" / "bin"

# A CPU without AVX is emulated faster than QEMU's newest: a third of the time to boot. pdpe1gb is what 1 GiB pages need.
# Each NUMA node has one CPU and its own memory; the NVDIMM, with room for labels, is on node 1. The identity (vmgenid) tells
# the kernel of a restored host that its random numbers have been seen before. Of node 0, 2 GiB lie below 4 GiB, with a hole in them, and
# the kernel itself lies at either end of the rest: a page of 1 GiB needs the middle.
NODE_MEMORY = ("5G", "3G")
NVDIMM_SIZE = "1026M"
MACHINE = [
    *("-display", "none", "-nodefaults", "-no-user-config"),
    *("-machine", "q35,nvdimm=on,hpet=off", "-accel", "tcg,thread=multi,tb-size=512"),
    *("-cpu", "Nehalem,pdpe1gb=on", "-smp", "2", "-m", "8G,slots=2,maxmem=10G"),
    *("-object", f"memory-backend-ram,id=node0,size={NODE_MEMORY[0]}", "-numa", "node,nodeid=0,cpus=0,memdev=node0"),
    *("-object", f"memory-backend-ram,id=node1,size={NODE_MEMORY[1]}", "-numa", "node,nodeid=1,cpus=1,memdev=node1"),
    *("-device", "vmgenid,guid=auto"),
    *("-object", "rng-random,id=random,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=random"),
]
SSH_OPTIONS = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "no",
    "UserKnownHostsFile": "/dev/null",
    "LogLevel": "ERROR",
    "IdentitiesOnly": "yes",
    "ServerAliveInterval": "5",
}


class VmHost:
    """One VM host by its name, which ends in a number: that of its address on the private network."""

    def __init__(self, name: str) -> None:
        match = re.fullmatch(r"[a-z]+([1-9][0-9]?)", name)
        if not match:
            raise ValueError(f"{name}: the name of a VM host is letters and a number from 1 to 99, such as hv4")
        self.name = name
        self.number = int(match[1])
        self.directory = VMS / "run" / name
        self.disk = self.directory / "disk.qcow2"
        self.nvdimm = self.directory / "nvdimm"
        self.console = self.directory / "console.log"
        self._qmp = self.directory / "qmp"
        self._pid = self.directory / "pid"
        self._port = self.directory / "port"
        self._ssh = self.directory / "ssh"

    # --- QEMU

    @property
    def pid(self) -> int | None:
        """The process of its QEMU, while that runs."""
        with contextlib.suppress(OSError, ValueError):
            pid = int(self._pid.read_text())
            if str(self._pid).encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                return pid
        return None

    @property
    def port(self) -> int:
        """The port of 127.0.0.1 that leads to its SSH server."""
        return int(self._port.read_text())

    def qmp(self) -> QmpSession:
        """A session with its QEMU, which serves one client at a time: close it."""
        return QmpSession(self._qmp)

    def make_directory(self, backing: Path) -> None:
        """A new disk on top of this one, and an empty NVDIMM."""
        if self.pid:
            raise RuntimeError(f"{self.name} runs")
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        create = ["create", "-q", "-f", "qcow2", "-b", str(backing), "-F", "qcow2", str(self.disk)]
        subprocess.run([QEMU / "qemu-img", *create], check=True)

    def launch(self, peer: str | None = None, *, incoming: bool = False) -> None:
        """Start its QEMU, with a link to the VM host named peer. With incoming, QEMU waits for a saved state."""
        self._port.write_text(str(_free_port()))
        words = [*MACHINE, *self._devices(peer), *(["-incoming", "defer"] if incoming else [])]
        log = self.directory / "qemu.log"
        with log.open("ab") as output:
            program = str(QEMU / "qemu-system-x86_64")
            done = subprocess.run([program, *words, "-daemonize"], stdout=output, stderr=output, check=False)
        if done.returncode:
            raise RuntimeError(f"QEMU of {self.name} does not start: {log.read_text()}")

    def _devices(self, peer: str | None) -> list[str]:
        link = VMS / "run" / (peer or f"{self.name}-alone") / "link"
        return [
            *("-name", self.name, "-pidfile", str(self._pid), "-qmp", f"unix:{self._qmp},server=on,wait=off"),
            # A power cut ends the guest's kernel and not QEMU: what the guest has written is safe without a flush.
            *("-drive", f"if=none,id=root,file={self.disk},format=qcow2,cache=unsafe"),
            *("-device", "virtio-blk-pci,drive=root,bootindex=0"),
            *("-object", f"memory-backend-file,id=nvdimm0,share=on,mem-path={self.nvdimm},size={NVDIMM_SIZE}"),
            *("-device", "nvdimm,id=dimm0,memdev=nvdimm0,label-size=2M,node=1"),
            *("-netdev", f"user,id=outside,hostfwd=tcp:127.0.0.1:{self.port}-:22"),
            *("-device", f"virtio-net-pci,netdev=outside,mac=52:54:00:4d:00:{self.number:02x},romfile="),
            *(
                "-netdev",
                f"dgram,id=link,local.type=unix,local.path={self.directory}/link,remote.type=unix,remote.path={link}",
            ),
            *("-device", f"virtio-net-pci,netdev=link,mac=52:54:00:4d:01:{self.number:02x},romfile="),
            *("-chardev", f"file,id=console,path={self.console},append=on", "-serial", "chardev:console"),
        ]

    def stop(self) -> None:
        """End its QEMU; nothing of the host is kept."""
        self._close_ssh()
        pid = self.pid
        if pid:
            os.kill(pid, signal.SIGKILL)
            while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
                time.sleep(0.05)
        shutil.rmtree(self.directory, ignore_errors=True)

    def power_cut(self) -> None:
        """Reset the machine: its kernel gets no chance to write anything more."""
        with self.qmp() as qmp:
            qmp("system_reset")
        self._close_ssh()

    # --- the host in it

    def ssh_words(self) -> list[str]:
        """What comes before a command for the host. Calls share one connection."""
        options = {**SSH_OPTIONS, "ControlMaster": "auto", "ControlPath": str(self._ssh), "ControlPersist": "300"}
        return ["ssh", "-F", "none", *self._options(options), "-p", str(self.port), "root@127.0.0.1"]

    def _options(self, options: dict[str, str]) -> list[str]:
        words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        return [*words, "-i", str(KEY)]

    def run(self, command: str, *, check: bool = True) -> str:
        """Run a shell command on the host; its output."""
        words = [*self.ssh_words(), command]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=check)
        return done.stdout.strip()

    def push(self, sources: Sequence[str], target: str) -> None:
        """Copy files and directories into a directory on the host, which is made if it is missing."""
        words = [word for path in map(Path, sources) for word in ("-C", str(path.resolve().parent), path.name)]
        unpack = f"mkdir -p {target} && tar -xf - --no-same-owner -C {target}"
        with subprocess.Popen(["tar", "-cf", "-", *words], stdout=subprocess.PIPE) as tar:
            subprocess.run([*self.ssh_words(), unpack], stdin=tar.stdout, check=True)
        if tar.returncode:
            raise RuntimeError(f"tar ended with {tar.returncode}")

    def answers(self) -> bool:
        """Whether its SSH server lets us in, over a new connection."""
        options = {**SSH_OPTIONS, "ControlPath": "none", "ConnectTimeout": "5"}
        words = ["ssh", "-F", "none", *self._options(options), "-p", str(self.port), "root@127.0.0.1", "true"]
        with contextlib.suppress(subprocess.TimeoutExpired):
            quiet = subprocess.DEVNULL
            return not subprocess.run(words, timeout=20, stdin=quiet, stderr=quiet, check=False).returncode
        return False

    def wait(self, seconds: float = 300, *, not_boot: str = "") -> str:
        """Wait until a boot other than not_boot has ended; what systemd then says of the system: running or degraded.

        :raises TimeoutError: the end of the console's log
        """
        deadline = time.monotonic() + seconds
        self._close_ssh()
        while time.monotonic() < deadline:
            if not self.pid:
                break
            if self.answers() and self.boot_id() != not_boot:
                return self.run("systemctl is-system-running --wait; udevadm settle", check=False)
            self._close_ssh()
            time.sleep(0.2)
        raise TimeoutError(f"{self.name} is not up after {seconds} s: {self.console.read_bytes()[-2000:].decode()}")

    def boot_id(self) -> str:
        return self.run("cat /proc/sys/kernel/random/boot_id", check=False)

    def _close_ssh(self) -> None:
        """End the shared connection: the host at its other end may be gone without a word."""
        if self._ssh.exists():
            words = ["ssh", "-F", "none", "-o", f"ControlPath={self._ssh}", "-O", "exit", "root@127.0.0.1"]
            subprocess.run(words, stderr=subprocess.DEVNULL, check=False)
            self._ssh.unlink(missing_ok=True)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port
