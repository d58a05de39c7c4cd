# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Saved guests of engine tests, looked at from outside."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from support.engine import EngineHost, wait_until
from support.sound import assert_alive


def checkpoint(host: EngineHost, name: str) -> Path:
    """Where a saved guest's state lies."""
    return Path(host.settings["state"]) / name / "checkpoint"


def save(host: EngineHost, name: str, *options: str) -> dict[str, Any]:
    """Save a guest; nothing of its QEMU may be left."""
    result = host.one("save", *options, name)
    assert host.qemu_pids(name) == []
    assert (checkpoint(host, name) / "manifest").is_file()
    return result


def went_on(host: EngineHost, name: str, counter: int) -> Any:
    """The status page of a restored guest, which must have gone on from where it was, in its first boot."""
    page = host.page(name)
    wait_until(lambda: page.counter > counter, "the guest does not go on from where it was")
    assert_alive(page)
    return page


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def put_back(copy: Path, place: Path) -> None:
    """As somebody would who restores a backup of the state."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(copy, place)
    owner = place.parent.stat()
    for path in [place, *place.iterdir()]:
        os.chown(path, owner.st_uid, owner.st_gid)


def copy_of(host: EngineHost, name: str) -> Path:
    """A backup of a saved guest's state."""
    place = host.root / f"copy-{len(list(host.root.glob('copy-*')))}"
    shutil.copytree(checkpoint(host, name), place)
    return place
