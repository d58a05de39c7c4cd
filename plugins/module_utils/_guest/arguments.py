# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The option values of one guest, part by part: what the argv templates (and users' own) put together. Pure: no I/O.

``@generation@`` and ``@log@`` stand for the generation's and the log directory, ``@device-ID@`` for the device of a namespace, whose number
may change at a boot; the runtime fills them at each start.
"""

from __future__ import annotations

import json
from typing import Any

from .definition import Console, Definition, Disk, Nic
from .layout import PlacedBlock, layout
from .nvdimm import ALIGN, Nvdimm
from .qemu_options import format_options

GENERATION = "@generation@"
LOG = "@log@"


def machine_options(definition: Definition) -> str:
    """Value of -machine. aux-ram-share=on from the first boot: it cannot be added later, and cpr-transfer needs it.

    QEMU has it since 10.0: for an older one the definition leaves it out.
    """
    single = definition.blocks[0].numa_node is None
    options = {
        "accel": definition.accel,
        "memory-backend": definition.blocks[0].id if single else None,
        "aux-ram-share": definition.aux_ram_share or None,
        "nvdimm": True if definition.nvdimms else None,
    }
    return format_options(options, definition.machine)


def memory_options(definition: Definition) -> str:
    """Value of -m, in bytes with the suffix B avoided: QEMU reads a bare number as MiB."""
    slots = {}
    if definition.nvdimms:
        most = definition.memory_size + sum(nvdimm.size for nvdimm in definition.nvdimms)
        slots = {"slots": len(definition.nvdimms), "maxmem": f"{most // 1024}k"}
    return format_options({"size": f"{definition.memory_size // 1024}k", **slots})


def memory_object(placed: PlacedBlock) -> str:
    """Value of -object for one memory block. A file is filled by the runtime before QEMU starts, a memfd by QEMU itself."""
    block = placed.block
    common: dict[str, Any] = {
        "id": block.id,
        "size": block.size,
        "share": block.mmap == "shared",
        "prealloc": block.prealloc and not block.named,
        "prealloc-threads": block.prealloc_threads if not block.named else None,
        "host-nodes": block.host_nodes or None,
        "policy": block.policy if block.policy != "default" else None,
        **{
            key: False
            for key, on in (("merge", block.merge), ("dump", block.dump), ("reserve", block.reserve))
            if not on
        },
    }
    if block.backing == "memfd":
        huge = {"hugetlb": True, "hugetlbsize": block.page_size} if block.page_size else {}
        seal = {} if block.seal else {"seal": False}
        return format_options({**common, **huge, **seal}, "memory-backend-memfd")
    # A directory: QEMU makes a file in it and unlinks it at once (util/oslib, file_ram_open()).
    of_file = {
        "mem-path": device_placeholder(block.id) if block.namespace else placed.place,
        "align": block.align,
        "offset": block.offset or None,
        "pmem": block.pmem or None,
        # rom: the guest's RAM would be read-only, too, otherwise (QEMU >= 9.0).
        **({"readonly": True, "rom": False} if block.read_only else {}),
    }
    return format_options({**common, **of_file}, "memory-backend-file")


def device_placeholder(identifier: str) -> str:
    """Stands for the device of the memory block or NVDIMM with this id."""
    return f"@device-{identifier}@"


def device_placeholders(definition: Definition) -> dict[str, str]:
    """What the placeholders for devices stand for, in a definition whose namespaces were resolved."""
    found = {device_placeholder(block.id): block.device for block in definition.blocks if block.namespace}
    found.update((device_placeholder(nvdimm.id), nvdimm.path) for nvdimm in definition.nvdimms if nvdimm.namespace)
    return found


def memory_objects(definition: Definition) -> list[str]:
    """Values of -object, in the order that gives the blocks their offsets; what QEMU fills, threads on the block's nodes fill."""
    values = []
    for placed in layout(definition):
        block = placed.block
        value = memory_object(placed)
        if block.prealloc and not block.named and block.host_nodes:
            context = f"threads-{block.id}"
            values.append(format_options({"id": context, "node-affinity": block.host_nodes}, "thread-context"))
            value += "," + format_options({"prealloc-context": context})
        values.append(value)
    return values


def nvdimm_object(nvdimm: Nvdimm) -> str:
    """Value of -object for the memory of an NVDIMM; it comes after the memory blocks, whose offsets it must not move."""
    options = {
        "id": nvdimm.id,
        "size": nvdimm.size,
        "share": True,
        "mem-path": device_placeholder(nvdimm.id) if nvdimm.namespace else nvdimm.path,
        "align": ALIGN,
        "pmem": nvdimm.pmem or None,
        "readonly": nvdimm.read_only or None,
    }
    return format_options(options, "memory-backend-file")


