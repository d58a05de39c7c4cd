# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Waiting for devices that do not come. One that comes is in tests/vm, on a kernel that has such devices."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.definition import parse_definition
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.device_names import NotThere
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.errors import Refused
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.late_devices import wait_for_devices

from .definitions import definition, memory
from .test_device_names import make_namespace

ABSENT = [
    (memory({"backing": "dax", "namespace": "web1"}), "no devdax namespace with the name or UUID web1"),
    (memory({"backing": "dax", "device": "/dev/dax99.0"}), "Memory block ram0: /dev/dax99.0 is no device-DAX device"),
    (
        definition(nvdimms=[{"id": "nv0", "path": "/dev/dax99.0", "size": "64M"}]),
        "NVDIMM nv0: /dev/dax99.0 is no device-DAX device",
    ),
]


@pytest.mark.parametrize(("wanted", "words"), ABSENT)
def test_a_device_that_does_not_come(tmp_path: Path, wanted: dict[str, object], words: str) -> None:
    with pytest.raises(NotThere) as caught:
        wait_for_devices(parse_definition(wanted), 0.3, str(tmp_path))
    assert words in caught.value.message
    assert "It has been waited for 0.3 s." in caught.value.cause
    assert caught.value.cure


def test_a_name_that_means_two_devices_is_not_waited_for(tmp_path: Path) -> None:
    make_namespace(tmp_path, 0, "twice")
    make_namespace(tmp_path, 1, "twice")
    with pytest.raises(Refused) as caught:
        wait_for_devices(parse_definition(memory({"backing": "dax", "namespace": "twice"})), 5, str(tmp_path))
    assert "2 devdax namespaces" in caught.value.message
    assert "waited" not in str(caught.value)


def test_a_guest_without_devices_does_not_wait(tmp_path: Path) -> None:
    wait_for_devices(parse_definition(definition()), 0, str(tmp_path / "nothing"))
