# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mounts of hugetlbfs as they are wanted, now and at each boot.

A remount takes size, min_size, nr_inodes and pagesize without an error and ignores them: they are changed by a fresh mount, and only when nobody
uses the present one. Files die with the mount that they are in. What a remount does change is a mount that is read-only, which ours never are.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .._guest.sizes import format_size
from .._host.errors import HostmemError, Refused
from .._host.files import open_directory, set_owner_and_mode
from .._host.hugepages import default_page_size, pool
from .._host.hugetlbfs_files import HugeFile, describe_files, holding_files, huge_files
from .._host.mount_configuration import ConfiguredMount
from .._host.mount_users import users_of
from .._host.mounts import Mount, attach, detach, make_writable, mount_at
from .._host.numa import memory_nodes
from .._host.programs import required
from .hugetlbfs_options import LiveOptions, WantedOptions, live_options, wanted_options
from .mount_point_checks import check_hidden, check_point, check_type, only_mount
from .mount_units import MountUnit, UnitPlan, apply_unit, plan_absence, plan_removal, plan_unit
from .pools import check_page_size
from .seen_pools import SeenPools

SOURCE = "hugetlbfs"


@dataclass(frozen=True)
class Root:
    """The root directory of a mount."""

    uid: int | str
    gid: int | str
    mode: int

    def as_dict(self) -> dict[str, Any]:
        return {"uid": self.uid, "gid": self.gid, "mode": f"{self.mode:04o}"}


@dataclass(frozen=True)
class MountPlan:
    """What happens to a mount point. ``present`` is the mount there now, ``unit`` what happens to its configuration (None: left alone),
    ``directory`` whether the mount point exists.
    """

    point: str
    present: Mount | None
    root: Root | None
    before: LiveOptions | None
    after: LiveOptions | None
    wanted: WantedOptions | None
    unit: UnitPlan | None
    files: list[HugeFile]
    directory: bool = False
    warning: str = ""

    @property
    def fresh(self) -> bool:
        """The mount is made, anew or for the first time."""
        return self.after is not None and self.before != self.after

    @property
    def detached(self) -> bool:
        """The present mount goes."""
        return self.before is not None and self.before != self.after

    @property
    def read_only(self) -> bool:
        """Nobody can write to the present mount."""
        return self.present is not None and self.present.read_only

    @property
    def remounted(self) -> bool:
        """The present mount stays, and becomes writable."""
        return self.wanted is not None and self.read_only and not self.fresh

    @property
    def wanted_root(self) -> Root | None:
        return Root(self.wanted.uid, self.wanted.gid, self.wanted.mode) if self.wanted else None

    @property
    def directory_goes(self) -> bool:
        """The mount point is removed with what was mounted there, or configured by us."""
        ours = self.present is not None or (self.unit is not None and self.unit.before is not None)
        return self.wanted is None and self.directory and ours

    @property
    def changed(self) -> bool:
        unit = self.unit is not None and self.unit.changed
        mount = self.before != self.after or self.remounted or self.root != self.wanted_root
        return mount or unit or self.directory_goes

    def diff(self) -> dict[str, dict[str, Any]]:
        """Before and after by path, for --diff."""
        sides = {
            "before": {self.point: _side(self.before, self.root, self.directory, self.read_only)},
            "after": {self.point: _side(self.after, self.wanted_root, self.directory and not self.directory_goes)},
        }
        if self.unit is not None:
            for side, more in self.unit.diff().items():
                sides[side].update(more)
        return sides


def _side(options: LiveOptions | None, root: Root | None, directory: bool, read_only: bool = False) -> dict[str, Any]:
    if options is None or root is None:
        return {"state": "directory" if directory else "absent"}
    words = ["ro", *options.words()] if read_only else options.words()
    return {"state": "mounted", "options": words, **root.as_dict()}