def nvdimm_device(nvdimm: Nvdimm) -> str:
    """Value of -device for an NVDIMM; unarmed tells the guest that what it writes does not last."""
    options = {
        "id": f"nvdimm-{nvdimm.id}",
        "memdev": nvdimm.id,
        "label-size": nvdimm.label_size or None,
        "unarmed": nvdimm.read_only or None,
    }
    return format_options(options, "nvdimm")


def numa_nodes(definition: Definition) -> list[str]:
    """Values of -numa; empty without guest NUMA nodes. vCPUs are spread evenly over the nodes."""
    nodes = [block for block in definition.blocks if block.numa_node is not None]
    values = []
    for block in sorted(nodes, key=lambda item: item.numa_node or 0):
        number = block.numa_node or 0
        first, last = definition.cpus * number // len(nodes), definition.cpus * (number + 1) // len(nodes) - 1
        cpus = None if last < first else f"{first}-{last}"
        values.append(format_options({"nodeid": number, "cpus": cpus, "memdev": block.id}, "node"))
    return values


def disk_blockdev(disk: Disk) -> str:
    """Value of -blockdev (JSON); the node is called ``disk-ID``."""
    return json.dumps(blockdev(disk), sort_keys=True)


def blockdev(disk: Disk) -> dict[str, Any]:
    """The block node of a disk as QAPI's BlockdevOptions."""
    protocol = {
        "driver": file_driver(disk.path),
        "filename": disk.path,
        "aio": disk.aio,
        "cache": {"direct": disk.cache == "none"},
    }
    return {
        "driver": disk.format,
        "node-name": f"disk-{disk.id}",
        "read-only": disk.read_only,
        "discard": "unmap" if disk.discard else "ignore",
        "cache": {"direct": disk.cache == "none"},
        "file": protocol,
    }


def file_driver(path: str) -> str:
    """QEMU's driver for an image's file: it opens block devices only as host_device, and regular files only as file."""
    return "host_device" if path.startswith("/dev/") and not path.startswith("/dev/shm/") else "file"


def disk_device(disk: Disk) -> str:
    """Value of -device for a disk."""
    driver = {"virtio": "virtio-blk-pci", "scsi": "scsi-hd", "sata": "ide-hd"}[disk.interface]
    bus = {"virtio": None, "scsi": "scsi0.0", "sata": None}[disk.interface]
    return format_options({"id": disk.id, "drive": f"disk-{disk.id}", "bus": bus, "bootindex": disk.boot_index}, driver)


def tap_placeholder(nic_id: str) -> str:
    """Stands for the descriptors of a NIC's tap, which the runtime opens."""
    return f"@tap-{nic_id}@"


def nic_netdev(nic: Nic) -> str:
    """Value of -netdev. A tap comes as opened descriptors: the runtime knows which of the NIC's two taps is free."""
    if nic.type == "user":
        return format_options({"id": f"net-{nic.id}"}, "user")
    return format_options({"id": f"net-{nic.id}", "fds": tap_placeholder(nic.id), "vhost": False}, "tap")


def nic_device(nic: Nic) -> str:
    """Value of -device for a network interface. No option ROM: its size may differ in the next QEMU's package."""
    multi = {"mq": True, "vectors": 2 * nic.queues + 2} if nic.queues > 1 else {}
    return format_options({"id": nic.id, "netdev": f"net-{nic.id}", "mac": nic.mac, **multi}, nic.model)


def console_chardev(console: Console) -> str:
    """Value of -chardev. append=on: the next QEMU would truncate the log otherwise."""
    if console.to == "log":
        return format_options(
            {"id": f"chr-{console.id}", "path": f"{LOG}/console-{console.id}.log", "append": True}, "file"
        )
    return format_options(
        {"id": f"chr-{console.id}", "path": f"{GENERATION}/{console.id}.sock", "server": True, "wait": False}, "socket"
    )


def agent_chardev() -> str:
    """Value of -chardev for the guest agent's channel."""
    return format_options({"id": "chr-qga", "path": f"{GENERATION}/qga.sock", "server": True, "wait": False}, "socket")


def vnc_display() -> str:
    """Value of -vnc: a socket in the generation's directory."""
    return f"unix:{GENERATION}/vnc.sock"
