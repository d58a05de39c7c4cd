# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mounts of ext4 and xfs whose files are mapped straight from persistent memory, now and at each boot, and really.

The mount options are no proof: xfs mounts with ``dax=always`` where it has turned DAX off. A file in it is.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .._host.block_devices import BlockDevice, stable_path, uuid_for
from .._host.dax_probe import Probe, probe
from .._host.device_users import device_users
from .._host.errors import HostmemError, Refused
from .._host.filesystem_tools import SuperBlock, make_file_system, super_block, wait_for_udev
from .._host.kernel_log import KernelLog
from .._host.mount_configuration import ConfiguredMount
from .._host.mount_points import Directory, directory_under, guard, unguard
from .._host.mount_users import users_of
from .._host.mounts import Mount, attach, detach, mount_at
from .._host.pmem import regions
from .._host.programs import required
from .._host.unit_files import read_unit, remove_unit, systemd_escape_path, unit_path, with_header, write_unit
from .dax_checks import check_device, check_fit, cure_for, file_system_on, warnings_about
from .devices_to_come import device_to_come, is_to_come, namespace_to_come, words_for
from .foreseen import NOTHING, Foreseen
from .mount_point_checks import check_hidden, check_point, check_type, only_mount
from .mount_units import MountUnit, UnitPlan, apply_unit, plan_absence, plan_removal, plan_unit

