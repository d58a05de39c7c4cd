# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Boot loaders' configuration that modules may change: directories of a test in the places of /boot, /etc/kernel and /etc/default.

kernel-install is systemd's own. Debian has no grubby, and update-grub needs GRUB's idea of the disk that / lies on: in their place are programs
with the part of their interfaces that the modules use (grubby(8) of Fedora; update-grub(8), /usr/sbin/grub-mkconfig, /etc/grub.d/10_linux).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.modules import run_module, without

VERSIONS = ("6.1.0-1-test", "6.2.0-1-test")

# Entries are files, each with the arguments of a kernel. An argument replaces those of the same name, and is put at the end.
GRUBBY = """#!/usr/bin/env python3
import pathlib, sys
options = dict(word[2:].split("=", 1) for word in sys.argv[1:])
name = lambda word: word.split("=")[0]
for entry in sorted(pathlib.Path("/boot/loader/entries").glob("*.conf")):
    words = entry.read_text().split()
    if "info" in options:
        print(f'index=0\\nkernel="/boot/{entry.stem}"\\nargs="{" ".join(words)}"')
    elif not entry.with_suffix(".locked").exists():
        words = [word for word in words if word not in options.get("remove-args", "").split()]
        new = options.get("args", "").split()
        words = [word for word in words if name(word) not in map(name, new)] + new
        entry.write_text(" ".join(words) + "\\n")
"""

UPDATE_GRUB = """#!/bin/sh
set -e
. /etc/default/grub
for file in /etc/default/grub.d/*.cfg; do
    [ -e "$file" ] && . "$file"
done
mkdir -p /boot/grub
for kernel in /boot/vmlinuz-*; do
    echo "linux $kernel root=/dev/vda ro $GRUB_CMDLINE_LINUX $GRUB_CMDLINE_LINUX_DEFAULT"
done >/boot/grub/grub.cfg
"""


class BootLoader:
    """What a module finds of boot loaders, and the directories that it does so in, which lie under ``root``."""

    def __init__(self, root: Path) -> None:
        self.boot, self.kernel, self.default, self.programs = (
            root / name for name in ("boot", "kernel", "default", "bin")
        )
        self.entries = self.boot / "loader/entries"
        for path in (self.entries, self.kernel / "install.d", self.default / "grub.d", self.programs):
            path.mkdir(parents=True)
        for version in VERSIONS:
            (self.boot / f"vmlinuz-{version}").write_text("a kernel")

    def install(self, name: str, text: str) -> None:
        """A program that is found before any other of its name."""
        (self.programs / name).write_text(text)
        (self.programs / name).chmod(0o755)

    def before(self) -> list[str]:
        """What runs a program there, with no other boot loader's programs than those that were installed, and kernel-install."""
        places = ((self.boot, "/boot"), (self.kernel, "/etc/kernel"), (self.default, "/etc/default"))
        binds = " && ".join(f"mount --bind '{source}' {target}" for source, target in places)
        path = f"PATH={self.programs}:{os.environ['PATH']}"
        return [*without("update-grub", "grubby"), "sh", "-c", f'{binds} && exec "$@"', "sh", "env", path]

    def hugepages(self, check: bool = False, also: Sequence[str] = (), **arguments: Any) -> dict[str, Any]:
        """The module's result there."""
        return run_module("hugepages", check, before=[*self.before(), *also], **arguments)

    def files(self) -> dict[str, bytes]:
        """All that the module or a boot loader's program may change."""
        places = (self.boot, self.kernel, self.default)
        return {str(path): path.read_bytes() for place in places for path in sorted(place.rglob("*")) if path.is_file()}
