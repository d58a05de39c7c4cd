# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a program that failed is told of: what it was to do, what it said, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence

from .cures import UNKNOWN, cure_in
from .errors import HostmemError

# Where what a program said names no error that has a cure of its own.
_CURES = {
    "grubby": "Run it by hand and mend what it complains of, then try again: boot parameters are as before.",
    "kernel-install": "Run it by hand and mend what it complains of, then try again: boot parameters are as before.",
    "mkfs.ext4": "Check the device (dmesg, wipefs), or set fstype to xfs.",
    "mkfs.xfs": "Check the device (dmesg, wipefs; it takes 300 MiB at least), or set fstype to ext4.",
    "mount": "Correct the options; the kernel's log (dmesg) tells which of them it does not take.",
    "ndctl": "See what there is (ndctl list -RNDi) and the kernel's log (dmesg).",
    "systemctl": "See what systemd says of it: systemctl status, journalctl -b.",
    "umount": "See who uses it: fuser -vm, lsof.",
    "update-grub": "Run it by hand and mend what it complains of, then try again: boot parameters are as before.",
    "wipefs": "Check that the device is there and readable (lsblk, dmesg).",
}


def program_failed(problem: str, program: str, said: str, logged: Sequence[str] = ()) -> HostmemError:
    """The error of a program that ended with another status than 0.

    :param problem: what was not done, and where.
    :param said: its stderr.
    :param logged: lines of the kernel's log from that time.
    """
    cause = "; ".join(" ".join(line.split()) for line in said.split("\n") if line.strip())[-1000:]
    cause = cause or f"{program} does not say why."
    if logged:
        cause += f" The kernel's log: {'; '.join(logged[-4:])}"
    cure = cure_in(cause)
    return HostmemError(problem, cause=cause, cure=_CURES.get(program, UNKNOWN) if cure == UNKNOWN else cure)
