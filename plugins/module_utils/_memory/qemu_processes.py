# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every QEMU that runs on the host, and whose it is: by the kernel's word (/proc), never by configuration or records."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .._guest.generations import carriers
from .._guest.qemu_options import parse_options
from .._host.processes import Process, command_lines, process

HOSTMEM, LIBVIRT, OTHER = "hostmem", "libvirt", "other"
_PROGRAM = re.compile(r"(qemu-system-.+|qemu-kvm|kvm)")
_GENERATION = re.compile(r"unix:(.+)/([^/,]+)/gen-(\d+)/qmp\.sock,")
# virSystemdMakeScopeName() and virDomainDriverGenerateMachineName() in libvirt: machine-qemu\x2d1\x2dweb1.scope.
_SCOPE = re.compile(r"/machine-qemu(?:\\x2d|-)\d+")
# Where libvirt keeps what belongs to a running domain: /var/lib/libvirt/qemu/domain-1-web1/, also below a user's home.
_DOMAIN = re.compile(r"/libvirt/qemu/(?:[^,\"]*/)?domain-\d+-[^/]+/")


@dataclass(frozen=True)
class QemuProcess:
    """A running QEMU. ``generation`` is set for hostmem's. ``executable`` is as the kernel shows it; empty when that is not ours to see."""

    process: Process
    words: tuple[str, ...]
    executable: str
    manager: str
    name: str
    generation: int | None = None

    @property
    def pid(self) -> int:
        return self.process.pid


def qemu_processes(run: str = "") -> Iterator[QemuProcess]:
    """All of them, by PID.

    :param run: the run directory of this host's hostmem; empty when that is not known.
    """
    ours = {alive.pid: (name, number) for name, number, alive in carriers(run)} if run else {}
    for pid, words in sorted(command_lines()):
        executable = _executable(pid)
        alive = process(pid) if is_qemu(executable, words) else None
        if alive is None:
            continue
        if pid in ours:
            name, number = ours[pid]
            yield QemuProcess(alive, tuple(words), executable, HOSTMEM, name, number)
            continue
        claimed = claimed_generation(words, run) if run and not executable else None
        if claimed:  # its directories are not ours to see: what it says must do
            yield QemuProcess(alive, tuple(words), executable, HOSTMEM, *claimed)
            continue
        manager = LIBVIRT if is_libvirts(words, _cgroups(pid)) else OTHER
        yield QemuProcess(alive, tuple(words), executable, manager, guest_name(words))


def is_qemu(executable: str, words: Sequence[str]) -> bool:
    """A QEMU system emulator, by the file that runs, or where that cannot be seen by the name that it was called by."""
    path = executable.removesuffix(" (deleted)") or words[0]
    return bool(_PROGRAM.fullmatch(os.path.basename(path)))


def is_libvirts(words: Sequence[str], cgroups: str) -> bool:
    """Whether libvirt started it: it is in a scope of libvirt's, or has its name, and a directory of a domain, in its arguments."""
    if _SCOPE.search(cgroups):
        return True
    return _name_option(words).startswith("guest=") and any(_DOMAIN.search(word) for word in words)


def claimed_generation(words: Sequence[str], run: str) -> tuple[str, int] | None:
    """Guest and generation of a QMP socket below the run directory; None without one."""
    for before, word in zip(words, words[1:]):
        match = _GENERATION.match(word) if before == "-qmp" else None
        if match and match.group(1) == run:
            return match.group(2), int(match.group(3))
    return None


def guest_name(words: Sequence[str]) -> str:
    """What -name says: ``web1``, or ``guest=web1,debug-threads=on``; empty without one."""
    option = _name_option(words)
    return str(dict(parse_options(option, "guest")).get("guest", "")) if option else ""


def _name_option(words: Sequence[str]) -> str:
    return next((word for before, word in zip(words, words[1:]) if before in ("-name", "--name")), "")


def _executable(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


def _cgroups(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
