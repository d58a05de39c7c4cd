# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The guest definition: what a user writes about a guest, checked and completed. Pure: no I/O."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from .command_line import parse_command_line
from .errors import DefinitionError
from .fields import IDENTIFIER, IDENTIFIER_HINT, Fields
from .lasting_memory import volatile_reason
from .memory_block import MemoryBlock, parse_block
from .nvdimm import Nvdimm, parse_nvdimm
from .permitted import forbidden_arguments
from .qemu_options import parse_options
from .sizes import format_size

SCHEMA = 1
NAME = r"[a-z0-9][a-z0-9_-]{0,31}"
_VERSIONED_MACHINE = r"[A-Za-z0-9-]+-[0-9]+\.[0-9]+"
_MEMORY_STEP = 8192  # machine_parse_memory(), QEMU system/vl.c
_MAC = r"[0-9a-f]{2}(:[0-9a-f]{2}){5}"

# Identifiers that the templates and the runtime use themselves.
_RESERVED = ("qga", "vnc", "video", "scsi0", "virtio-serial0", "qmp", "cpr", "main")
_SERIAL_PORTS = 4


@dataclass(frozen=True)
class Disk:
    """One disk image; ``path`` is a file or block device on the host, ``shared`` the very same one on each host that has the guest."""

    id: str
    path: str
    format: str
    interface: str
    read_only: bool
    cache: str
    aio: str
    discard: bool
    boot_index: int | None
    shared: bool = False


@dataclass(frozen=True)
class Nic:
    """One network interface; ``tap`` is the base name of its two taps, which the runtime makes and joins to ``bridge``."""

    id: str
    type: str
    bridge: str
    tap: str
    mac: str
    model: str
    queues: int


@dataclass(frozen=True)
class Console:
    """One console: a serial port or a virtio console, into an appended log or a socket of the generation."""

    id: str
    type: str
    to: str


@dataclass(frozen=True)
class Kernel:
    """Direct kernel boot."""

    image: str
    initrd: str
    cmdline: str


@dataclass(frozen=True)
class Definition:
    """A whole guest. ``max_pause`` in seconds: the longest pause a live update may cost before it is called off.

    ``on_host_shutdown``: what becomes of the running guest when its host goes down. ``on_power_cut``: what its next start does
    when the host went down under it, which left neither a running guest nor a saved one.
    """

    schema: int
    name: str
    qemu: str
    machine: str
    accel: str
    cpu_model: str
    cpus: int
    blocks: list[MemoryBlock]
    nvdimms: list[Nvdimm] = field(default_factory=list)
    disks: list[Disk] = field(default_factory=list)
    nics: list[Nic] = field(default_factory=list)
    consoles: list[Console] = field(default_factory=list)
    guest_agent: bool = False
    vnc: bool = False
    video: str = "none"
    kernel: Kernel | None = None
    arguments: list[str] = field(default_factory=list)
    max_pause: float = 2.0
    aux_ram_share: bool = True
    sandbox_spawn: bool = False
    on_host_shutdown: str = "poweroff"
    on_power_cut: str = "start"

    @property
    def memory_size(self) -> int:
        """All guest memory, in bytes."""
        return sum(block.size for block in self.blocks)

    @property
    def as_written(self) -> Definition:
        """Without the devices that its namespaces are on some host at some time."""
        blocks = [replace(block, device="") if block.namespace else block for block in self.blocks]
        nvdimms = [replace(nvdimm, path="") if nvdimm.namespace else nvdimm for nvdimm in self.nvdimms]
        return replace(self, blocks=blocks, nvdimms=nvdimms)

    @property
    def has_vfio(self) -> bool:
        """True when the guest has devices of the host's own (vfio), most of which cannot be migrated."""
        devices = [option.value for option in parse_command_line(self.arguments) if option.name == "device"]
        return any(parse_options(value, "driver").get("driver", "").startswith("vfio-") for value in devices)

    def as_dict(self) -> dict[str, Any]:
        """The complete definition in the form users write, with every default filled in; what has no value is left out."""
        data: dict[str, Any] = _without_empty(asdict(self.as_written))
        data["sandbox"] = {"spawn": data.pop("sandbox_spawn")}
        data["cpu"] = {"model": data.pop("cpu_model"), "count": data.pop("cpus")}
        data["memory"] = {"blocks": data.pop("blocks")}
        return data


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_empty(item) for key, item in value.items() if item is not None and item != ""}
    if isinstance(value, list):
        return [_without_empty(item) for item in value]
    return value


