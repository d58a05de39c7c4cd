# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""QEMU arguments that a user may not add, because they are the runtime's or would break a live update."""

from __future__ import annotations

from .command_line import Option, parse_command_line
from .qemu_options import parse_options

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
}
_RUNTIME = (
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
)
_WHOLE_FILES = ("readconfig", "writeconfig", "loadvm", "nodefaults", "no-user-config")


def forbidden_arguments(arguments: list[str], where: str) -> list[str]:
    """What is wrong with a user's further arguments, as ``key: reason``."""
    try:
        options = parse_command_line(arguments)
    except ValueError as error:
        return [f"{where}: {error}"]
    problems = []
    for option in options:
        reason = _reason(option)
        if reason:
            problems.append(f"{where}[{option.index}]: {option} {reason}")
    return problems


def _reason(option: Option) -> str | None:
    if option.name in _OURS:
        return f"is rendered from the definition: use {_OURS[option.name]}"
    if option.name in _RUNTIME:
        return "belongs to the runtime"
    if option.name in _WHOLE_FILES:
        return "would take the arguments out of the definition's hands"
    if option.name == "snapshot":
        return "puts the guest's writes into temporary files that the next QEMU does not see"
    try:
        return _option_reason(option)
    except ValueError as error:
        return f"cannot be read: {error}"


def _option_reason(option: Option) -> str | None:
    checks = {
        "object": _object,
        "chardev": _chardev,
        "serial": _character_device,
        "parallel": _character_device,
        "netdev": _network,
        "nic": _network,
        "vnc": _vnc,
        "drive": _drive,
        "hda": _plain_image,
        "hdb": _plain_image,
        "hdc": _plain_image,
        "hdd": _plain_image,
        "cdrom": _plain_image,
        "device": _device,
    }
    check = checks.get(option.name)
    return check(option.value) if check else None


def _object(value: str) -> str | None:
    kind = parse_options(value, "qom-type").get("qom-type", "")
    return "is rendered from the definition: use memory.blocks" if kind.startswith("memory-backend") else None


def _chardev(value: str) -> str | None:
    options = parse_options(value, "backend")
    backend = options.get("backend", "")
    if backend == "file" and options.get("append") != "on":
        return "would truncate its file when the next QEMU starts: add append=on"
    if backend == "socket" and options.get("server") == "on":
        return _socket(options.get("path", ""))
    if backend == "pipe":
        return "is one pipe that two QEMUs would read at once: use a socket under @generation@"
    return None


def _socket(path: str) -> str | None:
    if "@generation@" in path:
        return None
    if path:
        return (
            f"listens on {path}, which the next QEMU would take over and the old one unlink: put it under @generation@/"
        )
    return "listens on a TCP port, which two QEMUs cannot hold at once: use a socket path under @generation@/"


def _character_device(value: str) -> str | None:
    kind, _colon, rest = value.partition(":")
    if kind == "file":
        return "would truncate its file when the next QEMU starts: use consoles, or -chardev file with append=on"
    if kind in ("unix", "tcp", "telnet") and "server" in rest:
        return _socket(rest.split(",")[0] if kind == "unix" else "")
    return None


def _network(value: str) -> str | None:
    options = parse_options(value, "type")
    if "hostfwd" in options:
        return "has hostfwd, a port that two QEMUs cannot hold at once: use a tap"
    if options.get("type") == "tap":
        return "has a tap that the runtime does not know: use nics"
    return None


def _vnc(value: str) -> str | None:
    if value.startswith("unix:@generation@/") or value == "none":
        return None
    return "holds a port or path that two QEMUs cannot hold at once: use vnc: true"


def _drive(value: str) -> str | None:
    if parse_options(value).get("snapshot") == "on":
        return "puts the guest's writes into a temporary file that the next QEMU does not see"
    return None


def _plain_image(_value: str) -> str | None:
    return "is a disk the runtime cannot follow: use disks"


def _device(value: str) -> str | None:
    kind = parse_options(value, "driver").get("driver", "")
    return "cannot be migrated (QEMU: State blocked by non-migratable device)" if kind == "nvme" else None
