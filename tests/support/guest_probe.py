# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel, systemd and QEMU say of a host's guests, without asking the collection.

This file runs alone, as root, on any Python >= 3.9, so that a test may copy it to a host:
``guest_probe.py record FILE NAME...`` writes one JSON object by name, ``guest_probe.py snapshot NAME DISK FILE`` makes a disk snapshot,
``guest_probe.py powerdown NAME`` presses the power button.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import re
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

RUN = Path("/run/hostmem")
QEMU = "/usr/bin/qemu-system-x86_64"
PROPERTIES = "ActiveState,SubState,Result,NRestarts,MainPID,InvocationID"
# The status page of the heartbeat guest: tests/guests/README.md.
STATUS_OFFSET = 0x200000
STATUS = struct.Struct("<IIQIII")
STATUS_MAGIC = 0x31424D48
# Where the firmware and the ROMs of devices are seen by the guest (the last 128 KiB below 1 MiB, and below 4 GiB), in bytes.
ROM_REGIONS = ((0xE0000, 0x20000), (0xFFFE0000, 0x20000))


class Qmp:
    """One QMP session; QEMU serves one client at a time, so close it soon."""

    def __init__(self, name: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30)
        self._socket.connect(str(RUN / name / "current" / "qmp.sock"))
        self._file = self._socket.makefile("rwb")
        self._file.readline()
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: Any) -> Any:
        """One command. Raises RuntimeError with QEMU's error."""
        self._file.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self._file.flush()
        while True:
            answer = json.loads(self._file.readline())
            if "error" in answer:
                raise RuntimeError(answer["error"]["desc"])
            if "return" in answer:
                return answer["return"]

    def __enter__(self) -> Qmp:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._socket.close()


def unit(name: str) -> dict[str, str]:
    """What systemd says of the guest's unit."""
    words = ["systemctl", "show", "--property", PROPERTIES, f"hostmem-guest@{name}.service"]
    output = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return dict(line.split("=", 1) for line in output.splitlines())


def qemu_pids(name: str) -> list[int]:
    """All QEMUs that have the guest's run directory on their command lines."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
        except OSError:
            continue
        if any(word.startswith(f"unix:{RUN}/{name}/gen-".encode()) for word in words) and b"qemu" in words[0]:
            found.append(int(entry.name))
    return sorted(found)


def program(pid: int) -> dict[str, Any]:
    """The process's program file and whether it is the installed one: the same device and inode."""
    running, installed = os.stat(f"/proc/{pid}/exe"), os.stat(QEMU)
    same = (running.st_dev, running.st_ino) == (installed.st_dev, installed.st_ino)
    return {"path": os.readlink(f"/proc/{pid}/exe"), "installed": same}


def own_memory(pid: int) -> dict[str, list[Any]]:
    """Inode and content of video memory and ROMs, each in a memfd of its own name; the guest's main memory is not among them."""
    found: dict[str, list[Any]] = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        name = re.fullmatch(r"/memfd:(.*(?:rom|bios|vram).*) \(deleted\)", os.readlink(entry))
        if name:
            with entry.open("rb") as file:
                content = hashlib.sha256(file.read()).hexdigest()
            found[name[1]] = [entry.stat().st_ino, content]
    return found


def heartbeat(pid: int) -> dict[str, int] | None:
    """The status page of a heartbeat guest, from the file its first memory block lies in; None for another guest."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        addresses, _permissions, offset, *_rest = line.split()
        if int(offset, 16) or not re.search(r"qemu_back_mem\.0\+|/memfd:memory-backend", line):
            continue
        with open(f"/proc/{pid}/map_files/{addresses}", "rb") as file:
            page = mmap.mmap(file.fileno(), STATUS_OFFSET + mmap.PAGESIZE, access=mmap.ACCESS_READ)
        magic, boots, counter, errors, ready, passes = STATUS.unpack_from(page, STATUS_OFFSET)
        if magic == STATUS_MAGIC:
            return {"boots": boots, "counter": counter, "errors": errors, "ready": ready, "passes": passes}
    return None


def roms(name: str, qmp: Qmp) -> list[str]:
    """Digests of the ROM regions as the guest sees them, written out by QEMU."""
    path = RUN / name / "probe"
    found = []
    for start, size in ROM_REGIONS:
        qmp.execute("pmemsave", val=start, size=size, filename=str(path))
        found.append(hashlib.sha256(path.read_bytes()).hexdigest())
        path.unlink()
    return found


def show(name: str) -> dict[str, Any]:
    """All of it for one guest."""
    state = unit(name)
    pids = qemu_pids(name)
    found: dict[str, Any] = {"unit": state, "qemu_pids": pids}
    if pids:
        pid = pids[-1]
        found.update(program=program(pid), memory=own_memory(pid), heartbeat=heartbeat(pid))
        with Qmp(name) as qmp:
            found["status"] = qmp.execute("query-status")["status"]
            found["version"] = qmp.execute("query-version")["package"]
            found["roms"] = roms(name, qmp)
    return found


def snapshot(name: str, disk: str, path: str) -> None:
    """Let the guest's disk go on in a new overlay, as a backup program does."""
    with Qmp(name) as qmp:
        node = {"node-name": f"disk-{disk}", "snapshot-file": path, "snapshot-node-name": "snapshot-of-the-test"}
        qmp.execute("blockdev-snapshot-sync", format="qcow2", **node)


def main() -> int:
    """Do what the command line says."""
    verb, *words = sys.argv[1:]
    if verb == "snapshot":
        snapshot(*words)
    elif verb == "powerdown":
        with Qmp(words[0]) as qmp:
            qmp.execute("system_powerdown")
    else:
        path, *names = words
        Path(path).write_text(json.dumps({name: show(name) for name in names}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