def plan_mount(point: str, wanted: WantedOptions, persistent: bool, discard: bool, seen: SeenPools) -> MountPlan:
    """Check everything and say what would happen.

    :param persistent: it comes back at each boot, by a unit of ours; if not, a unit of ours for it is removed.
    :param discard: files in a mount that has to be made anew may die with it.
    :raises Refused: with the reason; nothing was changed.
    """
    check_page_size(wanted.page_size)
    check_point(point)
    pages = seen.pool(wanted.page_size)
    after = wanted.live(pages.nr - pages.surplus)
    unit = plan_unit(mount_unit(point, wanted), _same_as(wanted)) if persistent else plan_removal(point)
    plan = _with_old_percentages(_plan(point, wanted, after, unit), discard)
    if plan.detached:
        _check_unused(plan, "cannot be mounted afresh", _differences(plan), discard)
    if plan.fresh:
        check_hidden(plan.point, plan.present)
        _check_least(plan, seen)
        for program in ("mount", "umount"):  # an old mount must not go for one that cannot be made
            required(program)
    return plan


def plan_unmount(point: str, discard: bool) -> MountPlan:
    """What it takes that nothing is mounted there, now or at boot.

    :raises Refused: it is in use, is no hugetlbfs, has files in it, or is configured by somebody else.
    """
    plan = _plan(point, None, None, plan_absence(point))
    if plan.detached:
        _check_unused(plan, "cannot be unmounted", "", discard)
        required("umount")  # before the unit goes
    return plan


def mount_unit(point: str, wanted: WantedOptions) -> MountUnit:
    """The unit of a mount: after systemd-tmpfiles has filled the pools, which percentages and min_size need, and before all services.

    systemd-tmpfiles comes after local-fs.target, so the unit cannot come before that, as mounts do by default.
    """
    return MountUnit(
        where=point,
        what=SOURCE,
        type="hugetlbfs",
        options=wanted.words(),
        description=f"Huge pages of {format_size(wanted.page_size)} at {point}",
        after=("systemd-tmpfiles-setup.service",),
        before=("sysinit.target",),
        wanted_by=("sysinit.target",),
        default_dependencies=False,
    )


def _plan(point: str, wanted: WantedOptions | None, after: LiveOptions | None, unit: UnitPlan) -> MountPlan:
    present = only_mount(point)
    check_type(present, ("hugetlbfs",))
    if present is None:
        return MountPlan(point, None, None, None, after, wanted, unit, [], os.path.isdir(point))
    return MountPlan(
        point, present, _root(point), live_options(present.super_options), after, wanted, unit, huge_files(point), True
    )


def _same_as(wanted: WantedOptions) -> Callable[[ConfiguredMount], bool]:
    """Whether others' configuration comes to the same, however it is written."""

    def same(other: ConfiguredMount) -> bool:
        return other.type == "hugetlbfs" and wanted_options(other.options, default_page_size()) == wanted

    return same


def _with_old_percentages(plan: MountPlan, discard: bool) -> MountPlan:
    """A mount in use whose percentages were taken of another pool stays as it is: it is what was asked for when it was made."""
    before, after, wanted = plan.before, plan.after, plan.wanted
    if before is None or after is None or wanted is None or before == after:
        return plan
    old = replace(
        after,
        size=before.size if wanted.size and wanted.size.percent else after.size,
        min_size=before.min_size if wanted.min_size and wanted.min_size.percent else after.min_size,
    )
    if old != before or not ((plan.files and not discard) or (plan.present and users_of(plan.present))):
        return plan
    text = f"{plan.point} is in use and keeps {' '.join(before.words())}; of the pool as it is now, it would have {' '.join(after.words())}."
    return replace(plan, after=before, warning=text)


def _root(point: str) -> Root:
    found = os.stat(point)
    return Root(found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode))


def _differences(plan: MountPlan) -> str:
    before = set(plan.before.words()) if plan.before else set()
    after = set(plan.after.words()) if plan.after else set()
    return (
        f"It has {' '.join(sorted(before - after)) or 'no limit'}, wanted is {' '.join(sorted(after - before)) or 'no limit'};"
        " a remount would ignore that without an error."
    )


