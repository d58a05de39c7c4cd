# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which boot of the host this is."""

from __future__ import annotations


def boot_id(path: str = "/proc/sys/kernel/random/boot_id") -> str:
    """A UUID that every boot of the kernel makes anew, kexec included (random(4))."""
    with open(path, encoding="ascii") as file:
        return file.read().strip()
