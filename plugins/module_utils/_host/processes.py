# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes as the kernel shows them in /proc (proc(5))."""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import signal
import stat
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from .files import existing_parent

# How long a process may show no arguments in the middle of execve(2).
_EXEC_SECONDS = 1.0
_MAP_LINE = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S{4}) ([0-9a-f]+) ([0-9a-f]+):([0-9a-f]+) (\d+)\s*(.*)$")


@dataclass(frozen=True)
class Mapping:
    """One line of /proc/PID/maps; addresses and offset in bytes."""

    start: int
    end: int
    permissions: str
    offset: int
    device: tuple[int, int]
    inode: int
    path: str

    @property
    def deleted(self) -> bool:
        return self.path.endswith(" (deleted)")


@dataclass(frozen=True)
class Process:
    """A process that cannot be mistaken for a later one with the same PID: its start time (clock ticks since boot) is kept."""

    pid: int
    start_time: int

    def alive(self) -> bool:
        """False also for a zombie: it runs nothing any more."""
        stat = _stat(self.pid)
        return stat is not None and stat[1] == self.start_time and stat[0] not in "ZX"

    def kill(self, wait: float = 10.0) -> bool:
        """SIGKILL, and wait until it is gone; seconds. True when it is gone."""
        if self.alive():
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                return True
        return self.wait_gone(wait)

    def wait_gone(self, wait: float) -> bool:
        """Wait up to ``wait`` seconds for the end; reaps it when it is our child."""
        deadline = time.monotonic() + wait
        while True:
            with contextlib.suppress(ChildProcessError, ProcessLookupError):
                os.waitpid(self.pid, os.WNOHANG)
            if not self.alive():
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.002)

    def executable(self) -> tuple[int, int] | None:
        """Device and inode of the program file, also when it was replaced since."""
        try:
            found = os.stat(f"/proc/{self.pid}/exe")
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def cpu_ticks(self, thread: int) -> int | None:
        """CPU time of one thread, in clock ticks (field utime + stime)."""
        try:
            with open(f"/proc/{self.pid}/task/{thread}/stat", encoding="utf-8", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            return None
        return int(fields[11]) + int(fields[12])

    def context_switches(self, thread: int) -> int | None:
        """Voluntary and involuntary context switches of one thread."""
        try:
            with open(f"/proc/{self.pid}/task/{thread}/status", encoding="utf-8", errors="replace") as file:
                return sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)
        except OSError:
            return None


def _stat(pid: int) -> tuple[str, int] | None:
    """State letter and start time; the command name in between may hold anything.

    The first thread of a killed process can be a zombie while others still end: until then files stay open and locked.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    if len(fields) <= 19:
        return None
    state, threads = fields[0], int(fields[17])
    return ("D" if state == "Z" and threads > 1 else state), int(fields[19])


def process(pid: int) -> Process | None:
    """The process that has this PID now; None when there is none, or only a zombie."""
    stat = _stat(pid)
    return Process(pid, stat[1]) if stat and stat[0] not in "ZX" else None


def command_lines() -> Iterator[tuple[int, list[str]]]:
    """PID and argument list of every process that shows one."""
    for entry in os.listdir("/proc"):
        words = command_line(int(entry)) if entry.isdigit() else []
        if words:
            yield int(entry), words


def command_line(pid: int) -> list[str]:
    """The argument list of a process; empty when it is gone, or has none as a kernel thread.

    A process that replaces itself shows none for a moment, between exec_mmap() and create_elf_tables() (Linux fs/binfmt_elf.c); that
    is waited for, as it would look like no QEMU at all.
    """
    deadline = time.monotonic() + _EXEC_SECONDS
    while True:
        words = _command_line(pid)
        if words or not _has_program(pid) or time.monotonic() >= deadline:
            return words


def _has_program(pid: int) -> bool:
    """False for kernel threads, zombies and those that are gone."""
    try:
        return bool(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return False


def _command_line(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")[:-1]
    except OSError:
        return []
    return [word.decode("utf-8", "surrogateescape") for word in words]


def sees_same_directory(pid: int, path: str) -> bool:
    """True when the path leads the process to the same directory as us: one in a container has a tree of its own.

    Of a directory that is gone, the nearest parent that is left counts.
    """
    path = existing_parent(path)
    try:
        return os.path.samestat(os.stat(path), os.stat(f"/proc/{pid}/root{path}"))
    except OSError:
        return False


def mappings(pid: int) -> list[Mapping]:
    """The memory map of a process; empty when it is gone or not ours to read."""
    return _mappings(_maps(pid))


def mapping_flags(pid: int, address: int) -> list[str]:
    """Flags of the mapping at an address (VmFlags in /proc/PID/smaps, proc(5)): ``sf`` is MAP_SYNC, ``ht`` huge pages; empty if none.

    smaps is long: the kernel walks all page tables for it.
    """
    inside = False
    with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            match = _MAP_LINE.match(line)
            if match:
                inside = int(match.group(1), 16) <= address < int(match.group(2), 16)
            elif inside and line.startswith("VmFlags:"):
                return line.split()[1:]
    return []


def _maps(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def _mappings(text: str, containing: str = "") -> list[Mapping]:
    """The lines that contain a text; there are thousands on a host, so that few should be taken apart."""
    result = []
    for line in text.split("\n") if containing in text else []:
        match = _MAP_LINE.match(line) if containing in line else None
        if match:
            start, end, permissions, offset, major, minor, inode, path = match.groups()
            device = (int(major, 16), int(minor, 16))
            result.append(Mapping(int(start, 16), int(end, 16), permissions, int(offset, 16), device, int(inode), path))
    return result


def _all_mappings(containing: str) -> Iterator[tuple[int, Mapping]]:
    """The lines that contain a text, of all processes that we may look at."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            for item in _mappings(_maps(int(entry)), containing):
                yield int(entry), item