def _check_unused(plan: MountPlan, problem: str, reason: str, discard: bool) -> None:
    """Nobody may lose memory that is in use, and nobody files unasked."""
    users = users_of(plan.present) if plan.present else []
    if users:
        raise Refused(
            f"{plan.point} {problem}: it is in use.",
            cause=f"{reason} Users: {'; '.join(map(str, users[:10]))}.".strip(),
            cure="Stop them first, for guests by hostmem stop.",
        )
    if plan.files and not discard:
        raise Refused(
            f"{plan.point} {problem}: there are files in it, which would be lost.",
            cause=f"{reason} Files: {describe_files(plan.files)}.".strip(),
            cure="Remove them, or set discard_files to true.",
        )


def pools_without(plan: MountPlan, seen: SeenPools) -> SeenPools:
    """The pools once the present mount is gone, if it goes, with the files in it. On which nodes their pages lie is not known: on any that has
    pages in use.
    """
    before = plan.before
    if before is None or not plan.detached:
        return seen
    size = before.page_size
    whole = seen.pool(size)
    held = sum(file.allocated for file in plan.files) // size
    promised = sum(max(0, file.size - file.allocated) for file in plan.files) // size
    reserved = min(whole.reserved, max(promised, (before.min_size or 0) // size - held))
    nodes = {}
    for node in memory_nodes():
        found = seen.node_pool(size, node)
        nodes[node] = replace(found, free=found.free + min(held, found.nr - found.free))
    return seen.with_pool(size, replace(whole, free=whole.free + held, reserved=whole.reserved - reserved), nodes)


def pools_after(plan: MountPlan, seen: SeenPools) -> SeenPools:
    """The pools once the plan is carried out: min_size is reserved as the mount is made."""
    found = pools_without(plan, seen)
    if not plan.fresh or plan.after is None or plan.after.min_size is None:
        return found
    whole = found.pool(plan.after.page_size)
    reserved = whole.reserved + plan.after.min_size // plan.after.page_size
    return found.with_pool(plan.after.page_size, replace(whole, reserved=reserved), {})


def _check_least(plan: MountPlan, seen: SeenPools) -> None:
    """min_size is reserved as the mount is made; the kernel only says that it cannot allocate memory."""
    if plan.after is None or plan.after.min_size is None:
        return
    size = plan.after.page_size
    pages, then = seen.pool(size), pools_without(plan, seen).pool(size)
    free = then.free - then.reserved + max(0, then.overcommit - then.surplus)
    if plan.after.min_size > free * size:
        files = holding_files(size)
        raise Refused(
            f"{plan.point} cannot have {format_size(plan.after.min_size)} for itself (min_size).",
            cause=f"Of {pages.nr} huge pages of {format_size(size)} on this host {pages.free} are free, {pages.reserved} of them reserved."
            + (f" Files that hold pages: {describe_files(files)}." if files else ""),
            cure="Enlarge the pool (module hugepages), remove left-over files, or lower min_size.",
        )


def apply_mount(plan: MountPlan) -> None:
    """Carry a plan out, and look at what the kernel made of it.

    :raises HostmemError: mount(8), umount(8) or systemd failed, or the kernel has made something else of the options.
    """
    wanted = plan.wanted
    if wanted is None:
        _unmount(plan)
        return
    if plan.detached:
        detach(plan.point)
    if plan.fresh:
        os.makedirs(plan.point, mode=0o755, exist_ok=True)
        try:
            attach(SOURCE, plan.point, "hugetlbfs", wanted.words())
            _verify(plan)
        except HostmemError:
            _bring_back(plan)
            raise
    if plan.remounted and plan.present is not None:
        make_writable(plan.present)
        _verify(plan)
    if plan.fresh or plan.root != plan.wanted_root:
        descriptor = open_directory(plan.point)
        try:
            set_owner_and_mode(descriptor, wanted.mode, int(wanted.uid), int(wanted.gid))
        finally:
            os.close(descriptor)
    if plan.unit is not None:
        apply_unit(plan.unit, mount_unit(plan.point, wanted))


def _bring_back(plan: MountPlan) -> None:
    """The mount as it was before a fresh one failed, or none. What the first error says is more than that this fails, too."""
    with contextlib.suppress(HostmemError, OSError):
        if mount_at(plan.point) is not None:
            detach(plan.point)
        if not plan.directory:
            os.rmdir(plan.point)
        if plan.before is not None and plan.root is not None:
            root = plan.root
            options = [
                *_flags(plan.present),
                *plan.before.words(),
                f"uid={root.uid}",
                f"gid={root.gid}",
                f"mode={root.mode:04o}",
            ]
            attach(plan.present.source if plan.present else SOURCE, plan.point, "hugetlbfs", options)


def _flags(mount: Mount | None) -> tuple[str, ...]:
    """Options of the mount itself, such as nosuid; ``ro`` may be the file system's alone."""
    if mount is None:
        return ()
    flags = [option for option in mount.options if option not in ("ro", "rw")]
    return (*flags, "ro") if mount.read_only else tuple(flags)


def _verify(plan: MountPlan) -> None:
    mounted = mount_at(plan.point)
    found = live_options(mounted.super_options) if mounted else None
    # The pool that percentages are taken of may have changed since the plan was made.
    expected = plan.wanted.live(_pool_pages(plan.wanted)) if plan.wanted else None
    if found not in (expected, plan.after):
        raise HostmemError(
            f"The kernel did not make of {plan.point} what was asked for.",
            cause=f"It shows {' '.join(found.words()) if found else 'no mount'}"
            f" instead of {' '.join(plan.after.words()) if plan.after else ''}.",
            cure="Ask for what it shows, or for whole pages of the pool as it is now; see the kernel's log (dmesg).",
        )
    if mounted is not None and mounted.read_only:
        raise HostmemError(
            f"{plan.point} is still read-only.",
            cause="The kernel did not make of it what was asked for.",
            cure="Unmount it when nobody uses it, and run this again; see the kernel's log (dmesg).",
        )


def _pool_pages(wanted: WantedOptions) -> int:
    pages = pool(wanted.page_size)
    return pages.nr - pages.surplus


def _unmount(plan: MountPlan) -> None:
    if plan.unit is not None:
        apply_unit(plan.unit, None)
    if plan.detached:
        detach(plan.point)
    if plan.directory_goes:
        with contextlib.suppress(OSError):  # not empty
            os.rmdir(plan.point)


def _numbers(root: Root) -> dict[str, Any]:
    """Owner and permissions; None for a user or group without a number yet."""
    known = {"uid": root.uid, "gid": root.gid}
    return {**root.as_dict(), **{key: value if isinstance(value, int) else None for key, value in known.items()}}


def describe_mount(plan: MountPlan, check: bool) -> dict[str, Any]:
    """The mount for the result: as it is, or would be."""
    files: Sequence[HugeFile] = [] if plan.detached else plan.files
    if check or plan.wanted is None:
        options, root = plan.after, plan.wanted_root
    else:
        mounted = mount_at(plan.point)
        options = live_options(mounted.super_options) if mounted else None
        root = _root(plan.point)
    return {
        "path": plan.point,
        "state": "mounted" if options else "absent",
        "options": options.words() if options else [],
        "page_size": options.page_size if options else None,
        "size": options.size if options else None,
        "min_size": options.min_size if options else None,
        "nr_inodes": options.nr_inodes if options else None,
        **(_numbers(root) if root and options else {"uid": None, "gid": None, "mode": None}),
        "unit": plan.unit.name if plan.unit and plan.unit.after is not None else None,
        "configured_by": plan.unit.provided_by if plan.unit and plan.unit.provided_by else None,
        "files": [file.as_dict() for file in files],
        "left_over": [file.path for file in files if file.allocated and not file.mapped_by],
    }
