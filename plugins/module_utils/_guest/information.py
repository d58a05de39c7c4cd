# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is known of a guest: which QEMU carries it, where its memory lies, whether and why a live update is due or impossible."""

from __future__ import annotations

from typing import Any

from .._host.processes import mapping_flags
from .._host.times import in_utc
from .checkpoint_checks import look, refuse_evident
from .config import Config
from .definition import Definition, parse_definition
from .disks import followed_images
from .errors import Busy, CommandRefused, HostmemError
from .firmware import changed_firmware
from .generations import Generation, living_generations
from .host_goes_down import last_shutdown
from .inventory import mapped_file, ram_blocks
from .lasting_checks import lost_by_reboot
from .locks import VerbLock
from .move_progress import move_under_way
from .outdated import outdated_reasons
from .paths import GuestPaths, guest_paths
from .preflight import preflight
from .qmp import Qmp, connect
from .resources import describe
from .restore import saved
from .same_definition import is_same
from .save import saved_facts
from .saved_guest import refuse_start_anew
from .store import StoredGuest, load_guest
from .unforeseen import as_hostmem_error
from .update_methods import blockers


async def information(config: Config, name: str) -> dict[str, Any]:
    """Read only, but for the moment in which QEMU tells its blockers; a guest that a verb works on is reported as busy.

    :raises HostmemError: the guest is not defined here.
    """
    paths = guest_paths(config, name)
    guest = load_guest(paths)
    facts: dict[str, Any] = {
        "changed": False,
        "state": "stopped",
        "definition": guest.definition.as_dict(),
        "layout": describe(guest.definition),
        "last_shutdown": last_shutdown(paths),
    }
    try:
        async with VerbLock(paths):
            living = living_generations(paths)
            if living:
                facts.update(await _running(config, paths, guest, living[-1]))
            else:
                facts.update(_not_running(config, paths, guest.definition))
    except FileNotFoundError:  # not started since the host's boot: there is no run directory yet
        facts.update(_not_running(config, paths, guest.definition))
    except Busy:
        facts["state"] = "busy"
        facts.update(move_under_way(paths))
    if "lost_by_reboot" not in facts:  # of a QEMU that answers, or a checkpoint, it was told already
        facts["lost_by_reboot"] = lost_by_reboot(config, guest.definition)
    return facts


def _not_running(config: Config, paths: GuestPaths, definition: Definition) -> dict[str, Any]:
    """Of a guest that no QEMU carries: what is saved of it, and whether that can be restored here and now; or why it would not start.

    The state, which may be as large as the guest, is not read.
    """
    try:
        manifest = saved(paths)
    except HostmemError as error:
        return {"state": "saved", "checkpoint": {"restorable": False, "error": error.as_dict()}}
    if manifest is None:
        return _start_refused(paths, definition)
    facts: dict[str, Any] = {"state": "saved", "checkpoint": {**saved_facts(manifest), "restorable": True}}
    copied = {block.id for block in manifest.blocks if block.copied}
    try:
        facts["lost_by_reboot"] = lost_by_reboot(config, parse_definition(manifest.definition), copied)
        refuse_evident(look(config, paths, manifest), older=False)
    except HostmemError as error:
        facts["checkpoint"].update({"restorable": False, "error": error.as_dict()})
    return facts


def _start_refused(paths: GuestPaths, definition: Definition) -> dict[str, Any]:
    """Nothing when the memory of a guest that is off forbids no start."""
    try:
        refuse_start_anew(paths, definition)
    except (HostmemError, OSError) as error:  # a guarded mount point that nothing is mounted on may not be read
        return {"start_refused": as_hostmem_error(error).as_dict()}
    return {}


async def _running(config: Config, paths: GuestPaths, guest: StoredGuest, generation: Generation) -> dict[str, Any]:
    try:
        qmp = await connect(generation.paths.qmp)
    except HostmemError as error:
        return {
            "state": "silent",
            "generation": generation.number,
            "pid": generation.alive.pid,
            "error": error.as_dict(),
        }
    try:
        return await _facts(config, paths, guest, generation, qmp)
    finally:
        await qmp.close()


async def _facts(
    config: Config, paths: GuestPaths, guest: StoredGuest, generation: Generation, qmp: Qmp
) -> dict[str, Any]:
    found = await preflight(config, generation, qmp)
    reasons = outdated_reasons(found, generation.alive)
    firmware = await _firmware(qmp, generation.alive.pid, found.installed.data_directories)
    return {
        "state": found.status,
        "generation": generation.number,
        "pid": generation.alive.pid,
        "qemu": {
            "running": {
                "version": ".".join(str(part) for part in found.running_version),
                "package": found.running_package,
            },
            "installed": found.installed.as_dict(),
        },
        "outdated": bool(reasons),
        "outdated_reasons": reasons,
        "firmware_outdated_until_restart": None if firmware is None else bool(firmware),
        "firmware_changed": firmware or [],
        "ram_blocks": await _ram_blocks(qmp, generation.alive.pid, found.definition),
        "live_update_blockers": [blocker.as_dict() for blocker in await blockers(found, qmp)],
        "definition_pending": not is_same(generation.record.get("definition"), guest.definition),
        "followed_disks": followed_images(paths, guest.definition),
        "lost_by_reboot": lost_by_reboot(config, found.definition),
        "restored": _restored(generation.record),
        "run_directory": generation.paths.directory,
        "log_directory": generation.paths.log_directory,
    }


def _restored(record: dict[str, Any]) -> dict[str, Any]:
    """How long the guest was saved before this QEMU, by the host's clock; empty when it was started anew or updated live since."""
    times = record.get("restored")
    if not times:
        return {}
    return {"saved_at": in_utc(times["saved_at"]), "asleep_seconds": round(times["at"] - times["saved_at"], 3)}


async def _firmware(qmp: Qmp, pid: int, directories: list[str]) -> list[str] | None:
    """Firmware files other than what is in the guest's ROMs; None where nobody may read those (kernel.yama.ptrace_scope=3)."""
    try:
        return await changed_firmware(qmp, pid, await ram_blocks(qmp), directories)
    except (OSError, CommandRefused):
        return None


async def _ram_blocks(qmp: Qmp, pid: int, definition: Definition) -> list[dict[str, Any]]:
    """``map_sync`` is looked for only where it was asked for: the kernel walks all page tables to tell it."""
    persistent = {block.id for block in definition.blocks if block.pmem}
    persistent |= {nvdimm.id for nvdimm in definition.nvdimms if nvdimm.pmem}
    found = []
    for block in await ram_blocks(qmp):
        address = block.pop("address")
        mapped = mapped_file(pid, address) or {"path": "", "shared": False}
        map_sync = block["name"] in persistent and "sf" in mapping_flags(pid, address)
        found.append({**block, "file": mapped["path"], "shared": bool(mapped["shared"]), "map_sync": map_sync})
    return found
