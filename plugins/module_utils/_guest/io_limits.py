# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""I/O limits that were set on disks of a running guest (block_set_io_throttle).

They belong to the disk's BlockBackend, which is no part of what QEMU hands over: in the next QEMU the guest would run without
limits, and nothing would say so. A cold start begins without them, as it does after any stop of QEMU.
"""

from __future__ import annotations

from typing import Any

from .qmp import Qmp

# BlockDeviceInfo and BlockIOThrottle (qapi/block-core.json, QEMU 10.0 to 11.1) name them alike: bytes and requests per second, for
# each of them a burst (_max) and how long it may last (_max_length, seconds).
_RATES = ("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr")
_BURSTS = tuple(f"{rate}_max" for rate in _RATES)
_OTHERS = ("iops_size", "group")

IoLimits = dict[str, dict[str, Any]]


def io_limits(blocks: list[dict[str, Any]]) -> IoLimits:
    """Limits of each disk that has any, by the name of its device, in the words of block_set_io_throttle.

    :param blocks: what query-block returned.
    """
    return {
        str(item["qdev"]): _limits(item["inserted"])
        for item in blocks
        if item.get("qdev") and "group" in item.get("inserted", {})  # only a throttled disk is in a group
    }


def _limits(inserted: dict[str, Any]) -> dict[str, Any]:
    found = {key: inserted[key] for key in (*_RATES, *_BURSTS, *_OTHERS) if inserted.get(key)}
    lengths = {f"{burst}_length": inserted.get(f"{burst}_length") for burst in _BURSTS if burst in found}
    return {**found, **{key: value for key, value in lengths.items() if value}}


async def carry_over(limits: IoLimits, new: Qmp) -> None:
    """Set the limits of the old QEMU in the new one, which has not got the guest yet.

    :raises HostmemError: QEMU refused them.
    """
    for device, wanted in sorted(limits.items()):
        # Each rate has to be named; 0 is no limit.
        await new.send("block_set_io_throttle", {"id": device, **dict.fromkeys(_RATES, 0), **wanted})
