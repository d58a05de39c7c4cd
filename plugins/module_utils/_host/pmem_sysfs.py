# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Persistent memory by libnvdimm's sysfs alone, for hosts without ndctl (Documentation/driver-api/nvdimm/nvdimm.rst, drivers/nvdimm).

A namespace in use has a holder: a pfn, dax or btt device, which knows the alignment, the size that is left, and the node in /dev.
"""

from __future__ import annotations

import os
import re

from .pmem import DEVICES, IO_NAMESPACES, Namespace, Region, dimms_of, has_label_area
from .sysfs import number_in, text_in

# mode_show() in drivers/nvdimm/namespace_devs.c, and what ndctl calls them.
_MODES = {"memory": "fsdax", "dax": "devdax", "safe": "sector", "raw": "raw"}
# mode_show() in drivers/nvdimm/pfn_devs.c: where the page map lies.
_MAPS = {"pmem": "dev", "ram": "mem"}


def regions_in_sysfs(devices: str = DEVICES) -> list[Region]:
    """All regions of persistent memory with their namespaces, in the order of their names; addresses only for root."""
    try:
        names = [name for name in os.listdir(devices) if re.fullmatch(r"region\d+", name)]
    except OSError:
        return []
    names.sort(key=lambda name: (len(name), name))
    return [_region(name, devices) for name in names if text_in(f"{devices}/{name}/devtype") in ("nd_pmem", "")]


def _region(dev: str, devices: str) -> Region:
    directory = f"{devices}/{dev}"
    dimms = tuple(dimms_of(directory))
    labels = number_in(f"{directory}/nstype") not in (None, IO_NAMESPACES)
    available = number_in(f"{directory}/available_size") or 0
    largest = number_in(f"{directory}/max_available_extent")
    names = sorted(name for name in os.listdir(directory) if re.fullmatch(r"namespace\d+\.\d+", name))
    namespaces = [_namespace(name, dev, devices) for name in names]
    return Region(
        dev=dev,
        size=number_in(f"{directory}/size") or 0,
        align=number_in(f"{directory}/align") or 1,
        available=available,
        largest_available=available if largest is None else largest,
        start=number_in(f"{directory}/resource"),
        numa_node=_node(directory),
        persistence_domain=text_in(f"{directory}/persistence_domain") or "unknown",
        labels=labels,
        dimms=dimms,
        labels_possible=labels or (bool(dimms) and all(has_label_area(dimm, devices) for dimm in dimms)),
        ways=max(1, len(dimms)),
        enabled=os.path.exists(f"{directory}/driver"),
        # The kernel keeps an empty one ready for the next that is made.
        namespaces=tuple(item for item in namespaces if item.raw_size),
    )


def _namespace(dev: str, region: str, devices: str) -> Namespace:
    directory = f"{devices}/{dev}"
    holder = text_in(f"{directory}/holder")
    top = f"{devices}/{holder}" if holder else directory
    mode = _MODES.get(text_in(f"{directory}/mode"), "unknown")
    raw = number_in(f"{directory}/size") or 0
    # Without a holder, what could have a page map has it in ordinary memory.
    map_ = _MAPS.get(text_in(f"{top}/mode")) if holder else "mem" if mode == "fsdax" else None
    size = number_in(f"{top}/size")
    return Namespace(
        dev=dev,
        region=region,
        mode=mode,
        name=text_in(f"{directory}/alt_name"),
        size=raw if size is None else size,
        raw_size=raw,
        align=number_in(f"{top}/align") if holder else None,
        map=map_,
        sector_size=None if mode == "devdax" else _sector_size(directory, top),
        device=_device(top),
        enabled=os.path.exists(f"{top}/driver"),
        numa_node=_node(directory),
        uuid=text_in(f"{top}/uuid") or text_in(f"{directory}/uuid"),
        start=number_in(f"{directory}/resource"),
    )


def _sector_size(*directories: str) -> int:
    """The chosen one is in brackets; a btt device has its own, and without labels there is no choice."""
    matches = [re.search(r"\[(\d+)\]", text_in(f"{directory}/sector_size")) for directory in directories]
    return next((int(match.group(1)) for match in reversed(matches) if match), 512)


def _device(directory: str) -> str:
    """The node in /dev: a block device, or the first character device of a dax device."""
    try:
        names = os.listdir(f"{directory}/block")
    except OSError:
        names = [name for name in os.listdir(directory) if re.fullmatch(r"dax\d+\.\d+", name)]
    return min(names, default="")


def _node(directory: str) -> int | None:
    node = number_in(f"{directory}/numa_node")
    return None if node is None or node < 0 else node
