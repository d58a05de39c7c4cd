# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a guest needs from root before its QEMU may start: directories, RAM files, taps; and taking it all back."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from .._host.cgroups import own_groups
from .._host.files import make_directory, remove_file
from .._host.taps import TapError, ensure_tap, is_bridge, remove_tap
from .._host.users import run_as
from .backing_devices import hand_over
from .backing_files import Plan, apply_absent, apply_present, plan_absent, plan_present
from .backing_limits import Groups, check_limits, check_unit, guest_unit
from .backing_state import file_access
from .checkpoint_store import is_saved
from .config import Config
from .definition import Definition, parse_definition
from .device_names import resolved
from .errors import Refused
from .generations import living_generations, qemu_processes
from .given_devices import clear_given, clear_left, disown_opened, give_devices, given_devices
from .layout import PlacedBlock, layout
from .move_outcomes import Outcomes
from .nics import taps
from .nvdimm_files import check_nvdimm, ensure_nvdimm
from .paths import GuestPaths, guest_paths
from .saved_guest import copied_blocks, keeps_memory, refuse_kept, refuse_saved_parts, refuse_start_anew, refuse_used
from .store import StoredGuest, load_guest


def make_directories(config: Config, paths: GuestPaths) -> None:
    """The guest's own directories, 0700, of QEMU's user."""
    for parent in (config.run, config.log, config.state):
        make_directory(parent, 0o755, os.geteuid(), os.getegid())
    # Two small places that all of this host's unprivileged runtimes share.
    for shared in ("probe", "slots"):
        make_directory(f"{config.run}/.{shared}", 0o700, config.user.uid, config.user.gid)
    for directory in (paths.run, paths.log, paths.state):
        make_directory(directory, 0o700, config.user.uid, config.user.gid)


def foresee(config: Config, definition: Definition) -> None:
    """What would keep a guest that does not run from a start, as far as root can see it. Changes nothing.

    :raises Refused: as ``prepare`` would.
    """
    paths = guest_paths(config, definition.name)
    groups_of: Groups = own_groups
    if config.manager == "systemd":
        unit = guest_unit(definition.name)
        check_unit(definition, unit)
        groups_of = unit.groups_of
    if is_saved(paths):
        definition = resolved(definition)
        _plan_saved(config, paths, definition, groups_of)
    else:
        refuse_start_anew(paths, definition)
        definition = resolved(definition)
        refuse_saved_parts(config, definition)
        _plan(config, definition, groups_of)
    for nvdimm in definition.nvdimms:
        check_nvdimm(nvdimm)
    for name, bridge in taps(definition):
        if bridge and not is_bridge(bridge):
            raise _no_tap(definition, name, TapError(f"there is no bridge {bridge}"))


def prepare(config: Config, guest: StoredGuest) -> None:
    """Everything a start needs. RAM files with mode=create are empty afterwards, but for those of a saved guest.

    For a guest that runs, only its taps.

    :raises Refused: with cause and cure; files and taps of other blocks may have been made, which does no harm.
    """
    paths = guest_paths(config, guest.definition.name)
    make_directories(config, paths)
    if ensure_running_taps(config, paths):
        return
    definition = resolved(guest.definition)
    if is_saved(paths):
        _prepare_saved(config, paths, definition)
        return
    refuse_start_anew(paths, guest.definition)
    _prepare_empty(config, definition)


def prepare_arrival(config: Config, guest: StoredGuest) -> None:
    """The same for a guest that comes from another host. Nothing is filled: its pages come one by one.

    :raises Refused: as ``prepare``.
    """
    paths = guest_paths(config, guest.definition.name)
    make_directories(config, paths)
    if qemu_processes(paths) or is_saved(paths):
        raise Refused(
            f"Guest {paths.name} runs here, or is saved here.",
            cause="What comes from another host would take its place.",
            cure=f"Look with: hostmem info {paths.name}",
        )
    refuse_kept(paths, guest.definition)
    blocks = [replace(block, prealloc=False) for block in guest.definition.blocks]
    _prepare_empty(config, resolved(replace(guest.definition, blocks=blocks)))


def _prepare_empty(config: Config, definition: Definition) -> None:
    refuse_saved_parts(config, definition)
    disown_opened(config, definition)
    clear_left(config, definition)
    plan = _plan(config, definition, own_groups)
    give_devices(config, definition)
    for nvdimm in definition.nvdimms:
        ensure_nvdimm(nvdimm, config.user)
    apply_present(plan, config.user)
    ensure_taps(config, definition, taps(definition))


