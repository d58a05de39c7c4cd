# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Firmware files a guest has in its ROMs: they change only when the guest is reset, whatever QEMU runs it."""

from __future__ import annotations

import os
import re
from typing import Any

from .errors import HostmemError
from .qmp import Qmp

_ROM = re.compile(r'name="([^"]+)"')


async def firmware_identity(qmp: Qmp, directories: list[str]) -> dict[str, list[int]]:
    """Size and time of change (ns) of each firmware file that QEMU loaded, by path."""
    names = await _rom_names(qmp)
    found = {}
    for name in names:
        for path in [name] if name.startswith("/") else [f"{directory}/{name}" for directory in directories]:
            try:
                state = os.stat(path)
            except OSError:
                continue
            found[path] = [state.st_size, state.st_mtime_ns]
            break
    return found


async def _rom_names(qmp: Qmp) -> list[str]:
    try:
        text = (await qmp.execute("x-query-roms"))["human-readable-text"]
    except HostmemError:
        return []
    return sorted({name for name in _ROM.findall(text) if not name.startswith("/rom@") and not name.startswith("etc/")})


def outdated_firmware(recorded: dict[str, Any]) -> list[str]:
    """Firmware files that were changed on disk since the guest loaded them."""
    changed = []
    for path, (size, mtime) in sorted(recorded.items()):
        try:
            state = os.stat(path)
        except OSError:
            continue
        if [state.st_size, state.st_mtime_ns] != [size, mtime]:
            changed.append(path)
    return changed
