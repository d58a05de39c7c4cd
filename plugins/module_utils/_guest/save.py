# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Saving a guest by cpr-reboot (QEMU >= 8.2): its device state goes to a file, its memory stays where it is, its QEMU is not needed any more.

Until the checkpoint is complete and on its device the guest can go on in its QEMU, and does so after any failure; from then on
it must not, as its memory would leave the state behind.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from .._host.boot_id import boot_id
from .._host.durable import sha256_of
from .._host.filesystems import free_space
from .._host.journald import log_record
from .._host.times import in_utc
from .._host.write_rate import write_rate
from . import checkpoint_store
from .comparison import queue_sizes
from .config import Config
from .definition import Definition
from .device_sync import DeviceSync
from .disks import remember_images
from .errors import HostmemError, Refused, refuse
from .generations import Generation, forget_all
from .handover import blocked_reasons, kept_parameters
from .journal import SAVING, Journal
from .locks import VerbLock
from .manifest import Manifest, definition_digest, layout_digest
from .paths import GuestPaths, guest_paths
from .preflight import Preflight, examine
from .qmp import Qmp, connect, is_migration_over
from .recovery import recover_after, settled, unsettled_refused
from .recovery_checkpoint import dismiss
from .running_mark import unmark_running
from .saved_memory import MemoryPlan, lasting_files, plan_memory, saved_blocks, saved_nvdimms
from .saving_qemu import CHANGED, MODE, go_on, has_let_go, prepare_to_save
from .sealing import image_files, image_states, sealed
from .sizes import format_size
from .store import load_guest
from .suspend import check_suspend, needs_suspend, suspend, wake
from .update_methods import FIRST_VERSIONS

VERB_WAIT = 120.0
_AGENT_TIMEOUT = 10.0
# Seconds of the pause, for what does not grow with the memory; the rest is reckoned from what has to be copied.
_SUSPEND_TIMEOUT = 60.0
_STATE_TIMEOUT = 60.0
# Of the 60 that the journal gives: the guest goes on again before the watchdog takes this program for one that hangs.
_SEAL_TIMEOUT = 50.0
_SLOWEST = 8 << 20  # bytes per second
_DEVICES = 16 << 20  # bytes of state, more than the devices of any guest seen (0.3 MiB)


@dataclass(frozen=True)
class SaveOptions:
    """``full``: memory that ends with QEMU is copied into the state. ``sync_limit``: seconds for bringing the memory that stays to its
    device before the guest is paused, None for as long as it takes; what is left of it is brought there in the pause, in no more time.
    """

    full: bool = False
    check: bool = False
    sync_limit: float | None = None


async def save(config: Config, name: str, options: SaveOptions) -> dict[str, Any]:
    """Save a running guest, and end its QEMU.

    :raises Refused: it cannot be done; the guest was not paused.
    :raises HostmemError: it failed; the guest runs on.
    """
    paths = guest_paths(config, name)
    # Another one may be bringing memory to its device as long as this one may.
    async with VerbLock(paths, VERB_WAIT + (options.sync_limit or 0.0)):
        living = unsettled_refused(paths) if options.check else await settled(paths)
        if not living:
            return _saved_already(paths)
        try:
            qmp = await connect(living[0].paths.qmp)
            try:
                return await _save(paths, living[0], qmp, options)
            finally:
                await qmp.close()  # it serves one at a time: recovery asks by itself
        except Exception as error:
            await recover_after(paths, error)
            raise


def _saved_already(paths: GuestPaths) -> dict[str, Any]:
    manifest = checkpoint_store.load(paths)
    if manifest is None:
        raise Refused(f"Guest {paths.name} does not run.", cure="Start it first.")
    return {"changed": False, "how": "saved already", "saved": saved_facts(manifest)}


def saved_facts(manifest: Manifest) -> dict[str, Any]:
    """A checkpoint as results show it; ``at`` in UTC, sizes in bytes."""
    return {
        "at": in_utc(manifest.saved_at),
        "generation": manifest.generation,
        "qemu": manifest.qemu,
        "state_bytes": manifest.state_size,
        "copied_bytes": manifest.copied_bytes,
        "in_place_bytes": manifest.in_place_bytes,
        "was_running": manifest.was_running,
    }


async def _save(paths: GuestPaths, old: Generation, qmp: Qmp, options: SaveOptions) -> dict[str, Any]:
    began = time.monotonic()
    found = await examine(old, qmp)
    plan = plan_memory(found.definition, old.record["ram_blocks"])
    state_bytes = _DEVICES + plan.copied_bytes + _auxiliary_bytes(found, plan)
    if not plan.ignore_shared:
        state_bytes += sum(nvdimm.size for nvdimm in found.definition.nvdimms)
    rate = write_rate(paths.state) if plan.why else 0.0
    stored = load_guest(paths).definition
    found.blockers += [*_blockers(paths, found, plan, state_bytes, rate, options.full), *_pending(stored, found)]
    for reason in await blocked_reasons(qmp, MODE):
        found.block("QEMU refuses to save this guest.", reason, "Remove the device, or power the guest down.")
    await _check_sleep(found, qmp)
    refuse(found.blockers)
    attempt = _Save(paths, found, plan, qmp, options.sync_limit)
    if options.check:
        would = attempt.foreseen()
        return {"changed": True, "would": {**would, "seconds": round(would["copied_bytes"] / rate, 1) if rate else 0.0}}
    manifest = await attempt.run()
    await dismiss(old, qmp)
    forget_all(paths)
    unmark_running(paths)
    log_record(f"Guest {paths.name} saved", guest=paths.name, generation=old.number, event="save")
    return {
        "changed": True,
        "how": "saved",
        "saved": saved_facts(manifest),
        "seconds": round(time.monotonic() - began, 3),
    }


