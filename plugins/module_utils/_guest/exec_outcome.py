# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who has the guest when a QEMU was told to replace itself (cpr-exec), from evidence alone; the same for the update and a recovery.

Three parts: the old QEMU, the heir (the new program in the same process), and a standby, a QEMU beside them that maps all of the
guest's memory. The device state in the standby's directory is removed before anybody continues the guest. So while that file
exists the guest has not run since, and the standby may load it when the process is gone.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from dataclasses import dataclass

from .._host.files import read_json
from .._host.journald import log_record
from .._host.processes import Process, command_line
from .errors import HostmemError
from .handover import cancel, end
from .inventory import mapped_files, ram_blocks
from .io_limits import carry_over
from .paths import GenerationPaths, GuestPaths
from .qemu_process import QemuProcess, qemu_output
from .qmp import Qmp, connect
from .started import wait_for_qmp
from .update_attempt import unix_channel

MODE = "cpr-exec"
_POLL = 0.002
# Seconds beyond the allowed pause in which somebody must have the guest.
_GRACE = 8.0
# Of a migration by which no QEMU is going to replace itself (any more).
_OVER = ("none", "cancelled", "failed")


class GuestLost(HostmemError):
    """No QEMU has the guest, and none can load it."""


@dataclass(frozen=True)
class Cast:
    """The parts: generations by number; ``process`` is the old QEMU's and the heir's."""

    paths: GuestPaths
    old: int
    heir: int
    standby: int
    process: Process | None
    standby_process: Process | None

    @property
    def state(self) -> str:
        """The file of device state."""
        return self.paths.generation(self.standby).device_state


@dataclass(frozen=True)
class Winner:
    """The generation that has the guest, and an open connection to it."""

    number: int
    qmp: Qmp


async def outcome(cast: Cast, deadline: float, old_qmp: Qmp | None = None) -> Winner:
    """Wait until it is certain who has the guest, and let the standby load it when nobody else has. Continues nobody.

    :param deadline: monotonic; then what can be called off is called off.
    :param old_qmp: an open connection to the old QEMU.
    :raises GuestLost: nobody has it.
    :raises HostmemError: a QEMU hangs.
    """
    if cast.process is not None:
        winner = await _of_process(cast, cast.process, deadline, _OldQemu(cast.paths.generation(cast.old), old_qmp))
        if winner is not None:
            return winner
    return Winner(cast.standby, await _standby(cast))


class _OldQemu:
    """What the old QEMU answers, as long as it does."""

    def __init__(self, generation: GenerationPaths, qmp: Qmp | None) -> None:
        self._generation = generation
        self._qmp = qmp

    async def qmp(self) -> Qmp:
        if self._qmp is None:
            self._qmp = await connect(self._generation.qmp)
        return self._qmp

    async def status(self) -> str:
        """Of the migration by which it replaces itself; empty when it does not answer, as during that."""
        try:
            qmp = await self.qmp()
            if (await qmp.execute("query-migrate-parameters")).get("mode") != MODE:
                return "none"
            return str((await qmp.migration()).get("status", "none"))
        except HostmemError:
            self._qmp = None
            return ""

    async def cancel(self) -> None:
        try:
            await cancel(await self.qmp())
        except HostmemError:  # it may replace itself just now
            self._qmp = None


async def _of_process(cast: Cast, process: Process, deadline: float, old: _OldQemu) -> Winner | None:
    """The old QEMU, if it goes on as it is; the heir, if it loads the guest; None when the process is gone."""
    heir = cast.paths.generation(cast.heir)
    last = max(deadline, time.monotonic()) + _GRACE
    while process.alive():
        if replaced(process, heir):
            return await _heir(cast, process, max(deadline, time.monotonic() + 0.2))
        if await old.status() in _OVER:
            return Winner(cast.old, await old.qmp())
        if time.monotonic() >= last:
            raise HostmemError(
                f"The old QEMU (process {process.pid}) neither replaces itself nor goes on.",
                cure="See dmesg; the guest stays paused until it is known who has it.",
            )
        if time.monotonic() >= deadline:
            await old.cancel()
        await asyncio.sleep(_POLL)
    return None


def replaced(process: Process, heir: GenerationPaths) -> bool:
    """Whether the process runs the new program already: the kernel shows its arguments then."""
    return f"unix:{heir.qmp},server=on,wait=off" in command_line(process.pid)


