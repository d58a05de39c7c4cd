# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Words for the kernel's command line, kept by whatever writes the boot loader's configuration, in places of our own.

- ``grub``: a drop-in in /etc/default/grub.d, read after /etc/default/grub, and update-grub (Debian and what comes from it).
- ``grubby``: the entries themselves by grubby(8) (RedHat); a record of ours tells what we added.
- ``kernel-install``: /etc/kernel/cmdline (kernel-install(8)), which has no drop-ins: our words, with such a record.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import HostmemError
from .files import remove_file, write_text
from .own_files import HEADER, read_own
from .packages import boot_means_of, distribution_family, install
from .program_failures import program_failed
from .programs import find_program, run

_GRUB_DIRECTORY = "/etc/default/grub.d"
_GRUB_CONFIGURATION = "/boot/grub/grub.cfg"
_KERNEL_COMMAND_LINE = "/etc/kernel/cmdline"
_RECORDS = "/etc/kernel"
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
        os.path.isdir(root + _GRUB_DIRECTORY) or os.path.isfile(f"{root}/etc/default/grub")
    ):
        return BootMeans("grub", f"{root}{_GRUB_DIRECTORY}/{name}.cfg")
    if find_program("grubby"):
        return BootMeans("grubby", f"{root}{_RECORDS}/{name}.words")
    if find_program("kernel-install") and os.path.isfile(root + _KERNEL_COMMAND_LINE):
        return BootMeans("kernel-install", f"{root}{_RECORDS}/{name}.words")
    return None


def how_to_have_means() -> str:
    """What to do where there is none, by the family of distributions."""
    program = boot_means_of(distribution_family())
    steps = [] if find_program(program) else [install(program)]
    if program == "kernel-install":
        steps.append(f"Write the kernel's command line into {_KERNEL_COMMAND_LINE}.")
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


def set_groups(means: BootMeans, groups: Sequence[str]) -> None:
    """Make these our groups, for the next boot. Nobody else's words are touched.

    :raises HostmemError: the boot loader's program failed, or left our words out; our file is as before.
    """
    before = our_groups(means)
    _write(means, groups)
    try:
        {"grub": _grub, "grubby": _grubby, "kernel-install": _kernel_install}[means.kind](means, before, groups)
    except (HostmemError, OSError):
        _write(means, before)
        raise


def _write(means: BootMeans, groups: Sequence[str]) -> None:
    if groups:
        os.makedirs(os.path.dirname(means.file), mode=0o755, exist_ok=True)
        write_text(means.file, means.text(groups), 0o644)
    else:
        remove_file(means.file)


def _grub(means: BootMeans, _before: Sequence[str], after: Sequence[str]) -> None:
    _carry_out(["update-grub"])
    root = means.file[: -len(f"{_GRUB_DIRECTORY}/{os.path.basename(means.file)}")]
    with open(root + _GRUB_CONFIGURATION, encoding="utf-8", errors="surrogateescape") as file:
        entries = file.read()
    missing = [group for group in after if group not in entries]
    if missing:
        raise HostmemError(
            f"The kernel would not get {' '.join(missing)} at the next boot.",
            cause=f"update-grub did not put them into {root}{_GRUB_CONFIGURATION}. The files in {root}{_GRUB_DIRECTORY} are read in order, and"
            f" one after {os.path.basename(means.file)} sets GRUB_CMDLINE_LINUX anew: {', '.join(_later(means)) or 'none found'}.",
            cure='Let it keep what is there: GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX ...".',
        )


def _later(means: BootMeans) -> list[str]:
    """Files read after ours that set the same variable."""
    found = []
    for path in sorted(glob.glob(f"{os.path.dirname(means.file)}/*.cfg")):
        if path > means.file:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                if "GRUB_CMDLINE_LINUX=" in file.read():
                    found.append(path)
    return found


def _grubby(_means: BootMeans, before: Sequence[str], after: Sequence[str]) -> None:
    words = ["grubby", "--update-kernel=ALL"]
    words += [f"--remove-args={' '.join(before)}"] if before else []
    words += [f"--args={' '.join(after)}"] if after else []
    _carry_out(words)


def grubby_words() -> str:
    """The arguments of all kernels that grubby knows, for whoever must not come into their way."""
    done = _carry_out(["grubby", "--info=ALL"])
    return "\n".join(line.partition("=")[2].strip('"') for line in done.split("\n") if line.startswith("args="))


def _kernel_install(means: BootMeans, before: Sequence[str], after: Sequence[str]) -> None:
    path = f"{os.path.dirname(means.file)}/cmdline"
    old = _read_command_line(means)
    new = with_words(old, before, after)
    write_text(path, new, 0o644)
    try:
        for image in sorted(glob.glob("/lib/modules/*/vmlinuz") or glob.glob("/boot/vmlinuz-*")):
            version = image.split("/")[3] if image.startswith("/lib/") else image[len("/boot/vmlinuz-") :]
            _carry_out(["kernel-install", "add", version, image])
    except HostmemError:
        write_text(path, old, 0o644)
        raise


def with_words(text: str, before: Sequence[str], after: Sequence[str]) -> str:
    """A command line with our groups at its end instead of those before, wherever these are; every other byte stays.

    >>> with_words("quiet a=1 b=2\\n", ["b=2"], ["b=3"])
    'quiet a=1 b=3\\n'

    :raises HostmemError: a group of before is not there as a whole.
    """
    line = text.rstrip("\n")
    newlines = text[len(line) :]
    for group in reversed(before):
        line = _without(line, group)
    return " ".join([line, *after]) + newlines


def _without(line: str, group: str) -> str:
    """Without the last of these words in a row, and the blank before them (or after them, at the start)."""
    found = list(re.finditer(rf"(?<!\S){re.escape(group)}(?!\S)", line))
    if not found:
        raise HostmemError(
            f"{group} is not to be found in {_KERNEL_COMMAND_LINE}.",
            cause="It was put there by hostmem.qemu, as its record says, and changed since.",
            cure=f"Remove what is left of it there, and the record in {_RECORDS} (the .words file), or put it back.",
        )
    start, end = found[-1].span()
    if line[:start].endswith(" "):
        return line[: start - 1] + line[end:]
    return line[:start] + (line[end + 1 :] if line[end:].startswith(" ") else line[end:])


def check_words(means: BootMeans) -> None:
    """Our words can be changed: they are where our record says. Changes nothing.

    :raises HostmemError: they are not.
    """
    if means.kind == "kernel-install":
        with_words(_read_command_line(means), our_groups(means), [])


def _read_command_line(means: BootMeans) -> str:
    with open(f"{os.path.dirname(means.file)}/cmdline", encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _carry_out(words: Sequence[str]) -> str:
    done = run(words)
    if done.returncode:
        raise program_failed(f"{' '.join(words)} failed.", words[0], done.stderr or done.stdout)
    return done.stdout
