# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Waiting for the device-DAX devices of a guest: while a host boots, the kernel finds them on its own time.

No dependency of a unit does it. The number of a namespace's device is known only once it is there, and what udev tells systemd of it does not
last: the rule that daxctl brings marks it for the event ``add`` alone (systemd 257 calls its unit inactive right after the ``bind`` that follows).
"""

from __future__ import annotations

import time

from .._host.journald import log_record
from .._host.pmem import DEVICES
from .backing_devices import device_at
from .definition import Definition
from .device_names import NotThere, resolved

WAIT = 300.0
"""Seconds for a device to come, as of a mount's (``device_timeout`` of dax_mount): a large one has a large page map, which is made first."""

_PAUSE = 1.0


def check_devices_there(definition: Definition, devices: str = DEVICES) -> None:
    """For somebody who asks for a start and is to be told at once.

    :param devices: libnvdimm's devices in sysfs.
    :raises NotThere: one of the devices under the guest's memory and its NVDIMMs is not there now.
    :raises Refused: as ``resolved`` says.
    """
    definition = resolved(definition, devices)
    named = [(f"Memory block {block.id}", block.device) for block in definition.blocks if block.device]
    named += [(f"NVDIMM {nvdimm.id}", nvdimm.path) for nvdimm in definition.nvdimms if nvdimm.device]
    for what, path in named:
        if device_at(path) is None:
            raise NotThere(
                f"{what}: {path} is no device-DAX device.",
                cause="The kernel has none of this name with the driver device_dax.",
                cure="Make one with hostmem.qemu.pmem_namespace (mode devdax), or with daxctl reconfigure-device.",
            )


def wait_for_devices(definition: Definition, limit: float = WAIT, devices: str = DEVICES) -> None:
    """Wait until the guest's devices are there.

    :param limit: seconds.
    :param devices: libnvdimm's devices in sysfs.
    :raises NotThere: one of them does not come.
    :raises Refused: as ``resolved`` says; waiting would not help.
    """
    deadline = time.monotonic() + limit
    told = ""
    while True:
        try:
            check_devices_there(definition, devices)
            return
        except NotThere as problem:
            if time.monotonic() >= deadline:
                problem.cause = f"{problem.cause} It has been waited for {limit:g} s."
                raise
            if problem.message != told:
                told = problem.message
                log_record(f"Guest {definition.name} waits: {told}", guest=definition.name, event="waiting")
        time.sleep(_PAUSE)
