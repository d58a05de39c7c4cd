# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The QEMUs that are installed, or that defined guests name, with what they can do."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass, field
from typing import Any

from .._guest.config import Config
from .._guest.paths import guest_paths
from .._guest.qemu_abilities import QemuAbilities, abilities
from .._guest.store import guest_names, load_guest
from .left_out import LeftOut

_PLACES = ("/usr/bin/qemu-system-*", "/usr/libexec/qemu-kvm", "/usr/bin/qemu-kvm")


@dataclass
class Binary:
    """A QEMU by its path; ``also`` are other paths to the same file. ``guests`` are defined with one of them."""

    path: str
    identity: tuple[int, int] | None
    also: list[str] = field(default_factory=list)
    guests: list[str] = field(default_factory=list)
    told: QemuAbilities | None = None

    def as_dict(self) -> dict[str, Any]:
        told = self.told.as_dict() if self.told else {}
        return {
            "path": self.path,
            "also": self.also,
            "guests": self.guests,
            "present": self.identity is not None,
            **told,
        }


def binaries(config: Config | None, left_out: LeftOut, places: tuple[str, ...] = _PLACES) -> list[Binary]:
    """Those that guests are defined with, then the installed ones; each file once."""
    found: list[Binary] = []
    for path, guests in _defined(config, left_out).items():
        _add(found, path, guests)
    for place in places:
        for path in sorted(glob.glob(place), key=lambda path: (os.path.islink(path), path)):
            _add(found, path, [])
    return found


def _defined(config: Config | None, left_out: LeftOut) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    if config is not None:
        with left_out.around("qemus: those of defined guests"):
            for name in guest_names(config):
                with left_out.around(f"qemus: that of guest {name}"):
                    definition = load_guest(guest_paths(config, name)).definition
                    found.setdefault(definition.qemu, []).append(name)
    return found


def _add(found: list[Binary], path: str, guests: list[str]) -> None:
    identity = _identity(path)
    for item in found:
        if identity is not None and item.identity == identity:
            item.also.append(path)
            item.guests += guests
            return
    found.append(Binary(path, identity, guests=guests))


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def ask(found: list[Binary], left_out: LeftOut) -> None:
    """Ask those what they can do that guests are defined with, or that emulate this host's own architecture."""
    for item in found:
        if item.guests or any(_native(path) for path in (item.path, *item.also)):
            with left_out.around(f"qemus: {item.path}"):
                item.told = abilities(item.path)


def _native(path: str) -> bool:
    return os.path.basename(path).startswith((f"qemu-system-{os.uname().machine}", "qemu-kvm"))
