# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Device-DAX character devices such as /dev/dax0.0 (drivers/dax): memory without files, for one user each.

stat(2) says 0 bytes of them, they can be neither read nor written nor made longer, only mapped: shared, and in multiples of their
alignment. So QEMU needs ``share=on`` and ``align=`` for a memory-backend-file on one.
"""

from __future__ import annotations

import mmap
import os
import stat
from dataclasses import dataclass

_DEVICES = "/sys/bus/dax/devices"


@dataclass(frozen=True)
class DaxDevice:
    """A device; ``size`` and ``align`` in bytes, ``usable`` False when its memory serves the kernel as ordinary RAM (driver kmem)."""

    name: str
    size: int
    align: int
    numa_node: int | None
    driver: str

    @property
    def path(self) -> str:
        return f"/dev/{self.name}"

    @property
    def usable(self) -> bool:
        return self.driver == "device_dax"


def dax_devices() -> list[DaxDevice]:
    """All device-DAX devices of the host."""
    try:
        names = sorted(os.listdir(_DEVICES))
    except OSError:
        return []
    return [_device(name) for name in names]


def dax_device(path: str) -> DaxDevice | None:
    """What is known of the character device at a path; None when it is none of this kind.

    :raises OSError: there is no such path.
    """
    found = os.stat(path)
    if not stat.S_ISCHR(found.st_mode):
        return None
    name = os.path.basename(os.path.realpath(f"/sys/dev/char/{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"))
    return _device(name) if os.path.isdir(f"{_DEVICES}/{name}") else None


def _device(name: str) -> DaxDevice:
    directory = f"{_DEVICES}/{name}"
    node = int(_text(f"{directory}/numa_node") or -1)
    driver = f"{directory}/driver"
    return DaxDevice(
        name=name,
        size=int(_text(f"{directory}/size") or 0),
        # Before Linux 5.10 the region above has it.
        align=int(_text(f"{directory}/align") or _text(f"{directory}/../dax_region/align") or mmap.PAGESIZE),
        numa_node=None if node < 0 else node,
        driver=os.path.basename(os.path.realpath(driver)) if os.path.exists(driver) else "",
    )


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def first_content(device: DaxDevice) -> int | None:
    """Position in bytes of something in the device that is not zero; None when only zeros were found.

    Looks at up to 64 pieces of 2 MiB, evenly spread, the first and the last among them: a guest's RAM, which no signature shows, is
    hardly ever empty in all of them.

    :raises OSError: it cannot be opened or mapped.
    """
    descriptor = os.open(device.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        with mmap.mmap(descriptor, device.size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE) as mapped:
            return first_nonzero(mapped, device.size)
    finally:
        os.close(descriptor)


def first_nonzero(data: mmap.mmap | bytes, size: int, piece: int = 2 << 20, pieces: int = 64) -> int | None:
    """Position of a byte that is not zero, in evenly spread pieces of the data."""
    last = max(0, size - piece)
    count = min(pieces, -(-size // piece)) if piece else 0
    for number in range(count):
        start = last * number // max(1, count - 1)
        found = data[start : start + piece]
        rest = found.lstrip(b"\0")
        if rest:
            return start + len(found) - len(rest)
    return None
