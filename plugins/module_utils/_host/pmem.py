# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Persistent memory as ndctl(1) and libnvdimm's sysfs show it (Documentation/driver-api/nvdimm): regions and their namespaces."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .kernel_log import KernelLog
from .program_failures import program_failed
from .programs import run
from .sysfs import number_in, text_in

DEVICES = "/sys/bus/nd/devices"
IO_NAMESPACES = 4  # ND_DEVICE_NAMESPACE_IO, include/uapi/linux/ndctl.h


@dataclass(frozen=True)
class Namespace:
    """One namespace; sizes and addresses in bytes.

    ``size`` is what a file system or guest can have, ``raw_size`` what it takes of the region, page map and information block included.
    ``align`` and ``map`` are None in modes without them (raw, sector). ``device`` is the node in /dev without its directory: blockdev or
    chardev, empty while the namespace is disabled.
    """

    dev: str
    region: str
    mode: str
    name: str
    size: int
    raw_size: int
    align: int | None
    map: str | None
    sector_size: int | None
    device: str
    enabled: bool
    numa_node: int | None
    uuid: str
    start: int | None


@dataclass(frozen=True)
class Region:
    """One region; sizes and addresses in bytes. ``labels``: can be divided into namespaces with names; ``labels_possible``: could.

    ``start`` is its physical address, None when the kernel does not tell.
    """

    dev: str
    size: int
    align: int
    available: int
    largest_available: int
    start: int | None
    numa_node: int | None
    persistence_domain: str
    labels: bool
    dimms: tuple[str, ...]
    labels_possible: bool
    ways: int
    enabled: bool
    namespaces: tuple[Namespace, ...] = field(default=())


def regions() -> list[Region]:
    """All regions of persistent memory with their namespaces, in the order of their names.

    :raises HostmemError: ndctl is missing or fails.
    """
    found = parse_regions(_ndctl("list", "--regions", "--namespaces", "--idle", "--verbose"))
    return sorted(found, key=lambda region: (len(region.dev), region.dev))


def parse_regions(text: str, devices: str = DEVICES) -> list[Region]:
    """The regions in what ``ndctl list --regions --namespaces --idle --verbose`` says, completed from sysfs.

    ndctl says nothing at all where there are none.
    """
    said = json.loads(text) if text.strip() else {}
    rows = said["regions"] if isinstance(said, dict) and "regions" in said else said or []
    return [_region(row, devices) for row in rows if row.get("type") == "pmem"]


def _region(row: dict[str, Any], devices: str) -> Region:
    directory = f"{devices}/{row['dev']}"
    dimms = tuple(dimms_of(directory))
    labels = number_in(f"{directory}/nstype") not in (None, IO_NAMESPACES)
    available = int(row.get("available_size") or 0)
    namespaces = [_namespace(item, row["dev"], devices) for item in row.get("namespaces", [])]
    return Region(
        dev=row["dev"],
        size=int(row["size"]),
        align=int(row.get("align") or 1),
        available=available,
        largest_available=int(row.get("max_available_extent", available)),
        start=number_in(f"{directory}/resource"),
        numa_node=_node(row),
        persistence_domain=row.get("persistence_domain", "unknown"),
        labels=labels,
        dimms=dimms,
        labels_possible=labels or (bool(dimms) and all(has_label_area(dimm, devices) for dimm in dimms)),
        ways=max(1, len(dimms)),
        enabled=row.get("state") != "disabled",
        # The kernel keeps an empty one ready for the next that is made.
        namespaces=tuple(item for item in namespaces if item.raw_size),
    )


def _namespace(row: dict[str, Any], region: str, devices: str) -> Namespace:
    size = int(row.get("size") or 0)
    raw = number_in(f"{devices}/{row['dev']}/size")
    align = row.get("align")
    return Namespace(
        dev=row["dev"],
        region=region,
        mode=row.get("mode", "unknown"),
        name=row.get("name", ""),
        size=size,
        raw_size=size if raw is None else raw,
        align=None if align is None else int(align),
        map=row.get("map"),
        sector_size=row.get("sector_size"),
        device=row.get("blockdev") or _chardev(row),
        enabled=row.get("state") != "disabled",
        numa_node=_node(row),
        uuid=row.get("uuid", ""),
        start=number_in(f"{devices}/{row['dev']}/resource"),
    )


def _chardev(row: dict[str, Any]) -> str:
    devices = row.get("daxregion", {}).get("devices", [])
    name = row.get("chardev") or (devices[0].get("chardev", "") if devices else "")
    return str(name)


