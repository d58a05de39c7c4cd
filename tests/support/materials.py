# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What guests of engine tests are made of: huge pages, disk images, a bridge; and their content, looked at from outside."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.engine import EngineHost
from support.host import QEMU_TREES, USER
from support.qmp import QmpSession

_HUGE_PAGES = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
_RAM_BLOCK = re.compile(r"^\s*(\S+)\s+\d+ [KMG]iB\s+0x[0-9a-f]+\s+0x([0-9a-f]+)\s+0x[0-9a-f]+\s+0x([0-9a-f]+)", re.M)


@contextlib.contextmanager
def _locked(name: str, operation: int) -> Iterator[None]:
    with open(f"/run/lock/hostmem-test-{name}", "w") as lock:
        fcntl.flock(lock, operation)
        yield


def pool_lock() -> contextlib.AbstractContextManager[None]:
    """One at a time: the number of huge pages is the machine's, and can only be read and set."""
    return _locked("hugepages", fcntl.LOCK_EX)


@contextlib.contextmanager
def whole_pool() -> Iterator[None]:
    """The pool with all its free pages, while no guest of another test uses any."""
    with _locked("hugepages-in-use", fcntl.LOCK_EX), pool_lock():
        yield


def _add_pages(count: int) -> None:
    with pool_lock():
        wanted = int(_HUGE_PAGES.read_text()) + count
        _HUGE_PAGES.write_text(str(wanted))
        if count > 0 and int(_HUGE_PAGES.read_text()) < wanted:
            raise AssertionError(f"the kernel has no {count} more huge pages")


def huge_pages(host: EngineHost, count: int) -> Path:
    """Add pages of 2 MiB to the machine's pool until the test's end, and mount a hugetlbfs of that size."""
    host.later.enter_context(_locked("hugepages-in-use", fcntl.LOCK_SH))
    _add_pages(count)
    host.later.callback(_add_pages, -count)
    directory = host.root / "huge"
    directory.mkdir()
    options = f"pagesize=2M,size={2 * count}M,mode=755"
    subprocess.run(["mount", "-t", "hugetlbfs", "-o", options, "hostmem-test", str(directory)], check=True)
    host.later.callback(subprocess.run, ["umount", "-l", str(directory)], check=True)
    return directory


def block_of(host: EngineHost, kind: str) -> dict[str, Any]:
    """A memory block of a kind; hugetlbfs gets its pages."""
    if kind == "memfd":
        return {"id": "ram0", "size": "64M", "backing": "memfd"}
    if kind == "memfd prealloc":  # by QEMU, with a thread context
        return {**block_of(host, "memfd"), "prealloc": True, "policy": "bind", "host_nodes": [0]}
    if kind in ("hugetlbfs", "hugetlbfs temp"):
        mode = "temp" if "temp" in kind else "create"
        directory = str(huge_pages(host, 40) / "g")
        return host.block("g", backing="hugetlbfs", page_size="2M", directory=directory, mode=mode)
    changes: dict[str, dict[str, Any]] = {
        "tmpfs": {},
        "tmpfs temp": {"mode": "temp"},
        "tmpfs prealloc": {"prealloc": True},
        "file": {"backing": "file", "directory": str(host.root / "ram")},
        "file temp": {"backing": "file", "directory": str(host.root / "ram"), "mode": "temp"},
    }
    return host.block("g", **changes[kind])


def small_tmpfs(host: EngineHost, directory: Path, options: str) -> None:
    """Mount a tmpfs; it is unmounted after the guest's end."""
    directory.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "hostmem-test", str(directory)], check=True)
    host.later.callback(subprocess.run, ["umount", "-l", str(directory)], check=True)


def image(host: EngineHost, name: str, form: str = "qcow2", size: str = "16M") -> Path:
    """A disk image in a directory of QEMU's user."""
    directory = host.root / "disks"
    directory.mkdir(exist_ok=True)
    path = directory / name
    tool = QEMU_TREES / "10.0" / "usr" / "bin" / "qemu-img"
    subprocess.run([tool, "create", "-q", "-f", form, path, size], check=True)
    for place in (directory, path):
        shutil.chown(place, USER, USER)
    return path


def disk(path: Path, **changes: Any) -> dict[str, Any]:
    """A disk of a definition."""
    return {"id": "d0", "path": str(path), "format": "qcow2", **changes}


def disk_io(qmp: QmpSession, device: str, command: str) -> str:
    """Read or write a disk as its guest would, through the running QEMU; qemu-io's words, e.g. ``write -P 0xaa 0 64k``."""
    backend = f"/machine/peripheral/{device}/virtio-backend"
    line = f'qemu-io -d {backend} "{command}"'
    said = str(qmp("human-monitor-command", command_line=line))
    if "rror" in said or "ailed" in said:
        raise AssertionError(f"{line}: {said}")
    return said


def top_image(qmp: QmpSession, device: str) -> str:
    """The image that a disk writes to."""
    for item in qmp("query-block"):
        if f"/{device}/" in item.get("qdev", "") or item.get("qdev", "").endswith(f"/{device}"):
            return str(item["inserted"]["image"]["filename"])
    raise AssertionError(f"no disk {device}")


def digests(host: EngineHost, name: str) -> dict[str, str]:
    """A digest of every RAMBlock but the guest's own memory: VRAM, firmware, ACPI tables."""
    pid = host.only_qemu(name)
    with host.qmp(name) as qmp:
        text = qmp("x-query-ramblock")["human-readable-text"]
    found = {}
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for block, used, address in _RAM_BLOCK.findall(text.replace("0x", " 0x")):
            if not block.startswith("ram"):
                content = os.pread(memory.fileno(), int(used, 16), int(address, 16))
                found[block] = hashlib.sha256(content).hexdigest()
    return found
