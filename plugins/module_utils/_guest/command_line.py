# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading a QEMU command line back into options. Pure: no I/O."""

from __future__ import annotations

from dataclasses import dataclass

# Options without an argument, from qemu-options.hx (QEMU 10.0 and 11.1).
_FLAGS = frozenset(
    (
        "S", "daemonize", "enable-kvm", "full-screen", "h", "help", "mem-prealloc", "no-reboot", "no-shutdown",
        "no-user-config", "nodefaults", "nographic", "no-fd-bootchk", "no-hpet", "no-acpi", "only-migratable", "s",
        "enable-sync-profile", "preconfig", "singlestep", "snapshot", "usb", "version", "win2k-hack", "xen-attach",
        "xen-domid-restrict",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Option:
    """One option: ``index`` is its place in the argument list, ``value`` is empty for flags."""

    index: int
    name: str
    value: str

    def __str__(self) -> str:
        return f"-{self.name} {self.value}".rstrip()


def parse_command_line(arguments: list[str]) -> list[Option]:
    """The options in their order (without the program's name).

    :raises ValueError: a bare word (QEMU would take it for a disk image) or an option that lacks its argument.
    """
    options: list[Option] = []
    index = 0
    while index < len(arguments):
        word = arguments[index]
        if not word.startswith("-") or word == "-":
            raise ValueError(f"{word!r} is not an option; QEMU would take it for a disk image")
        name = word[2:] if word.startswith("--") else word[1:]
        if name in _FLAGS:
            options.append(Option(index, name, ""))
            index += 1
            continue
        if index + 1 >= len(arguments):
            raise ValueError(f"{word} lacks its argument")
        options.append(Option(index, name, arguments[index + 1]))
        index += 2
    return options
