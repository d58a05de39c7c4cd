# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mounts that come back at each boot, by systemd mount units of ours. fstab and others' units are read, never changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._host.errors import Refused
from .._host.mount_configuration import ConfiguredMount, configured_mounts, normal
from .._host.unit_files import (
    disable,
    enable,
    is_enabled,
    read_unit,
    remove_unit,
    require_systemd,
    systemd_escape_path,
    unit_path,
    with_header,
    write_unit,
)


@dataclass(frozen=True)
class MountUnit:
    """A mount as its unit describes it (systemd.mount(5)).

    :param wanted_by: what starts it at boot; it fails without harm to that. ``required_by``: that fails with it.
    :param default_dependencies: systemd's own, which order it before local-fs.target. Without them it still ends at shutdown.
    :param timeout: seconds that mounting may take (TimeoutSec=); the system's default when None.
    """

    where: str
    what: str
    type: str
    options: tuple[str, ...] = ()
    description: str = ""
    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    wanted_by: tuple[str, ...] = ("local-fs.target",)
    required_by: tuple[str, ...] = ()
    default_dependencies: bool = True
    timeout: int | None = None

    @property
    def name(self) -> str:
        """systemd demands that the unit is named after its mount point."""
        return mount_unit_name(self.where)

    def text(self) -> str:
        """The unit file without our header."""
        lines = ["[Unit]", f"Description={_percent(self.description or f'{self.type} at {self.where}')}"]
        if not self.default_dependencies:
            lines += ["DefaultDependencies=no", "Conflicts=umount.target"]
        before = self.before if self.default_dependencies else ("umount.target", *self.before)
        for key, units in (("Requires", self.requires), ("After", self.after), ("Before", before)):
            if units:
                lines.append(f"{key}={' '.join(units)}")
        lines += ["", "[Mount]", f"What={_percent(self.what)}", f"Where={_percent(normal(self.where))}"]
        lines.append(f"Type={self.type}")
        if self.options:
            lines.append(f"Options={_percent(','.join(self.options))}")
        if self.timeout is not None:
            lines.append(f"TimeoutSec={self.timeout}")
        lines += ["", "[Install]"]
        for key, units in (("WantedBy", self.wanted_by), ("RequiredBy", self.required_by)):
            if units:
                lines.append(f"{key}={' '.join(units)}")
        return "\n".join(lines) + "\n"


def mount_unit_name(where: str) -> str:
    """``mnt-huge.mount`` for ``/mnt/huge``."""
    return f"{systemd_escape_path(where)}.mount"


def _percent(text: str) -> str:
    """Literal text in a unit, where ``%`` begins a specifier (``size=50%``)."""
    return text.replace("%", "%%")


@dataclass(frozen=True)
class UnitPlan:
    """What happens to the unit file of a mount point. ``after`` is None for none; ``provided_by`` names who has the mount already."""

    name: str
    before: str | None
    enabled: bool
    after: str | None
    provided_by: str = ""

    @property
    def changed(self) -> bool:
        return self.before != self.after or self.enabled != (self.after is not None)

    def diff(self) -> dict[str, dict[str, Any]]:
        """Before and after by the unit file's path, for --diff; empty when there was and will be none."""
        if self.before is None and self.after is None:
            return {"before": {}, "after": {}}
        path = unit_path(self.name)
        return {
            "before": {path: _side(self.before, self.enabled)},
            "after": {path: _side(self.after, self.after is not None)},
        }


def _side(text: str | None, enabled: bool) -> dict[str, Any]:
    return {"state": "absent"} if text is None else {"state": "enabled" if enabled else "disabled", "text": text}


def plan_unit(unit: MountUnit, same: Callable[[ConfiguredMount], bool]) -> UnitPlan:
    """What it takes that the mount comes back at each boot.

    :param same: whether configuration of somebody else says the same, now and at each boot.
    :raises Refused: systemd does not run here; or fstab, or a unit that is not ours, configures another mount at that place.
    """
    for other in configured_mounts(unit.where):
        if not same(other):
            raise Refused(
                f"{unit.where} is not configured here: {other.place} already mounts {other.source} there as {other.type}"
                f" with {','.join(other.options) or 'no options'}.",
                cause=f"Wanted is {unit.what} as {unit.type} with {','.join(unit.options) or 'no options'},"
                " and configuration of others is never changed.",
                cure="Choose another mount point, remove that configuration, or ask for exactly what it says.",
            )
        return UnitPlan(unit.name, None, False, None, provided_by=other.place)
    require_systemd(f"Mounting {unit.where} at each boot", "Set persistent to false to mount it only now.")
    return UnitPlan(unit.name, read_unit(unit.name), is_enabled(unit.name), with_header(unit.text()))


def plan_absence(where: str) -> UnitPlan:
    """What it takes that nothing is mounted there at boot.

    :raises Refused: fstab, or a unit that is not ours, mounts something there.
    """
    others = configured_mounts(where)
    if others:
        raise Refused(
            f"{where} stays as it is: {others[0].place} mounts {others[0].source} there.",
            cause="Configuration of others is never changed, and would mount it again.",
            cure="Remove it there first.",
        )
    return plan_removal(where)


def plan_removal(where: str) -> UnitPlan:
    """What it takes that our unit for this mount point is gone, whatever others have configured.

    :raises Refused: there is a unit file of that name which is not ours.
    """
    name = mount_unit_name(where)
    before = read_unit(name)
    return UnitPlan(name, before, before is not None and is_enabled(name), None)


def apply_unit(plan: UnitPlan, unit: MountUnit | None) -> None:
    """Carry a plan out, with the unit that it was made for, or None for a removal. Mounts and unmounts nothing.

    :raises HostmemError: systemd did not take it.
    """
    if plan.after is None or unit is None:
        if plan.before is not None:
            remove_unit(plan.name)
        return
    if write_unit(plan.name, unit.text()) and plan.enabled:
        disable(plan.name)  # its [Install] section may have been another
    enable(plan.name)
