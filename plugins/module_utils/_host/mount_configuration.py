# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What mounts others have configured: lines of /etc/fstab (fstab(5)) and mount units (systemd.mount(5)). Read only, never written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .mounts import unescape
from .own_files import HEADER
from .unit_files import SEARCHED, systemd_escape_path

FSTAB = "/etc/fstab"


@dataclass(frozen=True)
class ConfiguredMount:
    """A mount that somebody configured, with the file and line that says so (line 1 of a unit)."""

    file: str
    line: int
    source: str
    point: str
    type: str
    options: tuple[str, ...]

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


def configured_mounts(point: str, fstab: str = FSTAB, directories: Sequence[str] = SEARCHED) -> list[ConfiguredMount]:
    """Everything of others that configures a mount at this path."""
    point = normal(point)
    found = [item for item in _fstab(fstab) if item.point == point]
    name = f"{systemd_escape_path(point)}.mount"
    seen = set()
    for directory in directories:
        path = f"{directory}/{name}"
        real = os.path.realpath(path)  # /lib is often a link to /usr/lib
        if real not in seen and os.path.isfile(real):
            seen.add(real)
            found += _unit(path, point)
    return found


def normal(point: str) -> str:
    """The path without doubled or trailing slashes."""
    return "/" + "/".join(part for part in point.split("/") if part)


def _fstab(path: str) -> Iterator[ConfiguredMount]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().split("\n")
    except OSError:
        return
    for number, line in enumerate(lines, 1):
        fields = [unescape(field) for field in line.split()]
        if len(fields) >= 3 and not fields[0].startswith("#"):
            options = tuple(fields[3].split(",")) if len(fields) > 3 else ()
            yield ConfiguredMount(path, number, fields[0], normal(fields[1]), fields[2], options)


def _unit(path: str, point: str) -> list[ConfiguredMount]:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        text = file.read()
    if text.startswith(HEADER):
        return []
    values = {}
    for line in text.split("\n"):
        key, equals, value = line.partition("=")
        if equals and not line.startswith(("#", ";")):
            values[key.strip()] = value.strip()
    options = tuple(part for part in values.get("Options", "").split(",") if part)
    return [ConfiguredMount(path, 1, values.get("What", ""), point, values.get("Type", ""), options)]
