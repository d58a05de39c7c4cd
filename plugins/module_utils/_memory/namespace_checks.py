# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is refused about namespaces of persistent memory before anything changes: sizes, misaligned regions, data, users."""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import gcd

from .._guest.namespace_guests import guest_files, guests_on
from .._guest.sizes import format_size
from .._host.cures import refused_by_kernel
from .._host.devdax import DEVICES, dax_device
from .._host.device_content import content_of_block_device, content_of_dax_device
from .._host.device_users import device_users
from .._host.errors import HostmemError, Refused
from .._host.filesystem_tools import signatures
from .._host.pmem import Namespace, Region, disable_namespace, enable_namespace, regions

# The least that the kernel and ndctl let a namespace with a page map have (nd_namespace_store(), drivers/nvdimm/claim.c).
SMALLEST = 16 << 20
# memremap_compat_align() on x86-64, and what ndctl demands of a namespace's start (check_dax_align()).
_MAPPED = 2 << 20
_START = 16 << 20

MODES = {
    "raw": "A raw namespace is a block device without struct pages for its memory: no file on it can be mapped directly."
    " ext4 refuses dax=always there, xfs turns it off without an error.",
    "sector": "A sector (btt) namespace writes whole sectors atomically by way of a translation table, so that its memory cannot be"
    " mapped directly: there is no DAX on it.",
    "fsdax": "An fsdax namespace is a block device for a file system.",
    "devdax": "A devdax namespace is a character device for one guest, without a file system.",
}


def step_of(region: Region, align: int) -> int:
    """Sizes of namespaces are multiples of this: of the region's own alignment, and of theirs on every module that takes turns."""
    other = align * region.ways
    return region.align * other // gcd(region.align, other)


def gaps(region: Region, leaving_out: Namespace | None = None) -> list[tuple[int, int]]:
    """Free stretches of a region as start and size in bytes, in order; one namespace may be counted as free.

    Empty when the kernel does not tell where things lie.
    """
    others = [item for item in region.namespaces if leaving_out is None or item.dev != leaving_out.dev]
    if region.start is None or any(item.start is None for item in others):
        return []
    found, position = [], region.start
    for start, size in sorted((item.start or 0, item.raw_size) for item in others):
        if start > position:
            found.append((position, start - position))
        position = max(position, start + size)
    end = region.start + region.size
    return [*found, (position, end - position)] if end > position else found


def check_region(region: Region, align: int, leaving_out: Namespace | None = None) -> None:
    """The region begins where pages can be mapped, or the free part of it that will be used does.

    :raises Refused: it does not, or the region is disabled.
    """
    if not region.enabled:
        raise Refused(f"{region.dev} is disabled.", cure=f"Enable it: ndctl enable-region {region.dev}.")
    starts = [start for start, _size in gaps(region, leaving_out)]
    if leaving_out is not None and leaving_out.start is not None:
        starts = [leaving_out.start]
    bad = [start for start in starts if start % _START]
    if not starts or len(bad) < len(starts):
        return
    start = bad[0]
    least = _MAPPED if start % _MAPPED else _START
    raise Refused(
        f"{region.dev} is misaligned: its free memory begins at {start:#x}, no multiple of {format_size(least)}.",
        cause=f"The kernel maps persistent memory from multiples of {format_size(_MAPPED)} on (it would say: start {start:#x} misaligned to"
        f" {_MAPPED:#x}), and ndctl demands {format_size(_START)}.",
        cure=_cure_of_start(region, start),
    )


