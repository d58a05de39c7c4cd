# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Holding rendered arguments against the definition, so that a template cannot break a promise. Pure: no I/O."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from . import arguments
from .backend_options import NOT_KEYS
from .command_line import Option, parse_command_line
from .definition import Definition
from .errors import DefinitionError
from .layout import layout
from .permitted import forbidden_reason
from .qemu_options import parse_options

_ONCE = ("machine", "m", "name", "smp", "cpu")
_FLAGS = ("nodefaults", "no-user-config", "only-migratable")
# Options of the definition, each held against it below; every other one must be permitted by itself.
_RENDERED = frozenset((*_ONCE, *_FLAGS, "sandbox", "object", "numa", "kernel", "initrd", "append", "vnc", "netdev"))
# What a template may add to a memory backend: it changes how QEMU fills or shows the memory, not where it lies.
_FREE_MEMORY_KEYS = frozenset(("merge", "dump", "prealloc-threads", "prealloc-context"))
_TOPOLOGY_KEYS = frozenset(("sockets", "dies", "clusters", "modules", "cores", "threads"))


def check_argv(definition: Definition, argv: Any) -> None:
    """Accept arguments (without the program's name) that do what the definition says.

    :raises DefinitionError: listing every contradiction.
    """
    if not isinstance(argv, list) or not all(isinstance(word, str) for word in argv):
        raise DefinitionError(["argv: must be a list of texts"])
    try:
        problems = _Check(definition, parse_command_line(argv)).run()
    except ValueError as error:
        problems = [str(error)]
    if problems:
        raise DefinitionError([f"argv: {problem}" for problem in problems])