async def _check_sleep(found: Preflight, qmp: Qmp) -> None:
    """A guest with vfio devices has to sleep while it is saved."""
    if found.status not in ("running", "paused", "suspended"):
        found.block(f"Guest {found.definition.name} is {found.status}.", cure="Bring it to run first.")
    elif needs_suspend(found.live):
        try:
            deadline = time.monotonic() + _AGENT_TIMEOUT
            await check_suspend(found.generation.paths, qmp, found.definition, deadline)
        except Refused as refusal:
            found.blockers.append(refusal)


def _auxiliary_bytes(found: Preflight, plan: MemoryPlan) -> int:
    """Video memory and ROMs: always in the state."""
    own = {placed.block.id for placed in plan.blocks} | {nvdimm.id for nvdimm in found.definition.nvdimms}
    return sum(size for name, size in found.live["ram_blocks"].items() if name not in own)


def _blockers(
    paths: GuestPaths, found: Preflight, plan: MemoryPlan, state_bytes: int, rate: float, full: bool
) -> Iterator[Refused]:
    name = found.definition.name
    if found.running_version < FIRST_VERSIONS[MODE]:
        version = ".".join(map(str, found.running_version))
        yield Refused(f"QEMU {version} knows no cpr-reboot.", "It came with QEMU 8.2.", "Power the guest down instead.")
    if plan.why and not full:
        seconds = f"{plan.copied_bytes / rate:.0f} s"
        for identifier, reason in plan.why.items():
            yield Refused(
                f"Memory block {identifier} of guest {name} does not outlive its QEMU.",
                f"{reason[:1].upper()}{reason[1:]}.",
                f"Save it in full: {format_size(plan.copied_bytes)} would be written, about {seconds} in which the guest stands still.",
            )
    free = free_space(paths.state)
    if free < state_bytes:
        yield Refused(
            f"{paths.state} has {format_size(free)} free, too few for the state of guest {name} ({format_size(state_bytes)} at most).",
            cure="Make room there.",
        )


def _pending(stored: Definition, found: Preflight) -> Iterator[Refused]:
    """Before a restore root prepares by the definition on the host, which is ``stored``."""
    if layout_digest(stored) != layout_digest(found.definition):
        yield Refused(
            f"The definition of guest {found.definition.name} has been changed in its memory, NVDIMMs or NICs since the guest's start.",
            "What is made for a saved guest when it comes back is what the definition says.",
            "Define the guest as it runs, or restart it.",
        )