def _cure_of_start(region: Region, start: int) -> str:
    if start == region.start and not region.dimms:
        next_start = -(-start // _START) * _START
        return (
            f"The region has no memory module: it comes from the firmware's map or from the kernel parameter memmap=SIZE!START. Let it begin"
            f" at a multiple of 16 MiB, such as {next_start:#x}, and be a multiple of 16 MiB long."
        )
    return (
        f"Give the namespaces before it sizes that are multiples of {format_size(_START)}, after"
        f" echo {_START} > /sys/bus/nd/devices/{region.dev}/align once the region is empty."
    )


def check_size(region: Region, align: int, size: int, room: int) -> None:
    """A size, in bytes, can be had: a multiple of what it must be, large enough, and with room for it.

    :param room: the largest free stretch, in bytes.
    :raises Refused: it cannot; the next sizes that can are named.
    """
    step = step_of(region, align)
    if size % step or size < SMALLEST:
        raise Refused(
            f"{region.dev} cannot have a namespace of {format_size(size)}.",
            cause=_why(region, align, size, step),
            cure=next_sizes(size, step, room),
        )
    if size > room:
        raise Refused(
            f"{region.dev} has no room for a namespace of {format_size(size)}.",
            cause=f"Its largest free stretch has {format_size(room)}, all of it {format_size(region.size)}. {contents(region)}",
            cure=next_sizes(size, step, room),
        )


def _why(region: Region, align: int, size: int, step: int) -> str:
    if size < SMALLEST:
        return f"A namespace of this kind has at least {format_size(SMALLEST)}."
    if size % region.align:
        return (
            f"Sizes of namespaces are multiples of the region's own alignment of {format_size(region.align)} (ndctl would say: align setting"
            f" is {region.align:#x} size {size:#x} is misaligned)."
        )
    several = f" on each of its {region.ways} modules" if region.ways > 1 else ""
    return f"With an alignment of {format_size(align)}{several}, sizes are multiples of {format_size(step)}."


def next_sizes(size: int, step: int, room: int) -> str:
    """The next sizes below and above that can be had, as a cure."""
    least = -(-SMALLEST // step) * step
    below = min(size, room) // step * step
    above = max(least, -(-size // step) * step)
    fitting = sorted({value for value in (below, above) if least <= value <= room})
    if not fitting:
        return f"No size fits: it takes at least {format_size(least)}. Choose a smaller align, or remove a namespace."
    return f"Sizes that fit: {', '.join(format_size(value) for value in fitting)}."


def contents(region: Region) -> str:
    """What a region holds, as a sentence."""
    if not region.namespaces:
        return f"{region.dev} holds no namespace."
    return f"{region.dev} holds " + ", ".join(_summary(item) for item in region.namespaces) + "."


def _summary(namespace: Namespace) -> str:
    name = f" named {namespace.name}" if namespace.name else ""
    state = "" if namespace.enabled else ", disabled"
    return f"{namespace.dev or 'a new one'}{name} ({namespace.mode}, {format_size(namespace.raw_size)}{state})"


def is_named(namespace: Namespace, told: str) -> bool:
    """The word that allows to destroy data is this namespace's own device name or name."""
    return bool(told) and told in (namespace.dev, namespace.name)


def ending(namespace: Namespace, unmounted: Sequence[str]) -> list[str]:
    """Of mount points that nothing would be mounted at any more, those where this namespace is mounted now."""
    users = _users(namespace)
    return [point for point in unmounted if any(text.endswith(f" is mounted at {point}") for text in users)]


def check_free_to_destroy(namespace: Namespace, told: str, why: str, unmounted: Sequence[str] = ()) -> None:
    """Nobody uses the namespace, and it holds nothing, or is named as one that may be lost.

    :param told: what the user named, ``namespace0.0`` or its name.
    :param why: what it would be destroyed for, as a sentence.
    :param unmounted: mount points that nothing would be mounted at any more.
    :raises Refused: it is in use, whatever was named; or it holds data and was not named.
    """
    users = _lasting_users(namespace, unmounted)
    if users:
        raise Refused(
            f"{namespace.dev} is in use and stays as it is.",
            cause=f"{why} {'; '.join(users)}.",
            cure="End that first: stop the guests, unmount the file system.",
        )
    if is_named(namespace, told):
        return
    found = data_of(namespace)
    if found:
        explained = MODES[namespace.mode] if namespace.mode in ("raw", "sector") else ""
        other = f"destroy_data names {told}, which it is not." if told else ""
        raise Refused(
            f"{namespace.dev} holds data and stays as it is: {found}.",
            cause=" ".join(text for text in (why, explained, other) if text),
            cure=f"If the data may be lost, set destroy_data to {namespace.name or namespace.dev}.",
        )


def why_kept(namespace: Namespace, unmounted: Sequence[str] = ()) -> str:
    """What would be lost with the namespace, as a sentence; empty when that is nothing.

    :param unmounted: mount points that nothing would be mounted at any more.
    """
    users = _lasting_users(namespace, unmounted)
    if users:
        return f"{namespace.dev} is in use and stays: {'; '.join(users)}."
    try:
        found = data_of(namespace)
    except HostmemError as error:
        return f"{namespace.dev} cannot be read, and stays: {error}"
    word = namespace.name or namespace.dev
    return (
        f"{namespace.dev} holds data and stays: {found}. If that may be lost, set destroy_data to {word}."
        if found
        else ""
    )


def why_counted_on(namespace: Namespace, config: str) -> dict[str, str]:
    """By guest of this host, why its memory is, or may be, on the namespace, as a sentence; by an empty name what keeps that from being known.

    :param config: path of the runtime's configuration.
    """
    try:
        return guests_on(namespace, guest_files(config))
    except (OSError, ValueError) as error:
        return {"": f"whether a guest counts on it cannot be told ({error})"}


def _lasting_users(namespace: Namespace, unmounted: Sequence[str]) -> list[str]:
    """Who uses it, but for mounts at points that nothing would be mounted at any more."""
    points = ending(namespace, unmounted)
    return [text for text in _users(namespace) if not any(text.endswith(f" is mounted at {point}") for point in points)]


def _users(namespace: Namespace) -> list[str]:
    path = f"/dev/{namespace.device}"
    if not namespace.device or not os.path.exists(path):
        return []
    if namespace.mode == "devdax" and _serves_as_memory(namespace.device):
        return [f"{path} serves the kernel as ordinary memory (daxctl reconfigure-device --mode=devdax takes it back)"]
    return device_users(path)


def _serves_as_memory(device: str) -> bool:
    """The driver kmem has it: its pages are the kernel's and everybody's."""
    return os.path.basename(os.path.realpath(f"{DEVICES}/{device}/driver")) == "kmem"


def data_of(namespace: Namespace) -> str:
    """What there is in a namespace, in words; empty when nothing was found, and all of it was read.

    Signatures of file systems, partitions and others count, and without one any byte that is not zero: a guest's RAM has no signature,
    nor has an encrypted volume whose header lies elsewhere. A disabled one (a destroyed namespace without a label is) is enabled for
    this, and disabled again.

    :raises HostmemError: it cannot be read.
    """
    if namespace.enabled:
        return _data_at(namespace)
    try:
        enable_namespace(namespace.dev)
    except HostmemError:
        return "it is disabled and cannot be enabled, so that its content cannot be seen"
    try:
        now = [item for region in regions() for item in region.namespaces if item.dev == namespace.dev]
        return _data_at(now[0]) if now else "it is not to be seen"
    finally:
        disable_namespace(namespace.dev)


def _data_at(namespace: Namespace) -> str:
    path = f"/dev/{namespace.device}"
    if not namespace.device or not os.path.exists(path):
        return "it has no device, so that its content cannot be seen"
    try:
        if namespace.mode == "devdax":
            device = dax_device(path)
            if device is None:
                return "it has no device that can be mapped, so that its content cannot be seen"
            position = content_of_dax_device(device)
        else:
            found = signatures(path)
            if found:
                return ", ".join(str(item) for item in found)
            position = content_of_block_device(path)
    except OSError as error:
        raise refused_by_kernel(f"What {path} holds cannot be found out.", error) from error
    return "" if position is None else f"no signature, but a byte that is not zero at {position:#x}"