def parse_definition(data: Any) -> Definition:
    """Check and complete a definition.

    :raises DefinitionError: listing every problem with its key.
    """
    problems: list[str] = []
    top = Fields(data, "", problems)
    schema = top.raw("schema")
    if schema is not None and (isinstance(schema, bool) or not isinstance(schema, int) or schema != SCHEMA):
        top.fail("schema", f"{schema!r} is not the schema this version reads ({SCHEMA})")
    name = top.text("name", None, NAME, "must be 1 to 32 of a-z 0-9 _ -, beginning with a letter or digit")
    definition = Definition(
        schema=SCHEMA,
        name=name,
        qemu=top.path("qemu", "/usr/bin/qemu-system-x86_64"),
        machine=_machine(top),
        accel=top.choice("accel", ("kvm", "tcg"), "kvm"),
        **_cpu(top),
        blocks=_memory(top, name),
        nvdimms=[parse_nvdimm(Fields(item, key, problems)) for key, item in top.items("nvdimms")],
        disks=[parse_disk(Fields(item, key, problems)) for key, item in top.items("disks")],
        nics=[
            parse_nic(Fields(item, key, problems), name, number) for number, (key, item) in enumerate(top.items("nics"))
        ],
        consoles=[parse_console(Fields(item, key, problems)) for key, item in top.items("consoles")],
        guest_agent=top.boolean("guest_agent", False),
        vnc=top.boolean("vnc", False),
        video=top.choice("video", ("none", "std", "virtio"), "none"),
        kernel=_kernel(top),
        arguments=_arguments(top),
        max_pause=top.number("max_pause", 2.0, 0.01, 3600),
        aux_ram_share=top.boolean("aux_ram_share", True),
        sandbox_spawn=_sandbox(top),
        on_host_shutdown=top.choice("on_host_shutdown", ("poweroff", "save"), "poweroff"),
        on_power_cut=top.choice("on_power_cut", ("start", "refuse"), _on_power_cut(top)),
    )
    top.finish()
    _check_whole(definition, top)
    if problems:
        raise DefinitionError(problems)
    return definition


def _on_power_cut(top: Fields) -> str:
    """Whoever has a guest saved does not want it started anew without being asked."""
    return "refuse" if top.raw("on_host_shutdown") == "save" else "start"


def _machine(top: Fields) -> str:
    machine = top.text("machine")
    if machine and not re.fullmatch(_VERSIONED_MACHINE, machine):
        top.fail(
            "machine",
            f"{machine!r} is an alias or has no version: it means another machine in the next QEMU, which then cannot take the guest over;"
            " name a versioned type such as pc-q35-10.0 (qemu-system-x86_64 -machine help lists them)",
        )
    return machine


def _cpu(top: Fields) -> dict[str, Any]:
    fields = Fields({} if top.raw("cpu") is None else top.raw("cpu"), "cpu", top.problems)
    model = fields.text(
        "model", "host" if top.raw("accel") in (None, "kvm") else "qemu64", r"[A-Za-z0-9_.+=,-]+", "is not a CPU model"
    )
    count = fields.integer("count", 1, 1, 4096)
    fields.finish()
    if model.partition(",")[0] == "host" and top.raw("accel") == "tcg":
        fields.fail("model", "host needs accel kvm: name a model such as qemu64 or max")
    return {"cpu_model": model, "cpus": count or 1}


def _sandbox(top: Fields) -> bool:
    fields = Fields({} if top.raw("sandbox") is None else top.raw("sandbox"), "sandbox", top.problems)
    spawn = fields.boolean("spawn", False)
    fields.finish()
    return spawn


