# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Guests that have to sleep (S3) while they are saved: those with vfio devices.

Their drivers put the device into the state in which it is after a reboot of the host, and QEMU refuses to save them otherwise
(docs/devel/migration/CPR.rst; vfio_cpr_reboot_notifier() in hw/vfio/cpr.c, QEMU 9.0 to 11.1).
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from .._host.journald import log_record
from .._host.service_manager import still_at_work
from .definition import Definition
from .errors import CommandRefused, HostmemError, Refused
from .guest_agent import GuestAgent, connect_agent
from .inventory import children
from .paths import GenerationPaths
from .qmp import Qmp

_COMMAND = "guest-suspend-ram"
_POLL = 0.05
# Where the machine keeps what it is made of, and what has ACPI's sleep states there: Q35, and i440FX.
_CHIPSETS = "/machine/unattached"
_POWER_MANAGEMENT = ("child<ICH9-LPC>", "child<PIIX4_PM>")
_WAKE_TIMEOUT = 60.0


def needs_suspend(inventory: dict[str, Any]) -> bool:
    """Whether one of the guest's devices (inventory.py) is a vfio device."""
    types = [*inventory["devices"].values(), *inventory["nameless_devices"]]
    return any(kind.startswith("child<vfio-") for kind in types)


async def check_suspend(paths: GenerationPaths, qmp: Qmp, definition: Definition, deadline: float) -> None:
    """Whether the guest could be suspended and woken; nothing happens to it. ``deadline`` as time.monotonic().

    :raises Refused: it could not.
    """
    status = await qmp.status()
    if status == "suspended":
        return
    if status != "running":
        raise Refused(
            f"Guest {definition.name} is {status}: it cannot suspend itself.",
            cure="Let it run, or suspend it before.",
        )
    await _refuse_without_s3(qmp, definition.name)
    agent = await connect_agent(paths, deadline)
    try:
        await _check_agent(agent, definition.name, deadline)
    finally:
        await agent.close()
    if definition.kernel is not None and is_elf(definition.kernel.image):
        raise Refused(
            f"Guest {definition.name} would not wake but boot anew.",
            cause=f"Its kernel {definition.kernel.image} is an ELF file, which QEMU loads again, over the guest's memory, at each wake-up.",
            cure="Use a bzImage (vmlinuz), or boot from a disk.",
        )


async def _refuse_without_s3(qmp: Qmp, name: str) -> None:
    """A Linux guest would freeze (s2idle) instead, which QEMU neither sees nor ends."""
    for child, kind in (await children(qmp, _CHIPSETS)).items():
        if kind in _POWER_MANAGEMENT and await qmp.execute(
            "qom-get", path=f"{_CHIPSETS}/{child}", property="disable_s3"
        ):
            raise Refused(
                f"Guest {name} cannot be suspended to RAM.",
                cause="Its machine has S3 switched off (disable_s3).",
                cure="Take that out of the definition's arguments, and restart the guest.",
            )


async def _check_agent(agent: GuestAgent, name: str, deadline: float) -> None:
    try:
        known = (await agent.execute("guest-info", deadline))["supported_commands"]
    except HostmemError as error:
        raise Refused(error.message, error.cause, error.cure) from error
    if not any(item["name"] == _COMMAND and item["enabled"] for item in known):
        raise Refused(
            f"The agent in guest {name} does not suspend it.",
            cause=f"{_COMMAND} is missing or switched off there.",
            cure="See the agent's options (block-rpcs, allow-rpcs).",
        )


async def suspend(paths: GenerationPaths, qmp: Qmp, deadline: float) -> bool:
    """Let the guest suspend itself to RAM. True when it was this that made it sleep. ``deadline`` as time.monotonic().

    :raises Refused: it will not; it runs on.
    :raises HostmemError: it has not done it in time, and may still do.
    """
    if await qmp.status() == "suspended":
        return False
    agent = await connect_agent(paths, deadline)
    # There is no answer but an error: a guest that sleeps gives none.
    reply = asyncio.ensure_future(agent.execute(_COMMAND, deadline))
    try:
        while time.monotonic() < deadline:
            if await qmp.status() == "suspended":
                return True
            if reply.done() and isinstance(reply.exception(), CommandRefused):
                refused = reply.exception()
                raise Refused(
                    "The guest did not suspend itself.",
                    cause=str(getattr(refused, "cause", refused)),
                    cure="See its kernel's log for what keeps it awake (journalctl -k), then try again.",
                )
            await asyncio.sleep(_POLL)
    finally:
        reply.cancel()
        await asyncio.gather(reply, return_exceptions=True)
        await agent.close()
    raise HostmemError(
        "The guest has not suspended itself in time.",
        cause="A driver or program in it may have kept it from that, or it sleeps in a way that QEMU does not see (s2idle).",
        cure="See its kernel's log, and that /sys/power/mem_sleep in it says deep. If it sleeps later, wake it: QMP system_wakeup.",
    )


async def wake(qmp: Qmp) -> None:
    """Wake a guest that sleeps, and wait until it runs. One that has been restored sleeps once QEMU was told to continue.

    :raises HostmemError: it does not wake.
    """
    deadline = time.monotonic() + _WAKE_TIMEOUT
    if await qmp.status() == "suspended":
        await qmp.execute("system_wakeup")
    while (status := await qmp.status()) != "running":
        if time.monotonic() >= deadline:
            raise HostmemError(f"The guest does not wake: it is {status}.", cure="Wake it: QMP system_wakeup.")
        still_at_work()
        await asyncio.sleep(_POLL)


async def wake_or_tell(name: str, qmp: Qmp) -> None:
    """The same for a guest that has arrived: one that sleeps on is no reason to take anything back."""
    try:
        await wake(qmp)
    except HostmemError as error:
        log_record(f"Guest {name}: {error}", 3, guest=name, event="not-woken")


def is_elf(path: str) -> bool:
    """Whether a kernel is an ELF file, which QEMU loads by its PVH note (x86_load_linux() in hw/i386/x86-common.c)."""
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False
