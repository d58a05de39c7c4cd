# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Live update by cpr-transfer (QEMU >= 10.0): the old QEMU hands the descriptors of all memory over, then the device state."""

from __future__ import annotations

import json

from .handover import set_capabilities, set_mode
from .journal import INCOMING, MIGRATING
from .paths import GenerationPaths
from .started import wait_for_qmp, wait_for_socket
from .update_attempt import Attempt, unix_channel

_CAPABILITIES = ("return-path", "events")


class Transfer(Attempt):
    """All memory stays where it is: both QEMUs map the same files."""

    def incoming(self, generation: GenerationPaths) -> list[str]:
        return ["-incoming", "defer", "-incoming", json.dumps(unix_channel("cpr", generation.cpr_socket))]

    def stays(self, block: str) -> bool:
        return True

    async def offer(self, deadline: float) -> None:
        """The old QEMU sends the descriptors; the guest still runs, since nobody has opened the main channel."""
        generation = self.qemu.generation
        await wait_for_socket(self.qemu, generation.cpr_socket, deadline)
        await set_mode(self.old_qmp, "cpr-transfer", _CAPABILITIES)
        self.write(MIGRATING)
        channels = [unix_channel("main", generation.main_socket), unix_channel("cpr", generation.cpr_socket)]
        await self.old_qmp.execute("migrate", channels=channels)
        self.connected(await wait_for_qmp(self.qemu, deadline))
        await set_capabilities(self.new, _CAPABILITIES)

    async def move(self) -> None:
        """The guest pauses as the new QEMU opens the main channel."""
        self.write(INCOMING)
        path = self.qemu.generation.main_socket
        await self.new.execute("migrate-incoming", channels=[unix_channel("main", path)], exit_on_error=False)
        pause_end = await self.paused()
        self.draw_traffic()
        await self.sent(pause_end)
        await self.loaded(pause_end)
