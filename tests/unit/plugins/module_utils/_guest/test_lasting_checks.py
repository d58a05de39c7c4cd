# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a reboot of the host would take away is told by the file systems that are really there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.config import Config
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.definition import parse_definition
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.errors import Refused
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.lasting_checks import (
    lost_by_reboot,
    refuse_volatile,
    volatile_memory,
)
from ansible_collections.hostmem.qemu.plugins.module_utils._host.users import User

from .definitions import memory

# On any Linux: /dev/shm is tmpfs (file-hierarchy(7)), and what the distribution installed is not.
TMPFS = "/dev/shm/web1"
DISK = "/usr/lib"


# Only its places are looked at.
CONFIG = Config("", "direct", User("root", 0, 0, "root"), 1, "/usr/lib/d", "/usr/lib/r", "/usr/lib/l", "/usr/lib/s")


def guest(directory: str, **changes: Any) -> Any:
    return parse_definition({**memory({"backing": "file", "directory": directory}), **changes})


def test_a_directory_on_tmpfs_is_found() -> None:
    with pytest.raises(Refused) as caught:
        refuse_volatile(CONFIG, guest(TMPFS, on_host_shutdown="save"))
    assert "memory block ram0 lies on tmpfs (/dev/shm), which the host's reboot empties" in caught.value.message


def test_an_nvdimm_on_tmpfs_is_found() -> None:
    nvdimms = [{"id": "nv0", "path": "/dev/shm/web1.nv0", "size": "2M"}]
    assert volatile_memory(CONFIG, guest(DISK, nvdimms=nvdimms)) == [
        "NVDIMM nv0 lies on tmpfs (/dev/shm), which the host's reboot empties"
    ]


def test_a_guest_that_is_powered_off_may_lie_anywhere() -> None:
    refuse_volatile(CONFIG, guest(TMPFS))


def test_a_file_system_on_a_disk_lasts() -> None:
    nvdimms = [{"id": "nv0", "path": "/dev/dax0.0", "size": "2M", "label_size": 0}]
    refuse_volatile(CONFIG, guest(DISK, on_host_shutdown="save"))
    assert volatile_memory(CONFIG, guest(DISK, nvdimms=nvdimms)) == []


def test_what_the_definition_tells_is_told_without_looking() -> None:
    assert volatile_memory(CONFIG, parse_definition(memory({}))) == [
        "memory block ram0 lies on tmpfs, which the host's reboot empties"
    ]


def test_a_state_on_tmpfs_is_found() -> None:
    config = replace(CONFIG, state="/dev/shm/state")
    with pytest.raises(Refused) as caught:
        refuse_volatile(config, guest(DISK, on_host_shutdown="save"))
    assert "the state of its devices lies on tmpfs (/dev/shm)" in caught.value.message
    assert "Put all of it, and /dev/shm/state, on" in caught.value.cure


def test_memory_in_the_state_lasts_with_it() -> None:
    assert volatile_memory(CONFIG, parse_definition(memory({})), ["ram0"]) == []


def test_a_place_that_cannot_be_looked_at_counts_as_lost(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    (reason,) = lost_by_reboot(CONFIG, guest(str(link)))
    assert reason == f"nobody knows, as {link} cannot be looked at (No such file or directory)"
