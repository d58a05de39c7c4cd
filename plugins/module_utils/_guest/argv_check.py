# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Holding rendered arguments against the definition, so that a template cannot break a promise. Pure: no I/O."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from . import arguments
from .command_line import Option, parse_command_line
from .definition import Definition
from .errors import DefinitionError
from .layout import layout
from .qemu_options import parse_options

_RUNTIME = (
    "qmp",
    "qmp-pretty",
    "pidfile",
    "S",
    "incoming",
    "daemonize",
    "D",
    "mem-path",
    "mem-prealloc",
    "preconfig",
    "snapshot",
    "loadvm",
    "readconfig",
    "M",
    "runas",
    "chroot",
)
_ONCE = ("machine", "m", "name", "smp", "cpu")


def check_argv(definition: Definition, argv: Any) -> None:
    """Accept arguments (without the program's name) that do what the definition says.

    :raises DefinitionError: listing every contradiction.
    """
    if not isinstance(argv, list) or not all(isinstance(word, str) for word in argv):
        raise DefinitionError(["argv: must be a list of texts"])
    try:
        options = parse_command_line(argv)
        problems = _problems(definition, options)
    except ValueError as error:
        problems = [f"argv: {error}"]
    if problems:
        raise DefinitionError(problems)


def _problems(definition: Definition, options: list[Option]) -> list[str]:
    return [
        *_check_runtime(options),
        *_check_machine(definition, options),
        *_check_memory(definition, options),
        *_check_numa(definition, options),
        *_check_disks(definition, options),
        *_check_nics(definition, options),
        *_check_sockets(options),
        *_check_contained(definition, options),
    ]


def _values(options: list[Option], *names: str) -> list[str]:
    return [option.value for option in options if option.name in names]


def _check_runtime(options: list[Option]) -> list[str]:
    problems = [f"argv: -{option.name} belongs to the runtime" for option in options if option.name in _RUNTIME]
    for name in _ONCE:
        count = len(_values(options, name))
        if count != 1:
            problems.append(f"argv: -{name} must be there once, not {count} times")
    for flag in ("nodefaults", "no-user-config", "only-migratable"):
        if not any(option.name == flag for option in options):
            problems.append(f"argv: -{flag} is missing")
    return problems


def _same(problems: list[str], what: str, got: dict[str, str], wanted: dict[str, str]) -> None:
    for key, value in wanted.items():
        if got.get(key) != value:
            problems.append(f"argv: {what}: {key} is {got.get(key)!r}, the definition says {value!r}")


def _check_machine(definition: Definition, options: list[Option]) -> list[str]:
    problems: list[str] = []
    wanted = parse_options(arguments.machine_options(definition), "type")
    for value in _values(options, "machine"):
        got = parse_options(value, "type")
        _same(problems, "-machine", got, wanted)
        if "memory-backend" in got and "memory-backend" not in wanted:
            problems.append("argv: -machine: memory-backend contradicts the NUMA nodes of the definition")
    for value in _values(options, "m"):
        _same(problems, "-m", parse_options(value, "size"), parse_options(arguments.memory_options(definition), "size"))
    for value in _values(options, "name"):
        _same(problems, "-name", parse_options(value, "guest"), {"guest": definition.name})
    for value in _values(options, "smp"):
        _same(problems, "-smp", parse_options(value, "cpus"), {"cpus": str(definition.cpus)})
    for value in _values(options, "cpu"):
        if value != definition.cpu_model:
            problems.append(f"argv: -cpu is {value!r}, the definition says {definition.cpu_model!r}")
    return problems


def _check_memory(definition: Definition, options: list[Option]) -> list[str]:
    problems: list[str] = []
    found = [parse_options(value, "qom-type") for value in _values(options, "object")]
    found = [item for item in found if item.get("qom-type", "").startswith("memory-backend")]
    wanted = {
        placed.block.id: parse_options(arguments.memory_object(placed), "qom-type") for placed in layout(definition)
    }
    if [item.get("id") for item in found] != list(wanted):
        problems.append(
            f"argv: memory backends are {[item.get('id') for item in found]}, the definition says {list(wanted)} in this order"
        )
    for item in found:
        expected = wanted.get(item.get("id", ""))
        if expected is not None:
            _same(problems, f"memory backend {item.get('id')}", item, expected)
        if item.get("discard-data") == "on":
            problems.append(
                f"argv: memory backend {item.get('id')}: discard-data=on lets the old QEMU punch the file under the new one"
            )
        if item.get("readonly") == "on" or item.get("reserve") == "off":
            problems.append(
                f"argv: memory backend {item.get('id')}: readonly=on and reserve=off are not for a guest's RAM"
            )
    return problems


