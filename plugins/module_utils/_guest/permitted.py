# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which QEMU arguments a user, or a template, may add. What is not known to survive a live update is not permitted."""

from __future__ import annotations

from collections.abc import Callable

from .command_line import Option, parse_command_line
from .qemu_options import is_on, parse_options, split_options

_OURS = {
    "machine": "machine and accel",
    "M": "machine",
    "accel": "accel",
    "enable-kvm": "accel",
    "m": "memory",
    "mem-path": "memory.blocks",
    "mem-prealloc": "memory.blocks[].prealloc",
    "smp": "cpu.count",
    "numa": "memory.blocks[].numa_node",
    "name": "name",
    "cpu": "cpu.model",
    "kernel": "kernel.image",
    "initrd": "kernel.initrd",
    "append": "kernel.cmdline",
    "vnc": "vnc",
    "vga": "video",
}
_RUNTIME = frozenset(
    [
        "qmp",
        "qmp-pretty",
        "mon",
        "monitor",
        "pidfile",
        "S",
        "incoming",
        "daemonize",
        "D",
        "preconfig",
        "sandbox",
        "runas",
        "run-with",
        "chroot",
        "only-migratable",
        "nodefaults",
        "no-user-config",
    ]
)
_DISKS = frozenset(["drive", "hda", "hdb", "hdc", "hdd", "cdrom", "fda", "fdb", "sd", "mtdblock", "pflash"])
# Nothing in these outlives or is shared by a QEMU.
_HARMLESS = frozenset(
    [
        "rtc",
        "boot",
        "smbios",
        "acpitable",
        "fw_cfg",
        "uuid",
        "k",
        "msg",
        "no-reboot",
        "action",
        "overcommit",
        "usb",
        "global",
        "audio",
        "audiodev",
        "icount",
        "L",
        "bios",
    ]
)
# Objects that hold nothing two QEMUs cannot hold at once, and write no file.
_OBJECTS = frozenset(
    [
        "can-bus",
        "cryptodev-backend-builtin",
        "iothread",
        "main-loop",
        "pr-manager-helper",
        "rng-builtin",
        "rng-egd",
        "rng-random",
        "secret",
        "secret_keyring",
        "thread-context",
        "throttle-group",
    ]
)
_OBJECT_FAMILIES = ("acpi-generic-", "authz-", "tls-")
# What the runtime itself makes in a generation's directory (paths.py).
_GENERATION_FILES = ("qmp.sock", "cpr.sock", "main.sock", "generation.json", "device-state")


def forbidden_arguments(arguments: list[str], where: str) -> list[str]:
    """What is wrong with a user's further arguments, as ``key: reason``."""
    try:
        options = parse_command_line(arguments)
    except ValueError as error:
        return [f"{where}: {error}"]
    reasons = ((option, forbidden_reason(option)) for option in options)
    return [f"{where}[{option.index}]: {option} {reason}" for option, reason in reasons if reason]


def forbidden_reason(option: Option) -> str | None:
    """Why an option must not be added; None when it may be."""
    if option.name in _OURS:
        return f"is rendered from the definition: use {_OURS[option.name]}"
    if option.name in _RUNTIME:
        return "belongs to the runtime"
    if option.name in _DISKS:
        return "is a disk that the runtime cannot follow through snapshots: use disks"
    if option.name in _HARMLESS:
        return _global_reason(option.value) if option.name == "global" else None
    check = _CHECKS.get(option.name)
    if check is None:
        return "is not known to survive a live update"
    try:
        return check(option.value)
    except ValueError as error:
        return f"cannot be read: {error}"


def _options(value: str, implied: str) -> dict[str, str]:
    """The options, each given once: QEMU takes the last one, so what looks harmless might be replaced behind.

    :raises ValueError: a key is repeated.
    """
    if not value.startswith("{"):  # in JSON, QEMU refuses it itself
        first, *others = split_options(value)
        keys = [part.partition("=")[0] for part in (first if "=" in first else implied, *others)]
        repeated = sorted({key for key in keys if keys.count(key) > 1})
        if repeated:
            raise ValueError(f"{', '.join(repeated)} is given more than once")
    return parse_options(value, implied)


