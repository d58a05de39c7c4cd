# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which device-DAX device a definition means on this host now.

The X and Y of /dev/daxX.Y are counted as the kernel finds regions and namespaces. A namespace's name and UUID are in its label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .._host.pmem import DEVICES, Namespace
from .._host.pmem_sysfs import regions_in_sysfs
from .definition import Definition, shared_device_parts
from .errors import Refused


class NotThere(Refused):
    """A device that a definition names is not there now: it may come."""


def known_namespaces(devices: str = DEVICES) -> list[Namespace]:
    """All namespaces of this host; none without persistent memory."""
    return [namespace for region in regions_in_sysfs(devices) for namespace in region.namespaces]


def resolved(definition: Definition, devices: str = DEVICES) -> Definition:
    """The definition with the device of each namespace that it names.

    :raises NotThere: there is no such namespace, or it has no device.
    :raises Refused: it is not the only one; or two names are one device.
    """
    if not any(block.namespace for block in definition.blocks) and not any(
        nvdimm.namespace for nvdimm in definition.nvdimms
    ):
        return definition
    known = known_namespaces(devices)
    blocks = [
        replace(block, device=device_of(block.namespace, known, f"Memory block {block.id}"))
        if block.namespace
        else block
        for block in definition.blocks
    ]
    nvdimms = [
        replace(nvdimm, path=device_of(nvdimm.namespace, known, f"NVDIMM {nvdimm.id}")) if nvdimm.namespace else nvdimm
        for nvdimm in definition.nvdimms
    ]
    whole = replace(definition, blocks=blocks, nvdimms=nvdimms)
    shared = shared_device_parts(whole)
    if shared:
        raise Refused(f"Guest {definition.name}: {'; '.join(shared)}.", cure="Correct offset, namespace or device.")
    return whole


def device_of(name: str, known: Sequence[Namespace], what: str) -> str:
    """Path of the device of the devdax namespace with this name or UUID.

    :param what: names it, for errors.
    :raises NotThere: with the namespaces that come near.
    :raises Refused: it is not the only one.
    """
    found = [item for item in known if item.mode == "devdax" and _is_called(item, name)]
    if not found:
        near = [_described(item) for item in known if item.mode == "devdax" or _is_called(item, name)]
        raise NotThere(
            f"{what}: there is no devdax namespace with the name or UUID {name}.",
            cause=f"There are: {'; '.join(near) or 'none at all'}.",
            cure="Correct namespace, or make it with hostmem.qemu.pmem_namespace (mode devdax).",
        )
    if len(found) > 1:
        raise Refused(
            f"{what}: {len(found)} devdax namespaces are called {name}.",
            cause=f"They are: {'; '.join(map(_described, found))}.",
            cure="Name it by its UUID.",
        )
    if not found[0].enabled or not found[0].device:
        raise NotThere(
            f"{what}: the namespace {name} ({found[0].dev}) is disabled.",
            cure=f"ndctl enable-namespace {found[0].dev}",
        )
    return f"/dev/{found[0].device}"


def lasting_name(place: str, known: Sequence[Namespace]) -> str:
    """The UUID of what a definition calls ``place`` (a device, or a namespace); ``place`` itself where there is none, or no single one."""
    names = {item.uuid for item in known if item.uuid and place in names_of(item)}
    return names.pop() if len(names) == 1 else place


def names_of(namespace: Namespace) -> set[str]:
    """All that a definition can call a devdax namespace; nothing for another one."""
    if namespace.mode != "devdax":
        return set()
    path = f"/dev/{namespace.device}" if namespace.device else ""
    return {text for text in (path, namespace.name, namespace.uuid) if text}


def _is_called(namespace: Namespace, name: str) -> bool:
    return name == namespace.name or (bool(namespace.uuid) and name.lower() == namespace.uuid.lower())


def _described(namespace: Namespace) -> str:
    parts = [f"name {namespace.name}" if namespace.name else "", namespace.uuid, f"mode {namespace.mode}"]
    parts.append(f"/dev/{namespace.device}" if namespace.enabled and namespace.device else "disabled")
    return f"{namespace.dev} ({', '.join(part for part in parts if part)})"