async def _heir(cast: Cast, process: Process, deadline: float) -> Winner | None:
    """The heir, once it has loaded the guest; None when it cannot and is ended, as it has not run the guest yet."""
    heir = cast.paths.generation(cast.heir)
    qmp: Qmp | None = None
    try:
        qmp = await wait_for_qmp(QemuProcess(heir, process), deadline)
        await _load_file(qmp, heir, cast.state, deadline)
        await _verify(qmp, heir, process)
        return Winner(cast.heir, qmp)
    except HostmemError as error:
        if qmp is not None:
            await qmp.close()
        if not os.path.exists(cast.state):  # it may have run the guest: nobody else must
            raise
        log_record(
            f"Guest {cast.paths.name}: the QEMU that replaced itself cannot go on: {error}",
            4,
            guest=cast.paths.name,
            event="exec-failed",
            generation=cast.heir,
        )
        await end(process)
        return None


async def _load_file(qmp: Qmp, heir: GenerationPaths, state: str, deadline: float) -> None:
    if await _load_status(qmp) == "none":
        record = read_json(heir.record) or {}
        await carry_over(record.get("inventory", {}).get("io_limits", {}), qmp)
        await qmp.execute("migrate-incoming", uri=f"file:{state}", exit_on_error=False)
    await _loaded(qmp, heir, deadline)


async def _load_status(qmp: Qmp) -> str:
    return str((await qmp.migration()).get("status", "none"))


async def _loaded(qmp: Qmp, generation: GenerationPaths, deadline: float) -> None:
    """Wait for the end of the load; afterwards the guest is there, paused (or runs already, when a recovery comes late)."""
    while (status := await _load_status(qmp)) in ("none", "setup", "active"):
        if time.monotonic() >= deadline:
            raise HostmemError(
                "QEMU did not finish loading in time.",
                cure="Update the guest when its host has less to do, or let the pause be longer (max_pause).",
                qemu=qemu_output(generation),
            )
        await asyncio.sleep(_POLL)
    if status != "completed" or await qmp.status() not in ("paused", "running"):
        reason = (await qmp.migration()).get("error-desc", status)
        raise HostmemError(
            f"QEMU could not load the guest: {reason}.",
            cure="Update it by another method, or restart it in the new QEMU.",
            qemu=qemu_output(generation),
        )


async def _verify(qmp: Qmp, heir: GenerationPaths, process: Process) -> None:
    """All memory must lie in the very files that were compared before: by device and inode."""
    record = read_json(heir.record) or {}
    wanted = {block["name"]: _key(block["file"]) for block in record.get("ram_blocks", []) if block["name"]}
    real = {name: _key(file) for name, file in mapped_files(process.pid, await ram_blocks(qmp)).items() if name}
    if real != wanted:
        names = sorted(name for name in {*real, *wanted} if real.get(name) != wanted.get(name))
        raise HostmemError(
            f"RAMBlocks lie elsewhere in the new QEMU: {', '.join(names)}.",
            cause="Their files are not those that the running QEMU has mapped.",
            cure="See whether somebody replaced them, or mounted something over their directory; or restart the guest.",
        )


def _key(file: dict[str, object] | None) -> tuple[object, object] | None:
    return (str(file["device"]), file["inode"]) if file else None


async def _standby(cast: Cast) -> Qmp:
    """Let the standby load the guest, whose memory it has."""
    generation = cast.paths.generation(cast.standby)
    if cast.standby_process is None or not cast.standby_process.alive() or not os.path.exists(cast.state):
        raise GuestLost(
            f"Guest {cast.paths.name} is lost: the QEMU that carried it is gone.",
            cause="It ended when it replaced itself, and nobody stands by who could go on."
            if cast.standby_process is None or not cast.standby_process.alive()
            else "It ended before its device state was saved, or after it went on.",
            cure="Start the guest anew.",
            qemu=qemu_output(cast.paths.generation(cast.heir)),
        )
    qmp = await connect(generation.qmp)
    try:
        if await _load_status(qmp) == "none":
            channel = unix_channel("main", generation.main_socket)
            await qmp.execute("migrate-incoming", channels=[channel], exit_on_error=False)
            await _feed(cast.state, generation.main_socket)
        await _loaded(qmp, generation, time.monotonic() + _GRACE)
    except HostmemError as error:
        await qmp.close()
        raise GuestLost(
            f"Guest {cast.paths.name} is lost: the QEMU that carried it is gone, and the one that stood by cannot load it.",
            cause=" ".join(text for text in (error.message, error.cause) if text),
            cure="Start the guest anew.",
            qemu=error.qemu,
        ) from error
    return qmp


async def _feed(state: str, path: str) -> None:
    """Send the device state to a QEMU in the mode cpr-transfer, which takes no file ("requires streamable transport")."""
    with open(state, "rb") as file:
        content = file.read()
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.setblocking(False)
        try:
            await loop.sock_connect(connection, path)
            await asyncio.wait_for(loop.sock_sendall(connection, content), _GRACE)
        except (OSError, asyncio.TimeoutError) as error:
            raise HostmemError(
                "The device state could not be sent.",
                cause=str(error) or "It took too long.",
                cure="Start the guest anew.",
            ) from error