class _Save:
    """One attempt."""

    def __init__(
        self, paths: GuestPaths, found: Preflight, plan: MemoryPlan, qmp: Qmp, sync_limit: float | None
    ) -> None:
        """Looks at everything that is saved.

        :param sync_limit: as in SaveOptions.
        :raises OSError: a file cannot be looked at.
        """
        self._paths = paths
        self._found = found
        self._old = found.generation
        self._plan = plan
        self._blocks = [*saved_blocks(plan), *saved_nvdimms(found.definition, plan)]
        self._files = lasting_files(found.definition, plan)
        self._images = image_files(found.live["disks"])
        self._qmp = qmp
        self._was_running = found.status in ("running", "suspended")
        self._wake = found.status == "running" and needs_suspend(found.live)
        self._asleep = found.status == "suspended" or self._wake
        self._copied_bytes = sum(block.size for block in self._blocks if block.copied)
        copying = self._copied_bytes / _SLOWEST
        self._sync_limit = sync_limit
        self._state_timeout = _STATE_TIMEOUT + copying
        self._seal_timeout = min(_SEAL_TIMEOUT, sync_limit if sync_limit is not None else _SEAL_TIMEOUT) + copying
        self._max_pause = _SUSPEND_TIMEOUT + _STATE_TIMEOUT + 2 * copying
        self._journal = Journal(paths)

    def foreseen(self) -> dict[str, Any]:
        """What is known beforehand of ``saved_facts``."""
        return {
            "generation": self._old.number,
            "qemu": self._qemu(),
            "copied_bytes": self._copied_bytes,
            "in_place_bytes": sum(block.size for block in self._blocks) - self._copied_bytes,
            "was_running": self._was_running,
        }

    def _qemu(self) -> dict[str, str]:
        version = ".".join(str(part) for part in self._found.running_version)
        return {"version": version, "package": self._found.running_package}

    async def run(self) -> Manifest:
        """:raises HostmemError: the guest runs on."""
        memory = DeviceSync(
            f"The memory of guest {self._paths.name}", self._sync_limit, "Raise hypervisor_save_timeout."
        )
        await memory.sync(self._files)
        kept = await kept_parameters(self._qmp, CHANGED)
        facts = {
            "generation": self._old.number,
            "was_running": self._was_running,
            "wake": self._wake,
            "asleep": self._asleep,
            "files": self._files,
        }
        self._journal.write(SAVING, **facts, parameters=kept, max_pause=self._max_pause)
        try:
            directory = checkpoint_store.begin(self._paths)
            draft = self._draft(await queue_sizes(self._qmp))
            if self._asleep:
                checkpoint_store.keep_draft(self._paths, draft)
            if self._wake:
                await suspend(self._old.paths, self._qmp, time.monotonic() + _SUSPEND_TIMEOUT)
            await self._migrate(checkpoint_store.state_path(directory))
            manifest = await self._sealed(directory, draft)
        except BaseException as error:
            if not checkpoint_store.is_saved(self._paths):
                await self._take_back(error, kept)
            raise
        self._journal.clear()
        return manifest

    async def _take_back(self, error: BaseException, kept: dict[str, Any]) -> None:
        """The guest goes on, unless it sleeps and cannot: its save is finished by recovery, which reads the journal."""
        if self._asleep and await has_let_go(self._qmp):
            return
        await go_on(self._qmp, self._was_running, kept)
        if self._wake:
            await wake(self._qmp)
        checkpoint_store.abandon(self._paths, self._found.definition)
        self._journal.clear()
        log_record(
            f"Guest {self._paths.name} not saved: {error}",
            4,
            guest=self._paths.name,
            generation=self._old.number,
            event="save-failed",
        )

    async def _migrate(self, state: str) -> None:
        """The pause begins: QEMU stops the vCPUs before it writes (mode cpr-reboot, docs/devel/migration/CPR.rst)."""
        await prepare_to_save(self._qmp, self._plan.ignore_shared)
        await self._qmp.execute("migrate", uri=f"file:{state}")
        deadline = time.monotonic() + self._state_timeout
        over = await self._qmp.wait_event(is_migration_over, deadline)
        # QEMU tells that it has completed before it has come to rest.
        while over == "completed" and (status := await self._qmp.status()) == "finish-migrate":
            if time.monotonic() >= deadline:
                break
            await asyncio.sleep(0.002)
        if over != "completed" or status != "postmigrate":
            answer = await self._qmp.migration()
            raise HostmemError(
                f"QEMU did not save guest {self._paths.name}.",
                cause=str(answer.get("error-desc") or f"The migration to {state} is {answer.get('status')}."),
                cure="Look for space and load on the host. The guest runs on.",
            )

    async def _sealed(self, directory: str, draft: Manifest) -> Manifest:
        """Everything to its device, the name last."""
        checkpoint = self._device_sync(self._seal_timeout)
        state = checkpoint_store.state_path(directory)
        _none, (size, digest) = await asyncio.gather(
            checkpoint.sync([state, *self._files, *self._images]), asyncio.to_thread(sha256_of, state)
        )
        manifest = self._manifest(draft, size, digest)
        remember_images(self._paths, self._found.definition, self._found.images)
        await checkpoint.sync(checkpoint_store.complete(self._paths, manifest))
        if not self._old.alive.alive():
            raise HostmemError(
                f"QEMU of guest {self._paths.name} ended while the guest was saved.",
                cause="What it wrote until then is not taken for a checkpoint.",
                cure=f"See what it said ({self._old.paths.output}), and start the guest anew.",
            )
        checkpoint.check_time()
        checkpoint_store.commit(self._paths)
        # From here on nothing brings the guest back, so that its name has a time of its own.
        await self._device_sync(_SEAL_TIMEOUT).sync([self._paths.state])
        return manifest

    def _device_sync(self, limit: float) -> DeviceSync:
        return DeviceSync(f"The checkpoint of guest {self._paths.name}", limit, "See the kernel's log (dmesg).")

    def _draft(self, queues: dict[str, int]) -> Manifest:
        """All that is known before QEMU writes the state."""
        record = self._old.record
        return Manifest(
            guest=self._paths.name,
            token=os.urandom(8).hex(),
            saved_at=time.time(),
            boot_id=boot_id(),
            generation=self._old.number,
            was_running=self._was_running,
            wake=self._wake,
            qemu=self._qemu(),
            definition=record["definition"],
            defined=definition_digest(load_guest(self._paths).definition),
            layout=layout_digest(self._found.definition),
            argv=record["argv"],
            inventory=self._found.live,
            queue_sizes=queues,
            images=image_states(self._images),
            blocks=self._blocks,
            ignore_shared=self._plan.ignore_shared,
            state_size=0,
            state_sha256="",
        )

    def _manifest(self, draft: Manifest, size: int, digest: str) -> Manifest:
        """:raises Refused: the definition has been changed since the save began."""
        stored = load_guest(self._paths).definition
        refuse(list(_pending(stored, self._found)))
        return sealed(replace(draft, defined=definition_digest(stored)), size, digest)
