# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which parts of device-DAX devices hold a guest's memory: only these may be cleared. A device tells nobody whose its content is.

Root's own record, in a directory that the unprivileged user cannot write; it outlives a boot, as the memory does.
"""

from __future__ import annotations

from collections.abc import Sequence

from .._host.files import read_json, remove_file, write_json
from .backing_devices import part_of_device
from .config import Config
from .layout import PlacedBlock


def given_devices(config: Config, guest: str) -> set[str]:
    """The parts that the guest was given and that have not been cleared since."""
    kept = read_json(_path(config, guest))
    return set(kept) if isinstance(kept, list) else set()


def give_devices(config: Config, guest: str, blocks: Sequence[PlacedBlock]) -> None:
    """Remember what the guest is about to get; what it only opens stays somebody's data."""
    parts = {part_of_device(placed) for placed in blocks if placed.block.device and placed.block.mode == "create"}
    kept = given_devices(config, guest)
    if parts - kept:
        write_json(_path(config, guest), sorted(parts | kept))


def take_devices(config: Config, guest: str, placed: PlacedBlock) -> None:
    """Forget a part that was cleared."""
    left = given_devices(config, guest) - {part_of_device(placed)}
    if left:
        write_json(_path(config, guest), sorted(left))
    else:
        remove_file(_path(config, guest))


def _path(config: Config, guest: str) -> str:
    return f"{config.state}/{guest}.devices.json"  # no guest's name has a dot