def _prepare_saved(config: Config, paths: GuestPaths, definition: Definition) -> None:
    """What a reboot has taken from a saved guest: its taps, its devices' owner; and files for memory that comes with its state."""
    stays, plan = _plan_saved(config, paths, definition, own_groups)
    give_devices(config, definition)
    for nvdimm in definition.nvdimms:
        ensure_nvdimm(nvdimm, config.user)
    for placed in stays:
        if placed.block.device:
            hand_over(placed.block.device, file_access(config.user))
    apply_present(plan, config.user)
    ensure_taps(config, definition, taps(definition))


def _plan_saved(
    config: Config, paths: GuestPaths, definition: Definition, groups_of: Groups
) -> tuple[list[PlacedBlock], Plan]:
    """A saved guest's memory that stayed in its place, which nobody may use; and what the rest, which comes with its state, needs of RAM files."""
    check_limits(definition, groups_of)
    copied = copied_blocks(paths)
    blocks = layout(definition)
    again = [placed for placed in blocks if placed.block.id in copied]
    stays = [placed for placed in blocks if placed not in again and (placed.path or placed.block.device)]
    for placed in stays:
        refuse_used(paths, placed)
    return stays, plan_present(again, config.user, True, given_devices(config, definition.name))


def _plan(config: Config, definition: Definition, groups_of: Groups) -> Plan:
    """What a cold start needs of RAM files and devices, when the groups that QEMU will run in let it have them."""
    check_limits(definition, groups_of)
    return plan_present(layout(definition), config.user, True, given_devices(config, definition.name))


def ensure_running_taps(config: Config, paths: GuestPaths) -> bool:
    """The taps of a guest that runs, by the definition it runs with; False when it does not run."""
    living = living_generations(paths)
    if living:
        running = parse_definition(living[-1].record["definition"])
        # The record is the unprivileged user's: root makes what root's own definition names, too.
        defined = set(taps(load_guest(paths).definition))
        ensure_taps(config, running, [tap for tap in taps(running) if tap in defined])
    return bool(living)


def ensure_taps(config: Config, definition: Definition, wanted: Iterable[tuple[str, str]]) -> bool:
    """These taps of the guest, each with its bridge; True when one was made or changed.

    :raises Refused: ip(8) failed.
    """
    changed = False
    for name, bridge in wanted:
        try:
            changed = ensure_tap(name, bridge, config.user.name) or changed
        except (TapError, OSError) as error:
            raise _no_tap(definition, name, error) from error
    return changed


def _no_tap(definition: Definition, name: str, error: Exception) -> Refused:
    return Refused(
        f"The tap {name} of guest {definition.name} cannot be made.",
        cause=str(error),
        cure="Make the bridge, or correct nics in the definition.",
    )


def release(config: Config, definition: Definition) -> None:
    """Take back what only a running guest needs: its taps, its pages in RAM files that a cold start would empty anyway, and its run directory's leftovers.

    Does nothing to a guest that runs.
    """
    paths = guest_paths(config, definition.name)
    if qemu_processes(paths):
        return
    for name, _bridge in taps(definition):
        with suppress(TapError):  # gone already, or somebody else's by now
            remove_tap(name)
    if keeps_memory(paths, definition):
        return
    for placed in layout(definition):
        if placed.block.mode == "create" and not placed.block.on_device:
            plan = plan_absent([placed])
            if plan.changed:
                apply_absent(plan)
    clear_given(config, definition)


def forget(config: Config, name: str) -> None:
    """Remove everything the runtime kept for a guest that is no longer defined; console logs included. Only moves to this host that another
    one may still ask for are kept."""
    paths = guest_paths(config, name)
    for directory in (paths.run, paths.log):
        shutil.rmtree(directory, ignore_errors=True)
    if not run_as(config.user, lambda: _forget_state(paths)):
        shutil.rmtree(paths.state, ignore_errors=True)
    remove_file(paths.definition)


def _forget_state(paths: GuestPaths) -> bool:
    """As the user whose files they are. True when something stays."""
    stays = Outcomes(paths).drop_settled()
    with suppress(FileNotFoundError), os.scandir(paths.state) as entries:
        for entry in entries:
            if entry.path == paths.arrivals and stays:
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                remove_file(entry.path)
    return stays


def describe(definition: Definition) -> list[dict[str, Any]]:
    """The layout as users see it in results."""
    return [placed.as_dict() for placed in layout(definition)]