def _global_reason(value: str) -> str | None:
    """Written ``DRIVER.PROPERTY=VALUE`` or ``driver=…,property=…,value=…``."""
    driver = parse_options(value).get("driver", value.partition(".")[0])
    return "changes how QEMU migrates, which is the runtime's" if "migration" in driver else None


def _object(value: str) -> str | None:
    kind = _options(value, "qom-type").get("qom-type", "")
    if kind.startswith("memory-backend"):
        return "is rendered from the definition: use memory.blocks"
    if kind.startswith("monitor-"):
        return "belongs to the runtime"
    return None if kind in _OBJECTS or kind.startswith(_OBJECT_FAMILIES) else "is not known to survive a live update"


def _chardev(value: str) -> str | None:
    options = _options(value, "backend")
    backend = options.get("backend", "")
    if options.get("logfile"):
        return "has a logfile, which the next QEMU truncates: use a console with to: log"
    if backend == "file":
        return (
            None if is_on(options.get("append")) else "would truncate its file when the next QEMU starts: add append=on"
        )
    if backend == "socket":
        return _socket(options)
    return (
        None
        if backend in ("null", "ringbuf", "vc", "spicevmc")
        else f"has the backend {backend}, which two QEMUs cannot hold at once"
    )


def _socket(options: dict[str, str]) -> str | None:
    if not is_on(options.get("server")):
        return None
    path = options.get("path", "")
    if path.startswith("@generation@/"):
        name = path.partition("/")[2]
        return f"takes the place of the runtime's {name}" if name in _GENERATION_FILES or "/" in name else None
    if path:
        return (
            f"listens on {path}, which the next QEMU would take over and the old one unlink: put it under @generation@/"
        )
    return "listens on a TCP port, which two QEMUs cannot hold at once: use a socket path under @generation@/"


def _character_device(value: str) -> str | None:
    if value in ("none", "null") or value.startswith("chardev:"):
        return None
    return "may name only chardev:ID, null or none here: use consoles, or a -chardev"


def _network(value: str) -> str | None:
    options = _options(value, "type")
    if "hostfwd" in options or "guestfwd" in options:
        return "forwards a port, which two QEMUs cannot hold at once: use a tap"
    if options.get("type") == "user":
        return None
    return "is not known to survive a live update: use nics"


def _blockdev(value: str) -> str | None:
    return None if value.startswith("{") else "must be JSON, as nothing else can be held against the running QEMU"


def _device(value: str) -> str | None:
    kind = _options(value, "driver").get("driver", "")
    if kind == "nvme":
        return "cannot be migrated (QEMU: State blocked by non-migratable device)"
    if kind == "usb-host" or kind.startswith("vhost-vsock"):
        return "is something of the host that two QEMUs cannot hold at once"
    if kind in ("pc-dimm", "nvdimm", "virtio-mem-pci", "virtio-pmem-pci"):
        return "adds memory beside the definition's: use memory.blocks or nvdimms"
    return None


def _display(value: str) -> str | None:
    return (
        None
        if value in ("none", "egl-headless")
        else "needs a window or port that two QEMUs cannot hold at once: use vnc: true"
    )


def _trace(value: str) -> str | None:
    """Traced events go to QEMU's own log, which each generation has for itself."""
    return "writes a file that the next QEMU truncates" if "file" in _options(value, "enable") else None


_CHECKS: dict[str, Callable[[str], str | None]] = {
    "trace": _trace,
    "object": _object,
    "chardev": _chardev,
    "serial": _character_device,
    "parallel": _character_device,
    "debugcon": _character_device,
    "netdev": _network,
    "blockdev": _blockdev,
    "device": _device,
    "display": _display,
}
