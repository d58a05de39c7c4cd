# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can be said of a checkpoint only once QEMU has written its part."""

from __future__ import annotations

import os
import stat
import time
from dataclasses import replace
from typing import Any

from .manifest import Manifest


def sealed(draft: Manifest, size: int, digest: str) -> Manifest:
    """The manifest of a checkpoint that is whole; ``size`` in bytes and ``digest`` (SHA-256) are the state's.

    :raises OSError: an image cannot be looked at.
    """
    images = image_states(list(draft.images))
    return replace(draft, saved_at=time.time(), images=images, state_size=size, state_sha256=digest)


def image_files(disks: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Image files that guests write, or wrote; what block devices and servers hold cannot be told by them."""
    images = [image["path"] for chain in disks.values() for image in chain if image["identity"] is not None]
    return [path for path in images if stat.S_ISREG(os.stat(path).st_mode)]


def image_states(images: list[str]) -> dict[str, list[int]]:
    """Size and time of the last change (nanoseconds) of image files. They have to be on their devices: a guest's own flush is
    fdatasync(2), which does not bring the time there.
    """
    found = {}
    for path in images:
        state = os.stat(path)
        found[path] = [state.st_size, state.st_mtime_ns]
    return found
