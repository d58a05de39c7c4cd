# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a QEMU really consists of, asked by QMP: RAM blocks, devices, disks' image chains. Two inventories are held against each other."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Set
from typing import Any

from .._host.files import identity
from .._host.processes import Mapping, mappings
from .errors import HostmemError
from .io_limits import io_limits
from .qmp import Qmp

# name (may be empty or hold blanks), page size, offset, used, total, host address, ro/rw: QEMU 10.0 and 11.1, ram_block_format().
_RAM_BLOCK = re.compile(
    r"^\s*(.*?)\s+(\d+) ([KMG]iB|B)\s+0x([0-9a-f]+)\s+0x([0-9a-f]+)\s+0x([0-9a-f]+)\s+0x([0-9a-f]+)\s+(r[ow])\s*$"
)
_USB_STATE = re.compile(r"Device [0-9.]+, |Speed [^,]*, ")
_UNIT = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


async def ram_blocks(qmp: Qmp) -> list[dict[str, Any]]:
    """All RAMBlocks: name, page size, offset, used and total length in bytes."""
    text = (await qmp.execute("x-query-ramblock"))["human-readable-text"]
    found = []
    for line in text.splitlines():
        match = _RAM_BLOCK.match(line)
        if match:
            name, size, unit, offset, used, total, address, _access = match.groups()
            found.append(
                {
                    "name": name,
                    "page_size": int(size) * _UNIT[unit],
                    "offset": int(offset, 16),
                    "used": int(used, 16),
                    "total": int(total, 16),
                    "address": int(address, 16),
                }
            )
    return found


def mapped_files(pid: int, blocks: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any] | None]:
    """The file that each RAMBlock of a QEMU lies in, by the block's name, as mapped_file shows it."""
    whole = mappings(pid)  # once: the kernel takes 1.5 ms to print a QEMU's map
    return {block["name"]: _mapped_at(whole, block["address"]) for block in blocks}


def mapped_file(pid: int, address: int) -> dict[str, Any] | None:
    """The file mapped at an address of a process: path as the kernel shows it, device and inode; None for anonymous memory."""
    return _mapped_at(mappings(pid), address)


def _mapped_at(whole: list[Mapping], address: int) -> dict[str, Any] | None:
    for item in whole:
        if item.start <= address < item.end and item.inode:
            return {
                "path": item.path,
                "device": list(item.device),
                "inode": item.inode,
                "shared": item.permissions.endswith("s"),
            }
    return None


async def machine(qmp: Qmp) -> dict[str, Any]:
    """The machine type that really runs, and how its RAM is set up."""

    async def get(name: str) -> Any:
        return await qmp.execute("qom-get", path="/machine", property=name)

    return {
        "type": str(await get("type")).removesuffix("-machine"),
        # QEMUs before 10.0 have no such property: nothing is shared.
        "aux_ram_share": bool(await _get_or_none(qmp, "aux-ram-share")),
        "memory_backend": await get("memory-backend"),
    }


async def _get_or_none(qmp: Qmp, name: str) -> Any:
    """A machine property that older QEMUs lack."""
    try:
        return await qmp.execute("qom-get", path="/machine", property=name)
    except HostmemError:
        return None


async def inventory(qmp: Qmp) -> dict[str, Any]:
    """Everything that must be equal in the QEMU that takes the guest over. JSON-able."""
    peripheral = await children(qmp, "/machine/peripheral")
    blocks = await qmp.execute("query-block")
    return {
        "machine": await machine(qmp),
        "ram_blocks": {item["name"]: item["total"] for item in await ram_blocks(qmp) if item["name"]},
        "memory_backends": {
            item.get("id", ""): {"size": item["size"], "share": item.get("share")}
            for item in await qmp.execute("query-memdev")
        },
        "devices": peripheral,
        "nameless_devices": sorted((await children(qmp, "/machine/peripheral-anon")).values()),
        "objects": {
            name: kind for name, kind in (await children(qmp, "/objects")).items() if "monitor" not in kind
        },  # QEMU 11 lists our QMP here
        "pci": _flatten_pci(await qmp.execute("query-pci")),
        "disks": {_disk_key(item): _chain(item) for item in blocks if item.get("qdev")},
        "io_limits": io_limits(blocks),
        "usb": await _usb_ports(qmp),
        "character_devices": sorted(item["label"] for item in await qmp.execute("query-chardev")),
        "cpus": sorted((item["cpu-index"], item["qom-path"]) for item in await qmp.execute("query-cpus-fast")),
    }