TYPES = ("ext4", "xfs")
_DROP_IN = "hostmem.conf"
# Options that mountinfo shows when they are set, and never else.
_SHOWN = frozenset(
    {"ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "sync", "dirsync", "nosymfollow", "lazytime"}
)
# The same of the file systems' own (_ext4_show_options() in fs/ext4/super.c, xfs_fs_show_options() in fs/xfs/xfs_super.c).
_SHOWN_BY = {
    "ext4": frozenset({"discard", "nobarrier", "noauto_da_alloc", "nodelalloc", "minixdf"}),
    "xfs": frozenset({"discard", "wsync", "filestreams", "largeio", "swalloc", "ikeep", "nouuid"}),
}
_SHOWN_AS = {"barrier=0": "nobarrier", "auto_da_alloc=0": "noauto_da_alloc"}


@dataclass(frozen=True)
class Wish:
    """A mount as somebody wants it.

    :param dax: ``always``, ``inode`` (each file by its own flag, FS_XFLAG_DAX) or ``never``.
    :param destroy: the device whose data may be lost, by the same name as ``device``.
    :param device_timeout: seconds that the boot waits for the device.
    """

    point: str
    device: str
    type: str
    dax: str
    options: tuple[str, ...]
    persistent: bool
    reflink: bool
    destroy: str
    device_timeout: int

    @property
    def mount_options(self) -> tuple[str, ...]:
        return (f"dax={self.dax}", *self.options)


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
    devices' units: that of a file system that is here no more goes.
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
            sides["before"][self.device.path] = {"file_system": held}
            sides["after"][self.device.path] = {"file_system": self.wish.type if self.make else held}
        for side, more in self.unit.diff().items():
            sides[side].update(more)
        for item in self.waiting:
            for side, text in (("before", item.before), ("after", item.after)):
                sides[side][unit_path(item.name)] = {"state": "absent"} if text is None else {"text": text}
        return sides

    def _before(self) -> dict[str, Any]:
        if self.present is not None:
            return {**_shown(self.present), **_directory(self.directory)}
        return {"state": "absent" if self.directory is None else "unmounted", **_directory(self.directory)}

    def _after(self) -> dict[str, Any]:
        if self.wish is None:
            if self.directory_goes or self.directory is None:
                return {"state": "absent"}
            return {"state": "unmounted", **_directory(self.directory)}
        guarded = {"guarded": True}
        if not self.attach and self.present is not None:
            return {**_shown(self.present), **guarded}
        return {"state": "mounted", "type": self.wish.type, "dax": self.wish.dax, **guarded}


def _shown(mount: Mount) -> dict[str, Any]:
    return {"state": "mounted", "type": mount.type, "dax": live_dax(mount)}


def _directory(found: Directory | None) -> dict[str, Any]:
    return {"guarded": found.guarded} if found is not None else {}


def live_dax(mount: Mount) -> str:
    """What the kernel shows of DAX: ``always``, ``never``, or ``inode``, which it need not show at all."""
    options = {*mount.options, *mount.super_options}
    if options & {"dax", "dax=always"}:
        return "always"
    return "never" if "dax=never" in options else "inode"


def device_of_namespace(name: str, foreseen: Foreseen = NOTHING) -> str:
    """Path of the block device of the namespace with this name; words in its place for one that tasks before would make.

    :raises Refused: there is no such namespace, or it has none.
    """
    if namespace_to_come(name, foreseen) is not None:
        return words_for(name)
    named = [item for region in regions() for item in region.namespaces if item.name == name]
    if len(named) != 1:
        known = (
            ", ".join(sorted(item.name for region in regions() for item in region.namespaces if item.name)) or "none"
        )
        raise Refused(
            f"There is {'no' if not named else 'more than one'} namespace named {name}.",
            cause=f"Names of namespaces on this host: {known}.",
            cure="Make it first (module pmem_namespace), or name the device.",
        )
    if not named[0].device:
        raise Refused(
            f"The namespace {name} ({named[0].dev}) is disabled.", cure=f"ndctl enable-namespace {named[0].dev}"
        )
    return f"/dev/{named[0].device}"


def plan_mount(wish: Wish, foreseen: Foreseen = NOTHING) -> Plan:
    """Check everything and say what would happen.

    :raises HostmemError: with the reason; nothing was changed.
    """
    _check_wish(wish)
    device = device_to_come(wish.device, foreseen)
    block, make = None, True
    if device is None:
        device = check_device(wish.device, wish.dax)
        block, make = _file_system(wish, device)
    present = _present(wish.point, device)
    attach_it = make or present is None or differences(present, wish) != ""
    plan = Plan(
        point=wish.point,
        wish=wish,
        device=device,
        block=block,
        present=present,
        make=make,
        attach=attach_it,
        detach=attach_it and present is not None,
        directory=_directory_at(wish.point),
        unit=UnitPlan("", None, False, None),
        uuid=_new_uuid(device) if make or block is None else block.uuid,
    )
    plan = _with_units(plan, wish, device)
    if plan.detach:
        _check_unused(plan, "cannot be mounted afresh")
    if plan.attach:
        if not is_to_come(device):
            _check_elsewhere(plan, device)
        check_hidden(wish.point, present)
    elif wish.dax != "never" or present is not None:
        plan = _with(plan, found=_proved(wish, wish.point, []))
    _require_programs(plan, device, foreseen)
    return plan


def _new_uuid(device: BlockDevice) -> str:
    """Of the file system that is made; text in its place as long as there is no device to make it of."""
    return "(new)" if is_to_come(device) else uuid_for(device)


def _require_programs(plan: Plan, device: BlockDevice, foreseen: Foreseen) -> None:
    """What the plan runs is installed: an old mount must not go for one that cannot be made.

    :raises HostmemError: it is not; with the package.
    """
    programs = []
    if plan.make and plan.wish is not None:
        programs += [f"mkfs.{plan.wish.type}", "wipefs"]
    if plan.attach:
        programs += ["mount", "umount"] + (["udevadm"] if stable_path(plan.uuid, device) != device.path else [])
    for program in programs:
        if not foreseen.brings(program):
            required(program)


def presumptions(plan: Plan, foreseen: Foreseen) -> list[str]:
    """What was presumed for a plan, in sentences."""
    device, wish = plan.device, plan.wish
    found = []
    if wish is not None and device is not None and is_to_come(device):
        found.append(
            f"Presuming that there is the {device.path} by then, and that it is empty: its device and the UUID of its file system are not"
            " known yet."
        )
    if wish is not None and plan.make and foreseen.brings(f"mkfs.{wish.type}"):
        found.append(f"Presuming that mkfs.{wish.type} is installed by then.")
    return found


def _with(plan: Plan, **changes: Any) -> Plan:
    return Plan(**{**plan.__dict__, **changes})


def _check_wish(wish: Wish) -> None:
    check_point(wish.point)
    bad = [option for option in wish.options if option == "dax" or option.startswith("dax=") or option == "ro"]
    if bad:
        raise Refused(
            f"{bad[0]} does not belong in options.",
            cause="dax= has an option of its own, and RAM files are written to.",
            cure="Leave it out.",
        )


def _file_system(wish: Wish, device: BlockDevice) -> tuple[SuperBlock | None, bool]:
    """What is on the device, and whether a file system is made on it."""
    given_up = wish.destroy != "" and os.path.realpath(wish.destroy) == device.path
    try:
        block = file_system_on(device)
        if block is None:
            return None, True
        if block.type != wish.type:
            raise Refused(
                f"{device.path} holds {block.type}, not {wish.type}, and stays as it is.",
                cure=f"Set fstype to {block.type}; or if the data may be lost, set destroy_data to {wish.device}.",
            )
        if wish.dax != "never":
            check_fit(block, device, wish.options)
    except Refused:
        if given_up:
            return super_block(device.path), True
        raise
    except OSError as error:
        raise HostmemError(f"{device.path} cannot be read.", cause=str(error), cure="Run as root.") from error
    return block, False


def _present(point: str, device: BlockDevice) -> Mount | None:
    """The mount that is there, when it is one of this device."""
    present = only_mount(point)
    if present is not None and present.device != device.device:
        raise Refused(
            f"{point} is not touched: {present.source} ({present.type}) is mounted there.",
            cause=f"Wanted is {device.path}.",
            cure="Choose another mount point, or unmount it.",
        )
    return present


def _directory_at(point: str) -> Directory | None:
    try:
        return directory_under(point)
    except OSError as error:
        raise HostmemError(f"The directory {point} cannot be looked at.", str(error), "Run as root.") from error


def differences(present: Mount, wish: Wish) -> str:
    """What the kernel shows of a mount that is not what is wanted, in words; empty for nothing."""
    if live_dax(present) != wish.dax:
        return f"It is mounted with dax={live_dax(present)}, wanted is dax={wish.dax}, which a remount cannot change."
    shown = {*present.options, *present.super_options}
    flags = _SHOWN | _SHOWN_BY.get(wish.type, frozenset())
    wanted = {_SHOWN_AS.get(option, option) for option in wish.options}
    missing = wanted & flags - shown - _defaults(present)
    if "strictatime" in wanted and "relatime" in shown:  # it shows by the absence of the others
        missing.add("strictatime")
    more = shown & flags - wanted
    if missing or more:
        texts = [f"without {','.join(sorted(missing))}"] if missing else []
        texts += [f"with {','.join(sorted(more))} unasked"] if more else []
        return f"It is mounted {' and '.join(texts)}."
    for option in wish.options:
        if option in _SHOWN_AS:
            continue
        key, equals, _value = option.partition("=")
        other = [item for item in shown if equals and item.startswith(f"{key}=")]
        if other and option not in other:
            return f"It is mounted with {other[0]}, wanted is {option}."
    return ""


def _defaults(present: Mount) -> frozenset[str]:
    """Options that are on without being shown, as defaults in ext4's super block (tune2fs -o) are; /proc/fs/ext4 lists them all."""
    name = os.path.basename(os.path.realpath(f"/sys/dev/block/{os.major(present.device)}:{os.minor(present.device)}"))
    try:
        with open(f"/proc/fs/{present.type}/{name}/options", encoding="ascii", errors="replace") as file:
            return frozenset(file.read().split())
    except OSError:
        return frozenset()


def mount_unit(wish: Wish, device: BlockDevice, file_system_uuid: str) -> MountUnit:
    """The unit of a mount. ``nofail``: the host boots without the device; guests wait for the mount by RequiresMountsFor."""
    return MountUnit(
        where=wish.point,
        what=stable_path(file_system_uuid, device),
        type=wish.type,
        options=(*wish.mount_options, "nofail"),
        description=f"Guests' memory on persistent memory at {wish.point}",
    )


def _with_units(plan: Plan, wish: Wish, device: BlockDevice) -> Plan:
    """With the plans for the unit of the mount, and for the time that the boot waits for its device."""
    if not wish.persistent:
        unit = plan_removal(wish.point)
        return _with(plan, unit=unit, waiting=_no_waiting(unit))
    wanted = mount_unit(wish, device, plan.uuid)
    unit = plan_unit(wanted, lambda other: says_the_same(other, wish, plan.uuid))
    if unit.provided_by:
        return _with(plan, unit=unit)
    name = _drop_in(wanted.what)
    # x-systemd.device-timeout= counts in fstab only (systemd.mount(5)); this is what it is made into.
    text = with_header(f"[Unit]\nJobRunningTimeoutSec={wish.device_timeout}\n")
    left = [item for item in _no_waiting(unit) if item.name != name]
    return _with(plan, unit=unit, waiting=(DropIn(name, read_unit(name), text), *left))


def _drop_in(what: str) -> str:
    return f"{systemd_escape_path(what)}.device.d/{_DROP_IN}"


def _no_waiting(unit: UnitPlan) -> tuple[DropIn, ...]:
    """The drop-in of a unit of ours as it was, which goes."""
    what = next(
        (line[5:] for line in (unit.before or "").split("\n") if line.startswith("What=")),
        "",
    )
    name = _drop_in(what.replace("%%", "%")) if what else ""
    return (DropIn(name, read_unit(name), None),) if name else ()


def says_the_same(other: ConfiguredMount, wish: Wish, file_system_uuid: str) -> bool:
    """Configuration of others mounts the same device with the same options, however it names them."""
    source = other.source
    if source.startswith("UUID="):
        same_device = source[5:].strip('"').lower() == file_system_uuid
    else:
        same_device = os.path.realpath(source) == os.path.realpath(wish.device)
    options = {"dax=always" if option == "dax" else option for option in other.options}
    wanted = set(wish.mount_options)
    more = {option for option in options - wanted if not option.startswith("x-")}
    return (
        same_device
        and other.type in (wish.type, "auto")
        and wanted <= options
        and more <= {"defaults", "auto", "nofail", "rw"}
    )


def _check_unused(plan: Plan, problem: str) -> None:
    users = users_of(plan.present) if plan.present else []
    if not users:
        return
    reason = ""
    if plan.wish is not None and plan.present is not None:
        reason = "A file system would be made. " if plan.make else f"{differences(plan.present, plan.wish)} "
    raise Refused(
        f"{plan.point} {problem}: it is in use.",
        cause=f"{reason}Users: {'; '.join(map(str, users[:10]))}.",
        cure="Stop them first, for guests by hostmem stop.",
    )


def _check_elsewhere(plan: Plan, device: BlockDevice) -> None:
    """A second mount of the same file system shares the options of the first, and its super block."""
    users = [text for text in device_users(device.path) if not text.endswith(f" is mounted at {plan.point}")]
    if users:
        raise Refused(
            f"{device.path} cannot be {'made anew' if plan.make else 'mounted'}: it is in use.",
            cause="; ".join(users) + ". A second mount of a file system has the options of the first.",
            cure="Unmount it there, or end what uses it.",
        )


def _proved(wish: Wish, point: str, logged: Sequence[str]) -> Probe:
    """A new file in the mount is what was asked for.

    :raises HostmemError: it is not; with what the kernel logged.
    """
    mount = mount_at(point)
    live = live_dax(mount) if mount else "no mount"
    try:
        found = probe(point, wish.dax == "inode")
    except OSError as error:
        raise HostmemError(
            f"No file can be made at {point}, so that nothing shows whether DAX is on.",
            cause=str(error),
            cure="Look for errors of the file system in the kernel's log; it may have become read-only.",
        ) from error
    if mount is not None and live == wish.dax and found.dax == found.map_sync == (wish.dax != "never"):
        return found
    log = "; ".join(logged)
    raise HostmemError(
        f"The files at {point} are not what dax={wish.dax} promises.",
        cause=f"The kernel shows dax={live}; a new file there is {'' if found.dax else 'not '}DAX by statx, MAP_SYNC"
        f" {'works' if found.map_sync else 'is refused'}." + (f" The kernel's log: {log}" if log else ""),
        cure=cure_for(log or "dax mount option"),
    )


def apply_mount(plan: Plan) -> Plan:
    """Carry a plan out; the plan again, with what a file was found to be.

    :raises HostmemError: something failed. A mount whose files are not what was asked for is taken back.
    """
    wish, device = plan.wish, plan.device
    if wish is None or device is None:
        _unmount(plan)
        return plan
    if plan.detach:
        detach(plan.point)
    if plan.make:
        make_file_system(device.path, wish.type, plan.uuid, wish.reflink)
    found = plan.found
    if plan.guards:
        os.makedirs(plan.point, mode=0o755, exist_ok=True)
        guard(plan.point)
    if plan.attach:
        try:
            found = _attached(wish, device, plan.uuid)
        except HostmemError:
            _bring_back(plan)
            raise
    _apply_units(plan, wish, device)
    return _with(plan, found=found)


def _attached(wish: Wish, device: BlockDevice, file_system_uuid: str) -> Probe:
    source = stable_path(file_system_uuid, device)
    if not wait_for_udev(source):
        source = device.path
    with KernelLog() as log:
        try:
            attach(source, wish.point, wish.type, wish.mount_options)
        except HostmemError as error:
            error.cure = error.cure or cure_for(error.cause)
            raise
        logged = log.lines(os.path.basename(device.path), "dax")
        return _proved(wish, wish.point, [line for line in logged if "dax" in line.lower()])


def _bring_back(plan: Plan) -> None:
    """The mount as it was before a fresh one failed, or none, and the directory as it was. The first error says more than these could."""
    with contextlib.suppress(HostmemError, OSError):
        if mount_at(plan.point) is not None:
            detach(plan.point)
        if plan.present is not None and not plan.make:
            present = plan.present
            attach(present.source, plan.point, present.type, (*present.options, *_restorable(present)))
    if plan.guards and plan.present is None:
        with contextlib.suppress(OSError):
            unguard(plan.point, plan.directory.mode if plan.directory else 0o755)
            if plan.directory is None:
                os.rmdir(plan.point)


def _restorable(mount: Mount) -> tuple[str, ...]:
    """Options of the file system that mount(8) takes: xfs shows some that it sets by itself, and takes those, too."""
    return tuple(option for option in mount.super_options if option not in ("rw", "ro", "seclabel"))


def _apply_units(plan: Plan, wish: Wish, device: BlockDevice) -> None:
    for item in plan.waiting:
        if item.after is None:
            remove_unit(item.name)
        elif item.before != item.after:
            write_unit(item.name, item.after.partition("\n")[2])  # it adds the header
    apply_unit(plan.unit, mount_unit(wish, device, plan.uuid) if wish.persistent else None)


def plan_unmount(point: str) -> Plan:
    """What it takes that nothing of ours is mounted there, now or at boot; the file system on the device stays.

    :raises HostmemError: it is in use, is another kind of mount, or is configured by somebody else.
    """
    present = mount_at(point)
    check_type(present, TYPES)
    unit = plan_absence(point)
    plan = Plan(
        point=point,
        wish=None,
        device=None,
        block=None,
        present=present,
        make=False,
        attach=False,
        detach=present is not None,
        directory=_directory_at(point),
        unit=unit,
        waiting=_no_waiting(unit),
    )
    _check_unused(plan, "cannot be unmounted")
    return plan


def _unmount(plan: Plan) -> None:
    for item in plan.waiting:
        remove_unit(item.name)
    apply_unit(plan.unit, None)
    if plan.detach:
        detach(plan.point)
    if plan.directory_goes:
        unguard(plan.point)
        with contextlib.suppress(OSError):  # not empty
            os.rmdir(plan.point)


def described(plan: Plan, check: bool) -> dict[str, Any]:
    """The mount for a result: as it is, or would be."""
    wish, device, found = plan.wish, plan.device, plan.found
    if wish is None or device is None:
        return {"path": plan.point, "state": "absent"}
    to_come = is_to_come(device)
    block = None if plan.make and check else super_block(device.path)
    mount = mount_at(plan.point)
    under = None if check else directory_under(plan.point)
    return {
        "path": plan.point,
        "state": "mounted",
        "device": None if to_come else device.path,
        "namespace": device.namespace or None,
        "align": device.align,
        "fstype": wish.type,
        "uuid": None if to_come else plan.uuid,
        "block_size": block.block_size if block else None,
        "dax": wish.dax,
        "options": None if mount is None else [*mount.options, *mount.super_options],
        "dax_files": found.dax if found else None,
        "map_sync": found.map_sync if found else None,
        "huge_page_share": found.huge_by_itself if found else None,
        "huge_page_share_aligned": found.huge_when_aligned if found else None,
        "guard": ("mode" if under.immutable is None else "immutable") if under and under.guarded else None,
        "unit": plan.unit.name if plan.unit.after is not None else None,
        "configured_by": plan.unit.provided_by or None,
    }


def warnings(plan: Plan) -> list[str]:
    """What is slower than it could be, in sentences."""
    if plan.found is None or not plan.found.dax:
        return []
    return warnings_about(plan.found.huge_by_itself, plan.found.huge_when_aligned)