def _memory(top: Fields, name: str) -> list[MemoryBlock]:
    raw = top.raw("memory")
    if raw is None:
        top.fail("memory", "is required")
        return []
    fields = Fields(raw, "memory", top.problems)
    items = fields.items("blocks")
    fields.finish()
    if not items:
        fields.fail("blocks", "needs at least one block")
    return [parse_block(Fields(item, key, top.problems), name) for key, item in items]


def parse_disk(fields: Fields) -> Disk:
    """One disk; what is wrong goes to the problems of ``fields``."""
    disk = Disk(
        id=fields.text("id", None, IDENTIFIER, IDENTIFIER_HINT),
        path=fields.path("path"),
        format=fields.choice("format", ("qcow2", "raw")),
        interface=fields.choice("interface", ("virtio", "scsi", "sata"), "virtio"),
        read_only=fields.boolean("read_only", False),
        cache=fields.choice("cache", ("writeback", "none"), "writeback"),
        aio=fields.choice("aio", ("threads", "native", "io_uring"), "threads"),
        discard=fields.boolean("discard", False),
        boot_index=fields.integer("boot_index", None, 0, 255),
        shared=fields.boolean("shared", False),
    )
    fields.finish()
    if disk.aio == "native" and disk.cache != "none":
        fields.fail("aio", "native needs cache none (QEMU refuses aio=native without cache.direct)")
    return disk


def parse_nic(fields: Fields, guest: str, number: int) -> Nic:
    """One network interface; what is wrong goes to the problems of ``fields``."""
    kind = fields.choice("type", ("tap", "user"), "tap")
    bridge = fields.text("bridge", "", r"[A-Za-z0-9_.-]{1,15}", "is not an interface name (1 to 15 characters)")
    tap = fields.text(
        "tap",
        _tap_name(guest, number),
        r"[A-Za-z0-9_-]{1,13}",
        "is not a base name for two interfaces (1 to 13 characters)",
    )
    nic = Nic(
        id=fields.text("id", None, IDENTIFIER, IDENTIFIER_HINT),
        type=kind,
        bridge=bridge if kind == "tap" else "",
        tap=tap if kind == "tap" else "",
        mac=fields.text("mac", None).lower(),
        model=fields.text("model", "virtio-net-pci", r"[A-Za-z0-9-]+", "is not a device name"),
        queues=fields.integer("queues", 1, 1, 256) or 1,
    )
    fields.finish()
    if nic.mac and (not re.fullmatch(_MAC, nic.mac) or int(nic.mac[:2], 16) & 1):
        fields.fail("mac", f"{nic.mac!r} is not a unicast MAC address like 52:54:00:12:34:56")
    if nic.queues > 1 and (kind != "tap" or not nic.model.startswith("virtio-net")):
        fields.fail("queues", "more than one needs a tap and a virtio-net model")
    if kind == "user" and (bridge or fields.raw("tap") is not None):
        fields.fail("type", "user has neither bridge nor tap")
    return nic


def _tap_name(guest: str, number: int) -> str:
    """A stable base name; a digest, since interface names have 15 characters at most (IFNAMSIZ, linux/if.h)."""
    return f"hm{hashlib.sha256(f'{guest}/{number}'.encode()).hexdigest()[:8]}"


def parse_console(fields: Fields) -> Console:
    """One console; what is wrong goes to the problems of ``fields``."""
    console = Console(
        id=fields.text("id", None, IDENTIFIER, IDENTIFIER_HINT),
        type=fields.choice("type", ("serial", "virtio"), "serial"),
        to=fields.choice("to", ("log", "socket"), "log"),
    )
    fields.finish()
    return console


def _kernel(top: Fields) -> Kernel | None:
    raw = top.raw("kernel")
    if raw is None:
        return None
    fields = Fields(raw, "kernel", top.problems)
    kernel = Kernel(image=fields.path("image"), initrd=fields.path("initrd", ""), cmdline=fields.text("cmdline", ""))
    fields.finish()
    if re.search(r"@(generation|log|tap-[^@ ]+|device-[^@ ]+)@", kernel.cmdline):
        fields.fail("cmdline", "has one of the runtime's placeholders")
    return kernel


