# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Other programs: run to their end, or started to outlive this one. Always a list of words, never a shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from .errors import HostmemError

Finished = subprocess.CompletedProcess[str]
Started = subprocess.Popen[bytes]
TimeoutExpired = subprocess.TimeoutExpired


def run(words: Sequence[str], timeout: float | None = None) -> Finished:
    """Run a program without input and wait for it; its status and what it wrote, whatever that is.

    :param timeout: in seconds; then the program is killed.
    :raises OSError: it cannot be run.
    :raises TimeoutExpired: it took longer.
    """
    # AnsibleModule.run_command() is for modules; this also runs without Ansible.
    return subprocess.run(  # pylint: disable=ansible-bad-function
        words,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=timeout,
        check=False,
    )


def spawn(words: Sequence[str], output: IO[bytes], inherited: Sequence[int]) -> Started:
    """Start a program in a session of its own, so that it outlives this one; what it makes only its user can open.

    :param output: takes its stdout and stderr.
    :param inherited: descriptors that it keeps, beside those three.
    :raises OSError: it cannot be run.
    """
    # AnsibleModule.run_command() waits for the end, and is for modules; this also runs without Ansible.
    return subprocess.Popen(  # pylint: disable=ansible-bad-function
        words,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        pass_fds=inherited,
        cwd="/",
        umask=0o077,
        env={key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"},  # systemd listens to this one
    )


@contextmanager
def dialogue(words: Sequence[str], timeout: float, complaints: IO[str]) -> Iterator[tuple[IO[str], IO[str]]]:
    """A program while it is talked to: its stdin and its stdout. Afterwards, and when the time is over, it is killed.

    :param timeout: in seconds; then its stdout ends.
    :param complaints: file that takes its stderr.
    :raises OSError: it cannot be run.
    """
    # AnsibleModule.run_command() cannot answer what a program says.
    with subprocess.Popen(  # pylint: disable=ansible-bad-function
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=complaints,
        encoding="utf-8",
        errors="replace",
        cwd="/",
    ) as popen:
        if popen.stdin is None or popen.stdout is None:
            raise OSError("no pipes")
        end = threading.Timer(timeout, popen.kill)
        end.start()
        try:
            yield popen.stdin, popen.stdout
        finally:
            end.cancel()
            popen.kill()


# Which package brings a program, where its name is another: Debian, RedHat, Suse, Archlinux.
_FAMILIES = ("Debian", "RedHat", "Suse", "Archlinux")
_PACKAGES: dict[str, tuple[str, str, str, str]] = {
    "mount": ("mount", "util-linux-core", "util-linux", "util-linux"),
    "umount": ("mount", "util-linux-core", "util-linux", "util-linux"),
    "systemctl": ("systemd", "systemd", "systemd", "systemd"),
    "update-grub": ("grub2-common", "grub2-tools", "grub2", "grub"),
    "grub2-mkconfig": ("grub2-common", "grub2-tools-minimal", "grub2", "grub"),
    "grub-mkconfig": ("grub-common", "grub2-tools-minimal", "grub2", "grub"),
    "grubby": ("grubby", "grubby", "grubby", "grubby"),
    "kernel-install": ("systemd", "systemd-udev", "udev", "systemd"),
    "mkfs.xfs": ("xfsprogs", "xfsprogs", "xfsprogs", "xfsprogs"),
    "xfs_io": ("xfsprogs", "xfsprogs", "xfsprogs", "xfsprogs"),
    "xfs_info": ("xfsprogs", "xfsprogs", "xfsprogs", "xfsprogs"),
    "mkfs.ext4": ("e2fsprogs", "e2fsprogs", "e2fsprogs", "e2fsprogs"),
    "tune2fs": ("e2fsprogs", "e2fsprogs", "e2fsprogs", "e2fsprogs"),
    "dumpe2fs": ("e2fsprogs", "e2fsprogs", "e2fsprogs", "e2fsprogs"),
    "blkid": ("util-linux", "util-linux-core", "util-linux", "util-linux"),
    "wipefs": ("util-linux", "util-linux-core", "util-linux", "util-linux"),
    "lsblk": ("util-linux", "util-linux-core", "util-linux", "util-linux"),
    "ndctl": ("ndctl", "ndctl", "ndctl", "ndctl"),
    "daxctl": ("daxctl", "daxctl", "ndctl", "ndctl"),
    "udevadm": ("udev", "systemd-udev", "udev", "systemd"),
    "sync": ("coreutils", "coreutils", "coreutils", "coreutils"),
    "ip": ("iproute2", "iproute", "iproute2", "iproute2"),
}
_LIKE = {
    "debian": "Debian",
    "ubuntu": "Debian",
    "rhel": "RedHat",
    "fedora": "RedHat",
    "centos": "RedHat",
    "suse": "Suse",
    "opensuse": "Suse",
    "sles": "Suse",
    "arch": "Archlinux",
}
# Programs of the administrator lie in sbin, which a service's or user's PATH may lack.
_DIRECTORIES = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin")


def find_program(program: str) -> str | None:
    """The path of a program, on PATH or where administrators' programs lie; None when it is not installed."""
    places = [*os.environ.get("PATH", "").split(os.pathsep), *_DIRECTORIES]
    return shutil.which(program, path=os.pathsep.join(place for place in places if place))


def required(program: str) -> str:
    """The path of a program.

    :raises HostmemError: it is not installed; with the package that has it on this distribution.
    """
    found = find_program(program)
    if found is not None:
        return found
    raise HostmemError(
        f"The program {program} is not installed on this host.",
        cause=f"It is in none of the directories of PATH, nor in {', '.join(_DIRECTORIES)}.",
        cure=f"Install the package {package_of(program, distribution_family())}.",
    )


def package_of(program: str, family: str) -> str:
    """The package that has a program, in words that say so where it is not known."""
    if program not in _PACKAGES:
        return f"that has {program}"
    names = dict(zip(_FAMILIES, _PACKAGES[program]))
    return names.get(family) or " or ".join(dict.fromkeys(names.values()))


def distribution_family(path: str = "/etc/os-release") -> str:
    """Family of distributions as Ansible names it (``Debian``, ``RedHat``, ``Suse``, ``Archlinux``), from os-release(5); empty when unknown."""
    try:
        with open(path, encoding="utf-8") as file:
            values = dict(line.rstrip("\n").split("=", 1) for line in file if "=" in line)
    except OSError:
        return ""
    names = f"{values.get('ID', '')} {values.get('ID_LIKE', '')}".replace('"', "").replace("'", "").split()
    for name in names:
        for known, family in _LIKE.items():
            if name == known or name.startswith(known + "-"):
                return family
    return ""