async def children(qmp: Qmp, path: str) -> dict[str, str]:
    """Names and types (``child<virtio-blk-pci>``) of what is below a QOM path."""
    found = await qmp.execute("qom-list", path=path)
    return {item["name"]: item["type"] for item in found if item["type"].startswith("child<")}


async def _usb_ports(qmp: Qmp) -> list[str]:
    """USB devices with the ports they are in, which name them in what QEMU hands over. The address is the guest's choice."""
    try:
        text = (await qmp.execute("x-query-usb"))["human-readable-text"]
    except HostmemError:  # there is no USB
        return []
    return sorted(_USB_STATE.sub("", line.strip()) for line in text.splitlines() if line.strip())


def _flatten_pci(buses: list[dict[str, Any]]) -> list[str]:
    found = []
    for bus in buses:
        for device in bus.get("devices", []):
            address = f"{bus['bus']:02x}:{device['slot']:02x}.{device['function']}"
            kind = f"{device['id']['vendor']:04x}:{device['id']['device']:04x}"
            found.append(f"{address} {kind} {device.get('qdev_id', '')}".rstrip())
            bridge = device.get("pci_bridge")
            if bridge and bridge.get("devices"):
                found += _flatten_pci([{"bus": bridge["bus"]["number"], "devices": bridge["devices"]}])
    return sorted(found)


def _disk_key(item: dict[str, Any]) -> str:
    """``/machine/peripheral/d0/virtio-backend`` -> ``d0``."""
    name = str(item["qdev"])
    return name.split("/")[3] if name.startswith("/machine/peripheral/") else name


def _chain(item: dict[str, Any]) -> list[dict[str, Any]]:
    """The images of a disk from the top down: format, file name, and which file that is."""
    inserted = item.get("inserted")
    if not inserted:
        return []
    chain = []
    image: dict[str, Any] | None = inserted.get("image")
    while image:
        found = identity(image["filename"])
        chain.append({"format": image["format"], "path": image["filename"], "identity": list(found) if found else None})
        image = image.get("backing-image")
    chain[0]["read_only"] = inserted.get("ro")
    chain[0]["driver"] = inserted.get("drv")
    return chain


def nameless(whole: dict[str, Any], keys: Set[str]) -> dict[str, Any]:
    """These of an inventory, without what a reboot or another host changes: images have no device numbers, only paths. I/O limits are
    carried over."""
    disks = {key: [{**image, "identity": None} for image in chain] for key, chain in whole["disks"].items()}
    return {**{key: whole[key] for key in keys}, "disks": disks, "io_limits": {}}


def differences(running: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """What differs, one sentence each, in the words of the running guest. Nothing when the two are the same."""
    found: list[str] = []
    _compare("", _comparable(running), _comparable(other), found)
    return found


def _comparable(whole: dict[str, Any]) -> dict[str, Any]:
    """Images by what they are (device and inode), not by how their paths are spelt."""
    disks = {
        key: [
            {"format": image["format"], "read_only": image.get("read_only"), "file": image["identity"] or image["path"]}
            for image in chain
        ]
        for key, chain in whole.get("disks", {}).items()
    }
    return {**whole, "disks": disks}


def _compare(where: str, left: Any, right: Any, found: list[str]) -> None:
    if isinstance(left, dict) and isinstance(right, dict):
        for key in sorted(set(left) | set(right)):
            if key not in right:
                found.append(f"{where}: {key} is in the running guest only")
            elif key not in left:
                found.append(f"{where}: {key} is not in the running guest")
            else:
                _compare(f"{where}.{key}" if where else key, left[key], right[key], found)
    elif isinstance(left, list) and isinstance(right, list) and all(isinstance(item, str) for item in left + right):
        only_left, only_right = Counter(left) - Counter(right), Counter(right) - Counter(left)
        found += [f"{where}: {item} is in the running guest only" for item in only_left.elements()]
        found += [f"{where}: {item} is not in the running guest" for item in only_right.elements()]
    elif left != right and _plain(left) != _plain(right):
        found.append(f"{where}: {left!r} in the running guest, {right!r} otherwise")


def _plain(value: Any) -> Any:
    """Tuples as lists: one of the two may have been through JSON."""
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
