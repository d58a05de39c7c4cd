# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A disk that answers nothing for as long as a test wants: its image lies on another disk, whose file system fsfreeze(8) holds.

Who waits for it cannot even be killed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from support.engine import EngineHost, wait_until
from support.host import USER


class StuckDevice:
    """``place``: a directory of QEMU's user on that disk."""

    def __init__(self, below: Path, place: Path) -> None:
        self._below = below
        self.place = place

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Nothing that is written meanwhile gets to the disk."""
        os.sync()
        subprocess.run(["fsfreeze", "-f", self._below], check=True)
        try:
            yield
        finally:
            subprocess.run(["fsfreeze", "-u", self._below], check=True)

    def dirty(self, file: Path, offset: int) -> None:
        """Write to a file there."""
        with open(file, "r+b") as memory:
            memory.seek(offset)
            memory.write(b"not on the device yet")


def stuck_device(host: EngineHost) -> StuckDevice:
    """As long as the host's test."""
    below, place = host.root / "below", host.root / "slow"
    image = host.root / "below.img"
    for mounted, size in ((below, "128M"), (place, "64M")):
        subprocess.run(["truncate", "-s", size, image], check=True)
        subprocess.run(["mkfs.ext4", "-q", image], check=True)
        mounted.mkdir()
        subprocess.run(["mount", "-o", "loop", image, mounted], check=True)
        host.later.callback(_unmount, mounted)
        image = mounted / "inner.img"
    shutil.chown(place, USER, USER)
    return StuckDevice(below, place)


def _unmount(place: Path) -> None:
    """A container that starts meanwhile has its own copy of all mounts for a moment, and with it the image of the inner disk."""
    wait_until(lambda: subprocess.run(["umount", place], check=False).returncode == 0, f"{place} stays in use")