def _node(row: dict[str, Any]) -> int | None:
    node = row.get("numa_node")
    return None if node is None or int(node) < 0 else int(node)


def dimms_of(directory: str) -> list[str]:
    """The modules that the region is made of: ``mappingN`` is ``nmem0,OFFSET,LENGTH,POSITION``."""
    found = []
    for number in range(number_in(f"{directory}/mappings") or 0):
        text = text_in(f"{directory}/mapping{number}")
        if text:
            found.append(text.split(",")[0])
    return found


def has_label_area(dimm: str, devices: str) -> bool:
    """The module has room for labels (ND_CMD_GET_CONFIG_SIZE and its companions, include/uapi/linux/ndctl.h)."""
    return {"get_size", "get_data", "set_data"} <= set(text_in(f"{devices}/{dimm}/commands").split())


def create_namespace(region: str, mode: str, align: int, map_: str, size: int | None, name: str) -> None:
    """Make a namespace in free space of a region, all of it when no size is given.

    :raises HostmemError: ndctl or the kernel refused, with both texts.
    """
    arguments = ["create-namespace", f"--region={region}", *_wanted(mode, align, map_, size, name)]
    _change(arguments, f"ndctl could not make a {mode} namespace in {region}.", region)


def rebuild_namespace(dev: str, mode: str, align: int, map_: str, size: int | None, name: str) -> None:
    """Make a namespace anew in the place of one that is there. What it held is lost, and it is gone if this fails.

    :raises HostmemError: ndctl or the kernel refused, with both texts.
    """
    arguments = ["create-namespace", f"--reconfig={dev}", "--force", *_wanted(mode, align, map_, size, name)]
    _change(arguments, f"ndctl could not make {dev} anew as {mode}.", dev)


def _wanted(mode: str, align: int, map_: str, size: int | None, name: str) -> list[str]:
    # Without --align ndctl keeps that of the namespace before, also one that rules out mappings of 2 MiB.
    arguments = [f"--mode={mode}", f"--align={align}", f"--map={map_}"]
    if size is not None:
        arguments.append(f"--size={size}")
    return [*arguments, f"--name={name}"] if name else arguments


def destroy_namespace(dev: str) -> None:
    """Take a namespace away with its content. It must not be in use: ndctl does not ask who has a device-DAX node open.

    :raises HostmemError: ndctl or the kernel refused, with both texts.
    """
    _change(["destroy-namespace", "--force", dev], f"ndctl could not destroy {dev}.", dev)


def enable_namespace(dev: str) -> None:
    """Let a disabled namespace have its device; what it holds stays as it is.

    :raises HostmemError: ndctl or the kernel refused, with both texts.
    """
    _change(["enable-namespace", dev], f"ndctl could not enable {dev}.", dev)


def disable_namespace(dev: str) -> None:
    """Take a namespace's device away; what it holds stays as it is. It must not be in use.

    :raises HostmemError: ndctl or the kernel refused, with both texts.
    """
    _change(["disable-namespace", dev], f"ndctl could not disable {dev}.", dev)


def initialise_labels(region: str, dimms: Sequence[str]) -> None:
    """Write empty labels to the modules of a region, so that it can be divided. No module may belong to another region.

    :raises HostmemError: ndctl or the kernel refused, with both texts.
    """
    problem = f"The label area of {', '.join(dimms)} could not be initialised."
    _change(["disable-region", region], problem, region)
    try:
        _change(["init-labels", *dimms], problem, *dimms)
    finally:
        _change(["enable-region", region], problem, region)


def _change(words: Sequence[str], problem: str, *logged: str) -> None:
    with KernelLog() as log:
        done = run(["ndctl", *words])
        lines = log.lines("nd_", "pmem", "dax", *logged) if done.returncode else []
    if done.returncode:
        raise program_failed(problem, "ndctl", done.stderr, lines)


def _ndctl(*words: str) -> str:
    done = run(["ndctl", *words])
    if done.returncode:
        raise program_failed(f"ndctl {' '.join(words)} failed.", "ndctl", done.stderr)
    return done.stdout


def namespace_of_block_device(name: str) -> str:
    """The namespace that a whole block device such as ``pmem0`` shows, or empty: it is the device's own parent, or the
    pfn or btt device above which names it.
    """
    device = os.path.realpath(f"/sys/class/block/{name}/device")
    parent = os.path.basename(device)
    return parent if parent.startswith("namespace") else text_in(f"{device}/namespace")
