# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What it takes that a DAX mount is as wanted, or is gone: the plan, and its two sides for --diff."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .._host.block_devices import BlockDevice
from .._host.dax_probe import Probe
from .._host.filesystem_tools import SuperBlock
from .._host.mount_points import Directory
from .._host.mounts import Mount
from .._host.unit_files import unit_path
from .dax_mount_options import live_dax, wanted_options
from .dax_wish import Wish
from .mount_units import UnitPlan


@dataclass(frozen=True)
class DropIn:
    """A drop-in of ours by its name as for unit_path(), with its text before and after; None for none."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Plan:
    """What happens. ``wish`` is None for a removal, ``block`` the super block that is there, ``uuid`` the file system's.

    ``make``: a file system is made; ``attach``, ``detach``: it is mounted, what is mounted now goes. ``waiting`` are the drop-ins for
    devices' units: that of a file system that is here no more goes. ``options`` are what ``present`` has in the place of the wanted ones: the
    kernel tells only as long as it is mounted.
    """

    point: str
    wish: Wish | None
    device: BlockDevice | None
    block: SuperBlock | None
    present: Mount | None
    make: bool
    attach: bool
    detach: bool
    directory: Directory | None
    unit: UnitPlan
    uuid: str = ""
    waiting: tuple[DropIn, ...] = ()
    found: Probe | None = None
    options: tuple[str, ...] = ()

    @property
    def guards(self) -> bool:
        return self.wish is not None and (self.directory is None or not self.directory.guarded)

    @property
    def directory_goes(self) -> bool:
        """The mount point is removed with what was mounted there, or guarded by us."""
        ours = self.detach or self.unit.before is not None or (self.directory is not None and self.directory.guarded)
        return self.wish is None and self.directory is not None and ours

    @property
    def changed(self) -> bool:
        waiting = any(item.before != item.after for item in self.waiting)
        moved = self.make or self.attach or self.detach
        return moved or self.guards or self.directory_goes or self.unit.changed or waiting

    def diff(self) -> dict[str, dict[str, Any]]:
        """Before and after by path, for --diff."""
        sides: dict[str, dict[str, Any]] = {
            "before": {self.point: self._before()},
            "after": {self.point: self._after()},
        }
        if self.device is not None and self.wish is not None:
            held = self.block.type if self.block else None
            made = self.wish.type if self.make else held
            again = self.make and held == self.wish.type
            sides["before"][self.device.path] = {"file_system": f"another {held}" if again else held}
            sides["after"][self.device.path] = {"file_system": made}
        for side, more in self.unit.diff().items():
            sides[side].update(more)
        for item in self.waiting:
            for side, text in (("before", item.before), ("after", item.after)):
                sides[side][unit_path(item.name)] = {"state": "absent"} if text is None else {"text": text}
        return sides

    def _before(self) -> dict[str, Any]:
        if self.present is not None:
            return {**self._shown(self.present), **_directory(self.directory)}
        return {"state": "absent" if self.directory is None else "unmounted", **_directory(self.directory)}

    def _after(self) -> dict[str, Any]:
        if self.wish is None:
            if self.directory_goes or self.directory is None:
                return {"state": "absent"}
            return {"state": "unmounted", **_directory(self.directory)}
        guarded = {"guarded": True}
        if not self.attach and self.present is not None:
            return {**self._shown(self.present), **guarded}
        options = wanted_options(self.wish)
        return {"state": "mounted", "type": self.wish.type, "dax": self.wish.dax, "options": options, **guarded}

    def _shown(self, mount: Mount) -> dict[str, Any]:
        shown: dict[str, Any] = {"state": "mounted", "type": mount.type, "dax": live_dax(mount)}
        return shown if self.wish is None else {**shown, "options": list(self.options)}


def _directory(found: Directory | None) -> dict[str, Any]:
    return {"guarded": found.guarded} if found is not None else {}
