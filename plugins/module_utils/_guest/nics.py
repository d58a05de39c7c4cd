# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The taps behind a guest's NICs. Each NIC has two, in the same bridge, which the generations use in turn.

Two QEMUs cannot share one: a new QEMU sets the length of the virtio header and the offloads when it opens a tap, and these
belong to the whole interface (tun_chr_ioctl(), drivers/net/tun.c). The running guest's network would be broken from that
moment, and for ever when the update is called off.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

from .._host.taps import TapError, announce, bridge_delay, open_queues
from .arguments import tap_placeholder
from .definition import Definition, Nic
from .errors import Refused

SLOTS = ("a", "b")


def tap_names(nic: Nic) -> list[str]:
    """Both taps of a NIC; none without a tap."""
    return [tap_name(nic, slot) for slot in range(len(SLOTS))] if nic.type == "tap" else []


def tap_name(nic: Nic, slot: int) -> str:
    """The tap that a generation with this slot uses."""
    return f"{nic.tap}.{SLOTS[slot]}"


def taps(definition: Definition) -> Iterator[tuple[str, str]]:
    """All taps of a guest, each with its bridge."""
    for nic in definition.nics:
        for name in tap_names(nic):
            yield name, nic.bridge


def slow_bridges(definition: Definition) -> list[tuple[str, float]]:
    """Bridges whose new ports do not forward at once, with the seconds they wait."""
    delays = {nic.bridge: bridge_delay(nic.bridge) for nic in definition.nics if nic.bridge}
    return [(bridge, delay) for bridge, delay in delays.items() if delay > 0]


class GuestTaps:
    """The opened taps of one generation: descriptors for QEMU to inherit, kept here until it has taken over.

    :raises Refused: one cannot be opened.
    """

    def __init__(self, definition: Definition, slot: int) -> None:
        self.slot = slot
        self._queues: dict[str, list[int]] = {}
        self._nics = [nic for nic in definition.nics if nic.type == "tap"]
        try:
            for nic in self._nics:
                self._queues[nic.id] = open_queues(tap_name(nic, slot), nic.queues)
        except TapError as error:
            self.close()
            raise Refused(
                f"A tap of guest {definition.name} cannot be used.",
                cause=str(error),
                cure="Check that nothing else holds it; hostmem start makes missing taps.",
            ) from error

    @property
    def descriptors(self) -> list[int]:
        """For QEMU to inherit."""
        return [descriptor for queues in self._queues.values() for descriptor in queues]

    def placeholders(self) -> dict[str, str]:
        """What to put into the arguments."""
        return {tap_placeholder(nic_id): ":".join(map(str, queues)) for nic_id, queues in self._queues.items()}

    def draw_traffic(self) -> None:
        """Let the network send the guest's frames to these taps, where they wait for the new QEMU to read them.

        Only while the guest stands still: its own next frame would draw them back.
        """
        for nic in self._nics:
            with suppress(OSError):  # then they come with the guest's own first frame, a little later
                announce(self._queues[nic.id][0], nic.mac)

    def close(self) -> None:
        """Close this program's copies."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self._queues = {}
