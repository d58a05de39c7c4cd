# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The mounts that a guest's unit waits for, as a drop-in of its own.

Without it a guest could start at boot before the file system of its memory is there: on the empty directory under the mount,
where QEMU would make new files (seen with a DAX mount that had ``nofail``), while the mount hides them later.
"""

from __future__ import annotations

import os

from .._host.unit_files import read_unit, remove_unit, with_header, write_unit
from .definition import Definition
from .systemd import unit_name


def needed_directories(definition: Definition) -> list[str]:
    """Where the guest's memory and disks lie, each directory once."""
    places = [block.directory for block in definition.blocks if block.directory]
    images = [disk.path for disk in definition.disks] + [nvdimm.path for nvdimm in definition.nvdimms if nvdimm.path]
    places += [os.path.dirname(path) for path in images if not path.startswith("/dev/")]
    return sorted(set(places))


def drop_in(definition: Definition) -> str:
    """RequiresMountsFor= of the guest's unit (systemd.unit(5)); empty when there is nothing to wait for."""
    quoted = [
        '"' + path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'
        for path in needed_directories(definition)
    ]
    return "[Unit]\n" + "".join(f"RequiresMountsFor={path}\n" for path in quoted) if quoted else ""


def ensure_mount_dependencies(definition: Definition, check: bool) -> bool:
    """Make the guest's unit wait for its mounts; True when something changed.

    :raises Refused: there is a file of this name which is not ours.
    """
    name, text = _name(definition.name), drop_in(definition)
    present = read_unit(name)
    if present == (with_header(text) if text else None):
        return False
    if not check and text:
        write_unit(name, text)
    elif not check:
        remove_unit(name)
    return True


def remove_mount_dependencies(guest: str) -> None:
    """Take the drop-in back."""
    remove_unit(_name(guest))


def _name(guest: str) -> str:
    return f"{unit_name(guest)}.d/mounts.conf"
