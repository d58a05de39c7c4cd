# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Words for the kernel's command line: put by the boot loader's program, looked for in what it wrote, and taken back where it left them out."""

from __future__ import annotations

import contextlib
import glob
import os
import re
from collections.abc import Sequence

from .boot_means import GRUB_DIRECTORY, KERNEL_COMMAND_LINE, RECORDS, BootMeans, our_groups, write_groups
from .errors import HostmemError
from .files import write_text
from .program_failures import program_failed
from .programs import run

_GRUB_CONFIGURATION = "/boot/grub/grub.cfg"
# Where kernel-install(8) puts entries of the Boot Loader Specification.
_ENTRIES = ("/boot/loader/entries", "/efi/loader/entries", "/boot/efi/loader/entries")


def set_groups(means: BootMeans, groups: Sequence[str]) -> None:
    """Make these our groups, for the next boot. Nobody else's words are touched.

    :raises HostmemError: the boot loader's program failed, or left our words out; its configuration, and our file, are as before.
    """
    before = our_groups(means)
    write_groups(means, groups)
    try:
        {"grub": _grub, "grubby": _grubby, "kernel-install": _kernel_install}[means.kind](means, before, groups)
    except (HostmemError, OSError):
        write_groups(means, before)
        raise


def check_words(means: BootMeans) -> None:
    """Our words can be changed: they are where our record says. Changes nothing.

    :raises HostmemError: they are not.
    """
    if means.kind == "kernel-install":
        with_words(_read(_command_line(means)), our_groups(means), [])


# --- GRUB


def _grub(means: BootMeans, before: Sequence[str], after: Sequence[str]) -> None:
    root = means.file[: -len(f"{GRUB_DIRECTORY}/{os.path.basename(means.file)}")]
    try:
        _carry_out(["update-grub"])
        _look_for(
            after,
            _read(root + _GRUB_CONFIGURATION),
            f"update-grub did not put them into {root}{_GRUB_CONFIGURATION}. The files in {root}{GRUB_DIRECTORY} are read in order, and"
            f" one after {os.path.basename(means.file)} sets GRUB_CMDLINE_LINUX anew: {', '.join(_later(means)) or 'none found'}.",
            'Let it keep what is there: GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX ...".',
        )
    except (HostmemError, OSError):
        write_groups(means, before)
        with contextlib.suppress(HostmemError, OSError):  # the first error says more
            _carry_out(["update-grub"])
        raise


def _later(means: BootMeans) -> list[str]:
    """Files read after ours that set the same variable."""
    found = []
    for path in sorted(glob.glob(f"{os.path.dirname(means.file)}/*.cfg")):
        if path > means.file:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                if "GRUB_CMDLINE_LINUX=" in file.read():
                    found.append(path)
    return found


# --- grubby


def _grubby(_means: BootMeans, before: Sequence[str], after: Sequence[str]) -> None:
    try:
        _update_entries(before, after)
        for line in _entries():
            _look_for(
                after, line, f"grubby left them out of an entry: {line}.", "Compare the entries: grubby --info=ALL."
            )
    except (HostmemError, OSError):
        with contextlib.suppress(HostmemError, OSError):  # the first error says more
            _update_entries(before=after, after=before)
        raise


def _update_entries(before: Sequence[str], after: Sequence[str]) -> None:
    words = ["grubby", "--update-kernel=ALL"]
    words += [f"--remove-args={' '.join(before)}"] if before else []
    words += [f"--args={' '.join(after)}"] if after else []
    _carry_out(words)


def _entries() -> list[str]:
    """The arguments of each kernel that grubby knows."""
    done = _carry_out(["grubby", "--info=ALL"])
    return [line.partition("=")[2].strip('"') for line in done.split("\n") if line.startswith("args=")]


def grubby_words() -> str:
    """The arguments of all kernels that grubby knows, for whoever must not come into their way.

    :raises HostmemError: grubby failed.
    """
    return "\n".join(_entries())


# --- kernel-install


def _kernel_install(means: BootMeans, before: Sequence[str], after: Sequence[str]) -> None:
    path = _command_line(means)
    old = _read(path)
    new = with_words(old, before, after)
    write_text(path, new, 0o644)
    try:
        for version, image in _kernels():
            _carry_out(["kernel-install", "add", version, image])
            for entry in _entries_of(version):
                _look_for(
                    after,
                    _read(entry),
                    f"kernel-install did not put what is in {path} into {entry}.",
                    "See which of its plugins in /etc/kernel/install.d and /usr/lib/kernel/install.d writes or masks the entries.",
                )
    except (HostmemError, OSError):
        write_text(path, old, 0o644)
        for version, image in _kernels():
            with contextlib.suppress(HostmemError, OSError):  # the first error says more
                _carry_out(["kernel-install", "add", version, image])
        raise


def _kernels() -> list[tuple[str, str]]:
    """Version and image of each kernel, where distributions put them."""
    modules = sorted(glob.glob("/lib/modules/*/vmlinuz"))
    if modules:
        return [(path.split("/")[3], path) for path in modules]
    return [(path[len("/boot/vmlinuz-") :], path) for path in sorted(glob.glob("/boot/vmlinuz-*"))]


def _entries_of(version: str) -> list[str]:
    """``TOKEN-VERSION.conf``, ``TOKEN-VERSION+TRIES.conf``; none with a unified kernel image."""
    names = re.compile(rf".*-{re.escape(version)}(\+\d+(-\d+)?)?\.conf")
    return [path for place in _ENTRIES for path in sorted(glob.glob(f"{place}/*.conf")) if names.fullmatch(path)]


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
            f"{group} is not to be found in {KERNEL_COMMAND_LINE}.",
            cause="It was put there by hostmem.qemu, as its record says, and changed since.",
            cure=f"Remove what is left of it there, and the record in {RECORDS} (the .words file), or put it back.",
        )
    start, end = found[-1].span()
    if line[:start].endswith(" "):
        return line[: start - 1] + line[end:]
    return line[:start] + (line[end + 1 :] if line[end:].startswith(" ") else line[end:])


def _command_line(means: BootMeans) -> str:
    return f"{os.path.dirname(means.file)}/cmdline"


# --- all of them


def _look_for(groups: Sequence[str], text: str, cause: str, cure: str) -> None:
    """Each group, as a whole, is in what the program wrote.

    :raises HostmemError: one is not.
    """
    missing = [group for group in groups if group not in text]
    if missing:
        raise HostmemError(f"The kernel would not get {' '.join(missing)} at the next boot.", cause=cause, cure=cure)


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _carry_out(words: Sequence[str]) -> str:
    done = run(words)
    if done.returncode:
        raise program_failed(f"{' '.join(words)} failed.", words[0], done.stderr or done.stdout)
    return done.stdout