def _check_numa(definition: Definition, options: list[Option]) -> list[str]:
    found = [parse_options(value, "type") for value in _values(options, "numa")]
    given = Counter(item["memdev"] for item in found if "memdev" in item)
    wanted = Counter(block.id for block in definition.blocks if block.numa_node is not None)
    if given != wanted:
        return [
            f"argv: -numa uses the memory backends {sorted(given.elements())}, the definition says {sorted(wanted.elements())}"
        ]
    nodes = {item["memdev"]: item.get("nodeid") for item in found if "memdev" in item}
    return [
        f"argv: -numa: backend {block.id} is node {nodes[block.id]}, the definition says {block.numa_node}"
        for block in definition.blocks
        if block.numa_node is not None and nodes[block.id] != str(block.numa_node)
    ]


def _check_disks(definition: Definition, options: list[Option]) -> list[str]:
    problems: list[str] = []
    nodes: dict[str, dict[str, Any]] = {}
    for value in _values(options, "blockdev"):
        if not value.startswith("{"):
            problems.append("argv: -blockdev must be JSON, so that the runtime can follow snapshots")
            continue
        node = json.loads(value)
        nodes[node.get("node-name", "")] = node
    devices = [parse_options(value, "driver") for value in _values(options, "device")]
    for disk in definition.disks:
        node = nodes.get(f"disk-{disk.id}", {})
        wanted = arguments.blockdev(disk)
        if node.get("file", {}).get("filename") != disk.path or node.get("driver") != disk.format:
            problems.append(
                f"argv: disk {disk.id}: no -blockdev with node-name disk-{disk.id}, driver {disk.format} and file {disk.path}"
            )
        elif node.get("read-only") != wanted["read-only"]:
            problems.append(
                f"argv: disk {disk.id}: read-only is {node.get('read-only')!r}, the definition says {disk.read_only}"
            )
        if not any(device.get("drive") == f"disk-{disk.id}" and device.get("id") == disk.id for device in devices):
            problems.append(f"argv: disk {disk.id}: no -device with id {disk.id} and drive disk-{disk.id}")
    return problems


def _check_nics(definition: Definition, options: list[Option]) -> list[str]:
    problems: list[str] = []
    netdevs = {
        item.get("id", ""): item for item in (parse_options(value, "type") for value in _values(options, "netdev"))
    }
    devices = {
        item.get("id", ""): item for item in (parse_options(value, "driver") for value in _values(options, "device"))
    }
    for nic in definition.nics:
        wanted = parse_options(arguments.nic_netdev(nic), "type")
        _same(
            problems,
            f"netdev of {nic.id}",
            netdevs.get(f"net-{nic.id}", {}),
            {key: wanted[key] for key in ("type", "fds") if key in wanted},
        )
        _same(
            problems,
            f"device of {nic.id}",
            devices.get(nic.id, {}),
            {"driver": nic.model, "mac": nic.mac, "netdev": f"net-{nic.id}"},
        )
    return problems


def _check_sockets(options: list[Option]) -> list[str]:
    problems = []
    for value in _values(options, "chardev"):
        item = parse_options(value, "backend")
        if (
            item.get("backend") == "socket"
            and item.get("server") == "on"
            and arguments.GENERATION not in item.get("path", "")
        ):
            problems.append(
                f"argv: chardev {item.get('id')}: its socket must lie under {arguments.GENERATION}/, as the old QEMU unlinks it"
            )
        if item.get("backend") == "file" and item.get("append") != "on":
            problems.append(
                f"argv: chardev {item.get('id')}: append=on is missing, the next QEMU would truncate the file"
            )
    return problems


def _check_contained(definition: Definition, options: list[Option]) -> list[str]:
    present = Counter((option.name, option.value) for option in options)
    try:
        further = parse_command_line(definition.arguments)
    except ValueError:
        return []
    missing = Counter((option.name, option.value) for option in further) - present
    return [f"argv: the definition's argument -{name} {value} is missing" for name, value in missing.elements()]
