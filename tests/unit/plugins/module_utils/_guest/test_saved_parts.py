# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Memory of a saved guest on device-DAX. The device itself is not there: parts are compared, by its path as it has no UUID then."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.config import Config
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.definition import parse_definition
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.errors import Refused
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.manifest import Manifest, SavedBlock
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.paths import guest_paths
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.saved_guest import refuse_saved_parts
from ansible_collections.hostmem.qemu.plugins.module_utils._host.users import User

DEVICE, MIB = "/dev/dax0.0", 1 << 20


def saved(directory: Path, copied: bool) -> Config:
    """A host with a guest ``a`` that is saved, its memory from 64 MiB to 128 MiB of the device."""
    places = [str(directory / name) for name in ("guests", "run", "log", "state")]
    config = Config("config.json", "direct", User("nobody", 0, 0, "nogroup"), 1, *places)
    identity = {} if copied else {"namespace": DEVICE, "offset": 64 * MIB, "size": 64 * MIB}
    block = SavedBlock("ram0", DEVICE, 64 * MIB, copied, identity)
    fixed = {
        "token": "1",
        "saved_at": 0.0,
        "boot_id": "",
        "generation": 0,
        "was_running": True,
        "wake": False,
        "qemu": {},
    }
    empty = {
        "definition": {},
        "defined": "",
        "layout": "",
        "argv": [],
        "inventory": {},
        "queue_sizes": {},
        "images": {},
    }
    state = {"ignore_shared": True, "state_size": 0, "state_sha256": ""}
    manifest = Manifest(guest="a", blocks=[block], **{**fixed, **empty, **state})
    paths = guest_paths(config, "a")
    for path, content in ((paths.definition, b"{}"), (f"{paths.checkpoint}/manifest", manifest.to_bytes())):
        Path(path).parent.mkdir(parents=True)
        Path(path).write_bytes(content)
    return config


def start(config: Config, name: str, offset: int, device: str = DEVICE) -> None:
    block = {"id": "ram0", "size": "64M", "backing": "dax", "device": device, "offset": offset, "mode": "open"}
    definition = {"name": name, "machine": "pc-q35-10.0", "memory": {"blocks": [block]}}
    refuse_saved_parts(config, parse_definition(definition))


@pytest.mark.parametrize("offset", [2 * MIB, 64 * MIB, 126 * MIB])
def test_another_guest_on_some_of_it(tmp_path: Path, offset: int) -> None:
    with pytest.raises(Refused, match=f"{DEVICE} has the memory of the saved guest a on it"):
        start(saved(tmp_path, False), "b", offset)


@pytest.mark.parametrize(
    ("name", "offset", "device"),
    [("b", 128 * MIB, DEVICE), ("b", 64 * MIB, "/dev/dax1.0"), ("a", 64 * MIB, DEVICE)],
)
def test_beside_it_and_the_guest_itself(tmp_path: Path, name: str, offset: int, device: str) -> None:
    start(saved(tmp_path, False), name, offset, device)


def test_what_was_copied_leaves_the_device(tmp_path: Path) -> None:
    start(saved(tmp_path, True), "b", 64 * MIB)
