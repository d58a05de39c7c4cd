# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Persistent memory: regions and namespaces by ndctl or else by sysfs, and device-DAX devices."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from .._host.devdax import listed_devices
from .._host.errors import HostmemError
from .._host.pmem import Region, regions
from .._host.pmem_sysfs import regions_in_sysfs
from .._host.programs import find_program
from .left_out import LeftOut


def persistent_memory(left_out: LeftOut) -> dict[str, Any]:
    """Sizes in bytes. ``source`` says who was asked for the regions: ndctl or sysfs."""
    source, found = _regions(left_out)
    return {
        "source": source,
        "regions": [{**asdict(region), "namespaces": _namespaces(region)} for region in found],
        "dax_devices": [asdict(device) for device in listed_devices()],
    }


def _namespaces(region: Region) -> list[dict[str, Any]]:
    """In the order of their names; ndctl has none."""
    return [asdict(item) for item in sorted(region.namespaces, key=lambda item: (len(item.dev), item.dev))]


def _regions(left_out: LeftOut) -> tuple[str, list[Region]]:
    """Where there are none, ndctl is not missed."""
    seen = regions_in_sysfs()
    if seen and find_program("ndctl"):
        try:
            return "ndctl", regions()
        except (HostmemError, ValueError, KeyError) as error:
            left_out.add("pmem: what only ndctl tells", str(error))
    return "sysfs", seen