def _arguments(top: Fields) -> list[str]:
    arguments = []
    for key, item in top.items("arguments"):
        if not isinstance(item, str) or not item or "\n" in item or "\0" in item:
            top.problems.append(f"{key}: must be a non-empty text without line breaks, not {item!r}")
            continue
        arguments.append(str(item))
    top.problems.extend(forbidden_arguments(arguments, "arguments"))
    return arguments


def _check_whole(definition: Definition, top: Fields) -> None:
    seen = dict.fromkeys(_RESERVED, "the collection's own devices and sockets")
    identifiers = {
        "memory.blocks": [block.id for block in definition.blocks],
        "nvdimms": [nvdimm.id for nvdimm in definition.nvdimms],
        "disks": [disk.id for disk in definition.disks],
        "nics": [nic.id for nic in definition.nics],
        "consoles": [console.id for console in definition.consoles],
    }
    for kind, values in identifiers.items():
        for index, value in enumerate(values):
            key = f"{kind}[{index}].id"
            if value and value in seen:
                top.problems.append(f"{key}: {value!r} is taken by {seen[value]}")
            seen.setdefault(value, key)
    for field_name in ("mac", "tap"):
        values = [getattr(nic, field_name) for nic in definition.nics if getattr(nic, field_name)]
        for value in sorted({value for value in values if values.count(value) > 1}):
            top.problems.append(f"nics: {field_name} {value} is given twice")
    images = [(disk.path, disk.read_only) for disk in definition.disks]
    images += [(nvdimm.path, nvdimm.read_only) for nvdimm in definition.nvdimms if nvdimm.path]
    written = {path for path, read_only in images if not read_only}
    paths = [path for path, _read_only in images]
    for path in sorted(path for path in written if paths.count(path) > 1):
        top.problems.append(f"disks: {path} is written by one disk or NVDIMM and used by another")
    top.problems += shared_device_parts(definition)
    boot = [disk.boot_index for disk in definition.disks if disk.boot_index is not None]
    for index in sorted({index for index in boot if boot.count(index) > 1}):
        top.problems.append(f"disks: boot_index {index} is given twice")
    if sum(console.type == "serial" for console in definition.consoles) > _SERIAL_PORTS:
        top.problems.append(f"consoles: a machine has {_SERIAL_PORTS} serial ports; use type virtio for more")
    _check_nodes(definition, top)
    _check_lasting(definition, top)


def shared_device_parts(definition: Definition) -> list[str]:
    """Parts of device-DAX devices that are used twice, as far as the names in the definition tell."""
    parts = [
        (block.device or block.namespace, block.offset or 0, block.size, block.id)
        for block in definition.blocks
        if block.on_device
    ]
    parts += [
        (nvdimm.path or nvdimm.namespace, 0, nvdimm.size, nvdimm.id) for nvdimm in definition.nvdimms if nvdimm.device
    ]
    return [
        f"memory.blocks: {first} and {second} share a part of {device}"
        for number, (device, offset, size, first) in enumerate(parts)
        for other, start, length, second in parts[number + 1 :]
        if other == device and start < offset + size and offset < start + length
    ]


def _check_nodes(definition: Definition, top: Fields) -> None:
    if definition.memory_size % _MEMORY_STEP:
        top.problems.append(
            f"memory.blocks: all of them together must be a multiple of {format_size(_MEMORY_STEP)}, to which QEMU rounds a guest's memory up"
        )
    nodes = [block.numa_node for block in definition.blocks]
    if len(nodes) > 1 and any(node is None for node in nodes):
        top.problems.append("memory.blocks: several blocks are NUMA nodes of the guest; give each its numa_node")
    elif any(node is not None for node in nodes) and sorted(node for node in nodes if node is not None) != list(
        range(len(nodes))
    ):
        top.problems.append(f"memory.blocks: numa_node must number the blocks 0 to {len(nodes) - 1}, each once")


def _check_lasting(definition: Definition, top: Fields) -> None:
    if definition.on_host_shutdown != "save":
        return
    for block in definition.blocks:
        reason = volatile_reason(block)
        if reason:
            top.problems.append(
                f"on_host_shutdown: save needs memory that outlives the host's reboot, and {block.id} {reason}: use backing dax or file, or poweroff"
            )