def processes_mapping(device: int, inode: int) -> list[int]:
    """PIDs of all processes (that we may look at) which map the file; ``device`` as in st_dev."""
    return sorted({pid for pid, _item in _file_mappings(device, inode)})


def _file_mappings(device: int, inode: int) -> Iterator[tuple[int, Mapping]]:
    wanted = (os.major(device), os.minor(device))
    for pid, item in _all_mappings(f" {inode}"):
        if (item.device, item.inode) == (wanted, inode):
            yield pid, item


def processes_mapping_file(path: str) -> list[int]:
    """PIDs of all processes (that we may look at) which map the file of this path."""
    return processes_mapping(*_as_in_maps(path))


def processes_writing_file(path: str) -> list[int]:
    """Of these processes, those that can change the file through their mapping."""
    found = _file_mappings(*_as_in_maps(path))
    return sorted({pid for pid, item in found if item.permissions[1] == "w" and item.permissions.endswith("s")})


def _as_in_maps(path: str) -> tuple[int, int]:
    """Device and inode of a plain file as /proc/PID/maps shows them."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        return _device_in_maps(descriptor, found), found.st_ino
    finally:
        os.close(descriptor)


def processes_mapping_part(path: str, offset: int, size: int) -> list[int]:
    """PIDs of all processes (that we may look at) which map some of these bytes of a character device.

    By whatever node: a process in a container has nodes of its own.
    """
    wanted = os.stat(path).st_rdev
    found = set()
    for pid, item in _all_mappings("dax"):
        if item.offset < offset + size and offset < item.offset + item.end - item.start:
            with contextlib.suppress(OSError):
                state = os.stat(f"/proc/{pid}/map_files/{item.start:x}-{item.end:x}")
                if stat.S_ISCHR(state.st_mode) and state.st_rdev == wanted:
                    found.add(pid)
    return sorted(found)


def _device_in_maps(descriptor: int, found: os.stat_result) -> int:
    """The device that /proc/PID/maps shows for a file, seen by mapping it: another than st_dev on btrfs and overlayfs."""

    def shown() -> Counter[tuple[int, int]]:
        return Counter(item.device for item in mappings(os.getpid()) if item.inode == found.st_ino)

    # hugetlbfs shows its page size here. It shows st_dev, and a small mapping of it could not be taken back.
    if os.fstatvfs(descriptor).f_bsize > mmap.PAGESIZE:
        return found.st_dev
    before = shown()
    try:
        with mmap.mmap(descriptor, min(found.st_size, mmap.PAGESIZE), flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ):
            new = shown() - before
    except (OSError, ValueError):
        return found.st_dev  # an empty file
    return os.makedev(*next(iter(new))) if new else found.st_dev


def processes_mapping_files_of(device: int) -> list[tuple[int, str]]:
    """PID and path of every file on a device (st_dev) that a process (that we may look at) maps; each pair once."""
    wanted = (os.major(device), os.minor(device))
    text = f" {wanted[0]:02x}:{wanted[1]:02x} "
    return sorted({(pid, item.path) for pid, item in _all_mappings(text) if item.device == wanted})


def mapped_files(device: int, prefix: str) -> list[os.stat_result]:
    """The files on a device that processes map and whose names begin with ``prefix``; unlinked ones too; each once."""
    wanted = (os.major(device), os.minor(device))
    found: dict[int, os.stat_result] = {}
    for pid, item in _all_mappings(prefix):
        if item.device == wanted and item.inode not in found and os.path.basename(item.path).startswith(prefix):
            with contextlib.suppress(OSError):
                found[item.inode] = os.stat(f"/proc/{pid}/map_files/{item.start:x}-{item.end:x}")
    return list(found.values())


def open_files(pid: int) -> set[tuple[int, int]]:
    """Device (st_dev) and inode of everything the process has open; empty when it is gone or not ours to read."""
    found = set()
    with contextlib.suppress(OSError):
        for entry in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                state = os.stat(f"/proc/{pid}/fd/{entry}")
                found.add((state.st_dev, state.st_ino))
    return found


def processes_with_open(device: int, inode: int) -> list[int]:
    """PIDs of all processes (that we may look at) which have the file open; ``device`` as in st_dev."""
    pids = (int(entry) for entry in os.listdir("/proc") if entry.isdigit())
    return sorted(pid for pid in pids if (device, inode) in open_files(pid))


def open_file_descriptor(pid: int, device: int, inode: int) -> int | None:
    """The number of a descriptor of the process that refers to the file; ``device`` as in st_dev."""
    try:
        entries = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return None
    for entry in entries:
        try:
            found = os.stat(f"/proc/{pid}/fd/{entry}")
        except OSError:
            continue
        if (found.st_dev, found.st_ino) == (device, inode):
            return int(entry)
    return None
