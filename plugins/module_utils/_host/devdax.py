# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Device-DAX: persistent memory as a character device without a file system (Documentation/ABI/testing/sysfs-bus-dax, drivers/dax/device.c)."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from .service_manager import still_at_work
from .sysfs import number, number_in, text_in
from .zeros import first_found, first_nonzero_at

DEVICES = "/sys/bus/dax/devices"
_PIECE = 64 << 20
_THREADS = 4  # one cannot write as fast as a module of persistent memory can


@dataclass(frozen=True)
class DaxDevice:
    """Sizes in bytes; only multiples of ``align`` can be mapped, at multiples of it. ``node`` is -1 where it is not known.

    ``uuid`` is that of the namespace, if it has one: the name can be another device's after the next boot.
    """

    path: str
    size: int
    align: int
    node: int
    uuid: str


def dax_device(path: str, root: str = DEVICES) -> DaxDevice | None:
    """The device of a path such as /dev/dax0.0; None when the kernel has none, or uses it as ordinary memory."""
    directory = f"{root}/{os.path.basename(path)}"
    try:
        if os.path.basename(os.path.realpath(f"{directory}/driver")) != "device_dax":
            return None
        size, align, node = (number(f"{directory}/{name}") for name in ("size", "align", "numa_node"))
        return DaxDevice(path, size, align, node, _uuid(directory))
    except OSError:
        return None


def device_paths(root: str = DEVICES) -> dict[str, str]:
    """Paths of the devices that can be mapped, by their UUIDs, and by themselves."""
    try:
        names = os.listdir(root)
    except OSError:
        return {}
    found = [device for device in (dax_device(f"/dev/{name}", root) for name in names) if device]
    return {**{item.path: item.path for item in found}, **{item.uuid: item.path for item in found if item.uuid}}


def _uuid(directory: str) -> str:
    """Of the libnvdimm device above (drivers/nvdimm/dax_devs.c); empty for memory of other kinds (hmem, cxl)."""
    return text_in(f"{os.path.dirname(os.path.realpath(directory))}/uuid")


@dataclass(frozen=True)
class ListedDevice:
    """A device as the kernel lists it, whatever uses it; sizes in bytes.

    ``driver`` is ``device_dax`` (a character device), ``kmem`` (the host's ordinary memory) or empty. ``node`` is where it is near to,
    ``target_node`` the node that it becomes with ``kmem``; None where it is not known.
    """

    name: str
    size: int
    align: int | None
    node: int | None
    target_node: int | None
    driver: str


def listed_devices(root: str = DEVICES) -> list[ListedDevice]:
    """All device-DAX devices; those of size 0 are only room that the kernel keeps for another one, and left out."""
    try:
        names = sorted(os.listdir(root))
    except OSError:
        return []
    found = [_listed(name, f"{root}/{name}") for name in names]
    return [device for device in found if device.size]


def _listed(name: str, directory: str) -> ListedDevice:
    def value(attribute: str) -> int | None:
        return number_in(f"{directory}/{attribute}")

    def node(attribute: str) -> int | None:
        found = value(attribute)
        return None if found is None or found < 0 else found

    driver = os.path.basename(os.path.realpath(f"{directory}/driver")) if os.path.exists(f"{directory}/driver") else ""
    return ListedDevice(name, value("size") or 0, value("align"), node("numa_node"), node("target_node"), driver)


def holds_data(path: str, offset: int, size: int) -> bool:
    """Whether a part of the device has anything but zeros; bytes, multiples of its alignment. All of it is read.

    :raises OSError: it cannot be opened or mapped.
    """
    return first_data(path, offset, size) is not None


def first_data(path: str, offset: int, size: int) -> int | None:
    """Position in a part of the device, counted from its begin, of something that is not zero; None when all of it was read and is zero.

    :param offset: of the part; bytes, a multiple of the device's alignment as ``size`` is.
    :raises OSError: it cannot be opened or mapped. Memory that is damaged kills this process (SIGBUS).
    """
    with _mapped(path, offset, size) as pieces:

        def first_in(index: int) -> int | None:
            position = first_nonzero_at(*pieces[index])
            return None if position is None else index * _PIECE + position

        return first_found(first_in, range(len(pieces)))


def clear(path: str, offset: int, size: int) -> None:
    """Write zeros over a part of the device; bytes, multiples of its alignment. write(2) is not possible on it, nor is msync(2).

    :raises OSError: it cannot be opened or mapped.
    """
    with _mapped(path, offset, size) as pieces, ThreadPoolExecutor(_THREADS) as pool:
        still_at_work()
        for _done in pool.map(lambda piece: ctypes.memset(piece[0], 0, piece[1]), pieces):
            still_at_work()


@contextmanager
def _mapped(path: str, offset: int, size: int) -> Iterator[list[tuple[int, int]]]:
    """Address and length of each piece of a mapping. What ctypes does with one runs beside other threads: it lets go of Python's lock."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        with mmap.mmap(descriptor, size, offset=offset) as mapping:
            first = ctypes.c_char.from_buffer(mapping)
            try:
                address = ctypes.addressof(first)
                yield [(address + start, min(_PIECE, size - start)) for start in range(0, size, _PIECE)]
            finally:
                del first  # the mapping cannot be closed while something refers to it
    finally:
        os.close(descriptor)
