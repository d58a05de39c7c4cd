# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters for single arguments of QEMU, for templates. Each is documented in the YAML file of its name beside this one."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from ..module_utils._guest import arguments
from ..module_utils._guest.definition import parse_console, parse_disk, parse_nic
from ..module_utils._guest.nvdimm import parse_nvdimm
from ..plugin_utils._plain import as_filter, definition_of, part_of


def _of_guest(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def wrapped(value: Any) -> Any:
        return function(definition_of(value))

    return as_filter(wrapped)


def _of_nvdimm(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def wrapped(value: Any) -> Any:
        return function(part_of(value, parse_nvdimm, "NVDIMM"))

    return as_filter(wrapped)


def _of_disk(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def wrapped(value: Any) -> Any:
        return function(part_of(value, parse_disk, "disk"))

    return as_filter(wrapped)


def _of_nic(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def wrapped(value: Any) -> Any:
        # The default name of the tap comes from guest and number; no argument has it.
        return function(part_of(value, parse_nic, "network interface", "", 0))

    return as_filter(wrapped)


def _of_console(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def wrapped(value: Any) -> Any:
        return function(part_of(value, parse_console, "console"))

    return as_filter(wrapped)


class FilterModule:
    """The filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "machine_options": _of_guest(arguments.machine_options),
            "memory_options": _of_guest(arguments.memory_options),
            "memory_objects": _of_guest(arguments.memory_objects),
            "numa_nodes": _of_guest(arguments.numa_nodes),
            "nvdimm_object": _of_nvdimm(arguments.nvdimm_object),
            "nvdimm_device": _of_nvdimm(arguments.nvdimm_device),
            "disk_blockdev": _of_disk(arguments.disk_blockdev),
            "disk_device": _of_disk(arguments.disk_device),
            "nic_netdev": _of_nic(arguments.nic_netdev),
            "nic_device": _of_nic(arguments.nic_device),
            "console_chardev": _of_console(arguments.console_chardev),
        }