class _Check:
    """One comparison; every method adds what it finds to ``problems``."""

    def __init__(self, definition: Definition, options: list[Option]) -> None:
        self._definition = definition
        self._options = options
        self.problems: list[str] = []

    def run(self) -> list[str]:
        self._check_permitted()
        self._check_counts()
        self._check_machine()
        self._check_memory()
        self._check_numa()
        self._check_boot()
        self._check_nvdimms()
        self._check_disks()
        self._check_nics()
        self._check_consoles()
        self._check_further()
        return self.problems

    def _values(self, name: str) -> list[str]:
        return [option.value for option in self._options if option.name == name]

    def _parsed(self, name: str, implied: str) -> list[dict[str, str]]:
        return [parse_options(value, implied) for value in self._values(name)]

    def _same(self, what: str, got: dict[str, str], wanted: dict[str, str]) -> None:
        for key, value in wanted.items():
            if got.get(key) != value:
                self.problems.append(f"{what}: {key} is {got.get(key)!r}, the definition says {value!r}")

    def _only(self, what: str, got: dict[str, str], allowed: set[str]) -> None:
        for key in sorted(set(got) - allowed):
            reason = f" ({key} {NOT_KEYS[key]})" if key in NOT_KEYS and what.startswith("memory backend ") else ""
            self.problems.append(f"{what}: {key}={got[key]} is not in the definition{reason}")

    def _check_permitted(self) -> None:
        for option in self._options:
            if (option.name not in _RENDERED or _is_further_object(option)) and not _is_nvdimm(option):
                reason = forbidden_reason(option)
                if reason:
                    self.problems.append(f"{option} {reason}")

    def _check_counts(self) -> None:
        for name in _ONCE:
            count = len(self._values(name))
            if count != 1:
                self.problems.append(f"-{name} must be there once, not {count} times")
        for flag in _FLAGS:
            if flag == "only-migratable" and self._definition.has_vfio:
                continue  # QEMU would not start with such a device
            if not any(option.name == flag for option in self._options):
                self.problems.append(f"-{flag} is missing")
        if [parse_options(value, "enable").get("enable") for value in self._values("sandbox")] != ["on"]:
            self.problems.append("-sandbox on is missing")
        wanted = "allow" if self._definition.sandbox_spawn else "deny"
        for got in self._parsed("sandbox", "enable"):
            self._same("-sandbox", got, {"spawn": wanted})

    def _check_machine(self) -> None:
        definition = self._definition
        wanted = parse_options(arguments.machine_options(definition), "type")
        for got in self._parsed("machine", "type"):
            self._same("-machine", got, wanted)
            if "memory-backend" in got and "memory-backend" not in wanted:
                self.problems.append("-machine: memory-backend contradicts the NUMA nodes of the definition")
        memory = parse_options(arguments.memory_options(definition), "size")
        for got in self._parsed("m", "size"):
            self._same("-m", got, memory)
            self._only("-m", got, set(memory))
        for got in self._parsed("name", "guest"):
            self._same("-name", got, {"guest": definition.name})
        for got in self._parsed("smp", "cpus"):
            self._same("-smp", got, {"cpus": str(definition.cpus)})
            self._only("-smp", got, {"cpus", *_TOPOLOGY_KEYS})
        for value in self._values("cpu"):
            if value != definition.cpu_model:
                self.problems.append(f"-cpu is {value!r}, the definition says {definition.cpu_model!r}")

    def _check_memory(self) -> None:
        found = [
            item for item in self._parsed("object", "qom-type") if item.get("qom-type", "").startswith("memory-backend")
        ]
        wanted = {
            placed.block.id: parse_options(arguments.memory_object(placed), "qom-type")
            for placed in layout(self._definition)
        }
        for nvdimm in self._definition.nvdimms:
            wanted[nvdimm.id] = parse_options(arguments.nvdimm_object(nvdimm), "qom-type")
        if [item.get("id") for item in found] != list(wanted):
            names = [item.get("id") for item in found]
            self.problems.append(f"memory backends are {names}, the definition says {list(wanted)} in this order")
        for item in found:
            expected = wanted.get(item.get("id", ""))
            if expected is not None:
                what = f"memory backend {item.get('id')}"
                self._same(what, item, expected)
                self._only(what, item, {*expected, *_FREE_MEMORY_KEYS})

    def _check_numa(self) -> None:
        given = Counter(
            f"{item['memdev']} as node {item.get('nodeid')}"
            for item in self._parsed("numa", "type")
            if "memdev" in item
        )
        wanted = Counter(
            f"{block.id} as node {block.numa_node}" for block in self._definition.blocks if block.numa_node is not None
        )
        if given != wanted:
            self.problems.append(
                f"-numa has {sorted(given.elements())}, the definition says {sorted(wanted.elements())}"
            )

    def _check_boot(self) -> None:
        kernel = self._definition.kernel
        wanted = {"kernel": kernel.image, "initrd": kernel.initrd, "append": kernel.cmdline} if kernel else {}
        for name in ("kernel", "initrd", "append"):
            expected = [wanted[name]] if wanted.get(name) else []
            if self._values(name) != expected:
                self.problems.append(f"-{name} is {self._values(name)}, the definition says {expected}")

    def _check_disks(self) -> None:
        nodes = {}
        for value in self._values("blockdev"):
            if value.startswith("{"):
                node = json.loads(value)
                nodes[node.get("node-name", "")] = node
        devices = self._parsed("device", "driver")
        for disk in self._definition.disks:
            name = f"disk-{disk.id}"
            for problem in _node_problems(nodes.get(name, {}), arguments.blockdev(disk)):
                self.problems.append(f"disk {disk.id}: -blockdev {name}: {problem}")
            if not any(device.get("drive") == name and device.get("id") == disk.id for device in devices):
                self.problems.append(f"disk {disk.id}: no -device with id {disk.id} and drive {name}")

    def _check_nvdimms(self) -> None:
        given = [item for item in self._parsed("device", "driver") if item.get("driver") == "nvdimm"]
        wanted = [parse_options(arguments.nvdimm_device(nvdimm), "driver") for nvdimm in self._definition.nvdimms]
        if given != wanted:
            self.problems.append(f"-device nvdimm has {given}, the definition says {wanted}")

    def _check_nics(self) -> None:
        netdevs = {item.get("id", ""): item for item in self._parsed("netdev", "type")}
        devices = {item.get("id", ""): item for item in self._parsed("device", "driver")}
        ours = {f"net-{nic.id}" for nic in self._definition.nics}
        for option in self._options:
            if option.name == "netdev" and parse_options(option.value, "type").get("id") not in ours:
                reason = forbidden_reason(option)
                if reason:
                    self.problems.append(f"{option} {reason}")
        for nic in self._definition.nics:
            wanted = parse_options(arguments.nic_netdev(nic), "type")
            got = netdevs.get(f"net-{nic.id}", {})
            self._same(f"netdev of {nic.id}", got, {key: wanted[key] for key in ("type", "fds") if key in wanted})
            self._only(f"netdev of {nic.id}", got, {*wanted, "vhost", "net", "host", "ipv6", "restrict", "dns"})
            identity = {"driver": nic.model, "mac": nic.mac, "netdev": f"net-{nic.id}"}
            self._same(f"device of {nic.id}", devices.get(nic.id, {}), identity)

    def _check_consoles(self) -> None:
        definition = self._definition
        chardevs = {item.get("id", ""): item for item in self._parsed("chardev", "backend")}
        devices = {item.get("id", ""): item for item in self._parsed("device", "driver")}
        wanted = [(console.id, arguments.console_chardev(console)) for console in definition.consoles]
        if definition.guest_agent:
            wanted.append(("qga", arguments.agent_chardev()))
        for identifier, value in wanted:
            name = f"chr-{identifier}"
            self._same(f"chardev {name}", chardevs.get(name, {}), parse_options(value, "backend"))
            self._same(f"device {identifier}", devices.get(identifier, {}), {"chardev": name})
        expected = [arguments.vnc_display()] if definition.vnc else []
        if self._values("vnc") != expected:
            self.problems.append(f"-vnc is {self._values('vnc')}, the definition says {expected}")
        if definition.video != "none" and "video" not in devices:
            self.problems.append("no -device with id video")

    def _check_further(self) -> None:
        present = Counter((option.name, option.value) for option in self._options)
        further = parse_command_line(self._definition.arguments)
        missing = Counter((option.name, option.value) for option in further) - present
        for name, value in missing.elements():
            self.problems.append(f"the definition's argument -{name} {value} is missing")


def _is_nvdimm(option: Option) -> bool:
    return option.name == "device" and parse_options(option.value, "driver").get("driver") == "nvdimm"


def _is_further_object(option: Option) -> bool:
    kind = parse_options(option.value, "qom-type").get("qom-type", "") if option.name == "object" else "memory-backend"
    return not kind.startswith("memory-backend")


def _node_problems(got: Any, wanted: dict[str, Any]) -> list[str]:
    """Every key of the definition's block node must be there with its value; a template may add others."""
    if not isinstance(got, dict):
        return [f"{got!r} is not the node of the definition's file"]
    problems = []
    for key, value in wanted.items():
        if isinstance(value, dict):
            problems += [f"{key}: {problem}" for problem in _node_problems(got.get(key, {}), value)]
        elif got.get(key) != value:
            problems.append(f"{key} is {got.get(key)!r}, the definition says {value!r}")
    return problems
