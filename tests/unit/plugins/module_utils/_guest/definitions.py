# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Definitions for the tests of the pure engine: a small one, changed in one place by each test."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

MINIMAL: dict[str, Any] = {
    "name": "web1",
    "machine": "pc-q35-10.0",
    "accel": "tcg",
    "memory": {"blocks": [{"size": "256M", "backing": "tmpfs"}]},
}

DISK: dict[str, Any] = {"id": "d0", "path": "/srv/web1.qcow2", "format": "qcow2"}
NIC: dict[str, Any] = {"id": "n0", "bridge": "br0", "mac": "52:54:00:12:34:56"}
CONSOLE: dict[str, Any] = {"id": "c0"}


def definition(**changes: Any) -> dict[str, Any]:
    """The minimal definition with top-level keys replaced."""
    return {**copy.deepcopy(MINIMAL), **changes}


def without(data: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """A mapping without some of its keys."""
    return {key: value for key, value in data.items() if key not in keys}


def memory(*blocks: Mapping[str, Any]) -> dict[str, Any]:
    """A definition whose memory blocks are the minimal one's, each with keys replaced."""
    return definition(memory={"blocks": [{"size": "256M", "backing": "tmpfs", **block} for block in blocks]})


def disks(*changes: Mapping[str, Any]) -> dict[str, Any]:
    """A definition with disks."""
    return definition(disks=[{**DISK, **change} for change in changes])


def nics(*changes: Mapping[str, Any]) -> dict[str, Any]:
    """A definition with network interfaces."""
    return definition(nics=[{**NIC, **change} for change in changes])


def consoles(*changes: Mapping[str, Any]) -> dict[str, Any]:
    """A definition with consoles."""
    return definition(consoles=[{**CONSOLE, **change} for change in changes])
