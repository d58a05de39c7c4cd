# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which guests have to sleep while they are saved, by the devices that QEMU lists; and which kernels QEMU loads by their ELF note."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.suspend import is_elf, needs_suspend

PLAIN = {"d0": "child<virtio-blk-pci>", "vs0": "child<virtio-serial-pci>"}


@pytest.mark.parametrize(
    ("devices", "nameless", "wanted"),
    [
        (PLAIN, ["child<virtio-net-pci>"], False),
        ({**PLAIN, "gpu0": "child<vfio-pci>"}, [], True),
        ({**PLAIN, "vf0": "child<vfio-pci-nohotplug>"}, [], True),
        (PLAIN, ["child<vfio-pci>"], True),
        ({"vfio-pci": "child<virtio-blk-pci>"}, [], False),
    ],
)
def test_guests_with_vfio_devices(devices: dict[str, str], nameless: list[str], wanted: bool) -> None:
    assert needs_suspend({"devices": devices, "nameless_devices": nameless}) is wanted


@pytest.mark.parametrize(
    ("content", "wanted"), [(b"\x7fELF\x02", True), (b"MZ\x00\x00", False), (b"", False), (b"\x7fEL", False)]
)
def test_elf_kernels(content: bytes, wanted: bool, tmp_path: Path) -> None:
    kernel = tmp_path / "kernel"
    kernel.write_bytes(content)
    assert is_elf(str(kernel)) is wanted


def test_a_kernel_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert not is_elf(str(tmp_path / "kernel"))
