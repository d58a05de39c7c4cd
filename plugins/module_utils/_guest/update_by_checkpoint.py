# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Live update by cpr-reboot (QEMU >= 8.2): device state and auxiliary RAM through a file, RAM in shared files stays where it is.

For guests that cpr-transfer cannot take: without aux-ram-share, in a QEMU before 10.0, or on the way back to an older one.
"""

from __future__ import annotations

from .._host.files import remove_file
from .handover import set_mode
from .journal import INCOMING, MIGRATING
from .paths import GenerationPaths
from .saving_qemu import MODE, load_state
from .started import wait_for_qmp
from .update_attempt import Attempt
from .update_methods import stays

_CAPABILITIES = ("events", "x-ignore-shared")


class Checkpoint(Attempt):
    """The state lies in the new generation's directory, and is of no use to anybody else: the guest may have run since."""

    def incoming(self, generation: GenerationPaths) -> list[str]:
        return ["-incoming", "defer"]

    def stays(self, block: str) -> bool:
        return block in stays(self.found.definition)

    async def offer(self, deadline: float) -> None:
        self.connected(await wait_for_qmp(self.qemu, deadline))
        self.write(MIGRATING)
        for qmp in (self.old_qmp, self.new):
            await set_mode(qmp, MODE, _CAPABILITIES)

    async def move(self) -> None:
        """The guest pauses as the old QEMU begins to save."""
        self.write(INCOMING)
        uri = f"file:{self.qemu.generation.device_state}"
        await self.old_qmp.execute("migrate", uri=uri)
        pause_end = await self.paused()
        self.draw_traffic()
        await self.sent(pause_end)
        await self.of_new(load_state(self.new, uri, self.found.installed.version), pause_end)
        await self.loaded(pause_end)

    async def before_continuing(self) -> None:
        remove_file(self.qemu.generation.device_state)
