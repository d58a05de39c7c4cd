# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which parts of device-DAX devices hold a guest's memory: only these may be cleared. A device tells nobody whose its content is.

Root's own record, in a directory that the unprivileged user cannot write; it outlives a boot, as the memory does. A part is in it from
before QEMU gets it until it has been cleared whole: what a clearing that was cut off has left is cleared later, wherever the
definition lies by then.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from .._host.devdax import clear, device_paths
from .._host.durable import remove_durably, sync_directory, sync_file
from .._host.files import read_json, write_json
from .._host.journald import log_record
from .backing_devices import DevicePart, part_of_device, refuse_mapped
from .config import Config
from .definition import Definition
from .device_names import resolved
from .errors import Refused
from .layout import layout


def given_devices(config: Config, guest: str) -> set[str]:
    """The parts that the guest was given and that have not been cleared since."""
    kept = read_json(_path(config, guest))
    return set(kept) if isinstance(kept, list) else set()


def give_devices(config: Config, definition: Definition) -> None:
    """Remember what the guest is about to get, on the disk: a power cut must not make it nobody's.

    :param definition: with its namespaces resolved.
    """
    kept = given_devices(config, definition.name)
    wanted = kept | _created(definition)
    if wanted != kept:
        _write(config, definition.name, wanted)


def clear_left(config: Config, definition: Definition) -> None:
    """Before a start: clear what the guest was given once and does not get now.

    :param definition: with its namespaces resolved.
    :raises Refused: a process maps it.
    :raises OSError: it cannot be mapped; it stays recorded.
    """
    _clear(config, definition.name, given_devices(config, definition.name) - _created(definition))


def clear_given(config: Config, definition: Definition) -> None:
    """Clear all that the guest was given, but what its definition only opens by now. A part whose device is not there stays recorded.

    :raises Refused: a process maps it, or it cannot be told what the definition opens.
    :raises OSError: it cannot be mapped; it stays recorded.
    """
    given = given_devices(config, definition.name)
    if not given:
        return
    try:
        definition = resolved(definition)
    except Refused:
        if any(block.namespace and block.mode == "open" for block in definition.blocks) or any(
            nvdimm.namespace for nvdimm in definition.nvdimms
        ):
            raise
    disown_opened(config, definition)
    _clear(config, definition.name, given_devices(config, definition.name))


def disown_opened(config: Config, definition: Definition) -> None:
    """Forget parts that the definition now only opens, or has as an NVDIMM: their content is wanted.

    :param definition: with its namespaces resolved.
    """
    given = given_devices(config, definition.name)
    opened = [DevicePart.parse(text) for text in _opened(definition)]
    kept = {text for text in given if not any(DevicePart.parse(text).meets(part) for part in opened)}
    if kept != given:
        _write(config, definition.name, kept)


def _created(definition: Definition) -> set[str]:
    blocks = [placed.block for placed in layout(definition)]
    return {
        part_of_device(block.device, block.offset or 0, block.size)
        for block in blocks
        if block.device and block.mode == "create"
    }


def _opened(definition: Definition) -> set[str]:
    blocks = [block for block in definition.blocks if block.device and block.mode == "open"]
    found = {part_of_device(block.device, block.offset or 0, block.size) for block in blocks}
    return found | {part_of_device(nvdimm.path, 0, nvdimm.size) for nvdimm in definition.nvdimms if nvdimm.device}


def _clear(config: Config, guest: str, texts: Collection[str]) -> None:
    paths = device_paths() if texts else {}
    for text in sorted(texts):
        part = DevicePart.parse(text)
        path = paths.get(part.device)
        if path is None:
            log_record(
                f"The memory of guest {guest} on the device {part.device} is not cleared: it is not there",
                4,
                guest=guest,
                event="not-cleared",
            )
            continue
        refuse_mapped(path, part.start, part.length, f"guest {guest} had its memory")
        clear(path, part.start, part.length)
        _write(config, guest, given_devices(config, guest) - {text})


def _write(config: Config, guest: str, parts: Collection[str]) -> None:
    path = _path(config, guest)
    if not parts:
        remove_durably(path)
        return
    write_json(path, sorted(parts))
    sync_file(path)
    sync_directory(os.path.dirname(path))


def _path(config: Config, guest: str) -> str:
    return f"{config.state}/{guest}.devices.json"  # no guest's name has a dot
