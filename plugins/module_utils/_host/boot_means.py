# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where words for the kernel's command line are kept, beside what others keep there.

- ``grub``: a drop-in in /etc/default/grub.d, read after /etc/default/grub, and update-grub (Debian and what comes from it).
- ``grubby``: the entries themselves by grubby(8) (RedHat); a record of ours tells what we added.
- ``kernel-install``: /etc/kernel/cmdline (kernel-install(8)), which has no drop-ins: our words, with such a record.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from .files import remove_file, write_text
from .own_files import HEADER, read_own
from .packages import boot_means_of, distribution_family, install
from .programs import find_program

GRUB_DIRECTORY = "/etc/default/grub.d"
KERNEL_COMMAND_LINE = "/etc/kernel/cmdline"
RECORDS = "/etc/kernel"
_BEFORE, _AFTER = 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX ', '"'


@dataclass(frozen=True)
class BootMeans:
    """How words reach the kernel's command line; ``file`` is ours, with a line for each group of words."""

    kind: str
    file: str

    def text(self, groups: Sequence[str]) -> str:
        """The content of the file for these groups."""
        lines = [f"{_BEFORE}{group}{_AFTER}" if self.kind == "grub" else group for group in groups]
        return "\n".join([HEADER, *lines]) + "\n"


def find_means(name: str, root: str = "") -> BootMeans | None:
    """What this host has; None without any known means.

    :param name: of our file, without a suffix.
    :param root: put before the paths of configuration files.
    """
    if find_program("update-grub") and (
        os.path.isdir(root + GRUB_DIRECTORY) or os.path.isfile(f"{root}/etc/default/grub")
    ):
        return BootMeans("grub", f"{root}{GRUB_DIRECTORY}/{name}.cfg")
    if find_program("grubby"):
        return BootMeans("grubby", f"{root}{RECORDS}/{name}.words")
    if find_program("kernel-install") and os.path.isfile(root + KERNEL_COMMAND_LINE):
        return BootMeans("kernel-install", f"{root}{RECORDS}/{name}.words")
    return None


def how_to_have_means() -> str:
    """What to do where there is none, by the family of distributions."""
    program = boot_means_of(distribution_family())
    steps = [] if find_program(program) else [install(program)]
    if program == "kernel-install":
        steps.append(f"Write the kernel's command line into {KERNEL_COMMAND_LINE}.")
    elif program == "update-grub":
        steps.append("Let GRUB have /etc/default/grub.")
    return " ".join(steps)


def our_groups(means: BootMeans) -> list[str]:
    """The groups of words that are ours.

    :raises Refused: a file of that name is not ours.
    """
    text = read_own(means.file)
    if text is None:
        return []
    lines = text.rstrip("\n").split("\n")[1:]
    if means.kind == "grub":
        return [line[len(_BEFORE) : -len(_AFTER)] for line in lines if line.startswith(_BEFORE)]
    return lines


def write_groups(means: BootMeans, groups: Sequence[str]) -> None:
    """Make our file have these groups; without any there is none."""
    if groups:
        os.makedirs(os.path.dirname(means.file), mode=0o755, exist_ok=True)
        write_text(means.file, means.text(groups), 0o644)
    else:
        remove_file(means.file)
