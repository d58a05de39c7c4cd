# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the kernel shows of a mount with DAX, against what is wanted; and why there would be none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.block_devices import BlockDevice, uuid_for
from ansible_collections.hostmem.qemu.plugins.module_utils._host.errors import Refused
from ansible_collections.hostmem.qemu.plugins.module_utils._host.filesystem_tools import SuperBlock
from ansible_collections.hostmem.qemu.plugins.module_utils._host.mount_configuration import ConfiguredMount
from ansible_collections.hostmem.qemu.plugins.module_utils._host.mount_points import Directory
from ansible_collections.hostmem.qemu.plugins.module_utils._host.mounts import Mount, parse_mount
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.dax_checks import (
    CURES,
    check_device,
    check_empty,
    check_fit,
    cure_for,
    file_system_on,
    unfit_for_dax,
    warnings_about,
)
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.dax_mount_options import (
    differences,
    live_dax,
    options_held_against,
    wanted_options,
)
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.dax_mount_plans import Plan
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.dax_mount_units import mount_unit, says_the_same
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.dax_mounts import plan_mount
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.dax_wish import Wish
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.mount_units import UnitPlan

NUMBER = "fe1c3d46-caf9-524e-859a-9cf2f3487051"
PAGE = os.sysconf("SC_PAGE_SIZE")


def mount(options: str, shown: str = "rw,relatime") -> Mount:
    return parse_mount(f"43 23 259:2 / /mnt {shown} shared:63 - ext4 /dev/pmem2 {options}")


def wish(**changes: Any) -> Wish:
    values: dict[str, Any] = {
        "point": "/mnt/ram",
        "device": "/dev/pmem2",
        "type": "ext4",
        "dax": "always",
        "options": (),
    }
    more = {"persistent": True, "reflink": False, "destroy": "", "device_timeout": 300}
    return Wish(**{**values, **more, **changes})


def device(**changes: Any) -> BlockDevice:
    values: dict[str, Any] = {"path": "/dev/pmem2", "device": 0, "size": 1 << 29, "dax": True, "kind": "fsdax"}
    return BlockDevice(**{**values, "namespace": "namespace2.0", "align": 2 << 20, "partition": False, **changes})


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ("rw,dax=always", "always"),
        ("rw,dax", "always"),
        ("rw,dax=inode", "inode"),
        ("rw,stripe=512", "inode"),
        ("rw,attr2,dax=never,inode64,logbufs=8,noquota", "never"),
    ],
)
def test_dax_as_the_kernel_shows_it(options: str, wanted: str) -> None:
    assert live_dax(mount(options)) == wanted


@pytest.mark.parametrize(
    ("present", "wanted", "text"),
    [
        (mount("rw,dax=always"), wish(), ""),
        (mount("rw,dax=always", "rw,noatime"), wish(options=("noatime",)), ""),
        (mount("rw,dax=always,commit=5"), wish(options=("commit=5",)), ""),
        (mount("rw,dax=always"), wish(options=("journal_checksum",)), ""),
        (mount("rw,dax=inode"), wish(), "dax=inode, wanted is dax=always, which a remount cannot change"),
        (mount("rw,dax=never"), wish(dax="inode"), "dax=never, wanted is dax=inode"),
        (mount("rw,dax=always"), wish(options=("noatime",)), "without noatime"),
        (mount("rw,dax=always", "ro,relatime"), wish(), "with ro unasked"),
        (mount("rw,dax=always"), wish(options=("discard", "lazytime")), "without discard,lazytime"),
        (mount("rw,lazytime,discard,dax=always"), wish(options=("discard", "lazytime")), ""),
        (mount("rw,discard,dax=always"), wish(options=("nobarrier",)), "without nobarrier and with discard unasked"),
        (mount("rw,nobarrier,dax=always"), wish(options=("barrier=0",)), ""),
        (mount("rw,dax=always"), wish(options=("strictatime",)), "without strictatime"),
        (mount("rw,dax=always", "rw"), wish(options=("strictatime",)), ""),
        (mount("rw,attr2,dax=always,inode64,logbufs=8,noquota"), wish(type="xfs", options=("wsync",)), "without wsync"),
        (mount("rw,dax=always,commit=300"), wish(options=("commit=5",)), "commit=300, wanted is commit=5"),
    ],
)
def test_differences(present: Mount, wanted: Wish, text: str) -> None:
    assert text in differences(present, wanted)
    assert bool(text) is bool(differences(present, wanted))
    if live_dax(present) == wanted.dax:
        assert bool(text) is (options_held_against(present, wanted) != wanted_options(wanted))


def test_options_are_told_as_the_kernel_shows_them() -> None:
    asked = wish(options=("barrier=0", "commit=5", "strictatime", "journal_checksum"))
    assert wanted_options(asked) == ["commit=5", "journal_checksum", "nobarrier", "strictatime"]
    shown = mount("rw,discard,dax=always,commit=300")
    assert options_held_against(shown, asked) == ["commit=300", "discard", "journal_checksum", "relatime"]


@pytest.mark.parametrize(
    ("source", "kind", "options", "same"),
    [
        ("/dev/pmem2", "ext4", "dax=always", True),
        ("/dev/pmem2", "auto", "defaults,dax,nofail,x-systemd.device-timeout=300", True),
        (f"UUID={NUMBER}", "ext4", "dax=always,noauto", False),
        (f"UUID={NUMBER.upper()}", "ext4", "dax=always", True),
        ("UUID=d9a67466-af24-4094-8c1c-670e10ab2fed", "ext4", "dax=always", False),
        ("/dev/pmem2", "xfs", "dax=always", False),
        ("/dev/pmem2", "ext4", "defaults", False),
        ("/dev/pmem2", "ext4", "dax=always,data=writeback", False),
        ("/dev/pmem3", "ext4", "dax=always", False),
    ],
)
def test_configuration_of_others(source: str, kind: str, options: str, same: bool) -> None:
    other = ConfiguredMount("/etc/fstab", 7, source, "/mnt/ram", kind, tuple(options.split(",")))
    assert says_the_same(other, wish(), NUMBER) is same


def test_unit_lets_the_host_boot_without_the_device() -> None:
    text = mount_unit(wish(options=("noatime",)), device(), NUMBER).text()
    assert "Options=dax=always,noatime,nofail\n" in text
    assert "Where=/mnt/ram\nType=ext4\n" in text
    assert f"What=/dev/disk/by-uuid/{NUMBER}\n" in text or "What=/dev/pmem2\n" in text  # where no udev runs


def test_uuids_of_devices_without_an_identity_differ() -> None:
    assert uuid_for(device()) != uuid_for(device())


@pytest.mark.parametrize(
    ("block", "partition", "text"),
    [
        (SuperBlock("ext4", NUMBER, PAGE, 0), False, ""),
        (SuperBlock("xfs", NUMBER, PAGE, 0, reflink=True), False, ""),
        (SuperBlock("ext4", NUMBER, PAGE // 4, 0), False, "ext4 refuses dax"),
        (SuperBlock("xfs", NUMBER, PAGE // 4, 0), False, "without an error"),
        (SuperBlock("ext4", NUMBER, PAGE, 0, inline_data=True), False, "inline_data"),
        (SuperBlock("xfs", NUMBER, PAGE, 0, reflink=True), True, "whole devices only"),
    ],
)
def test_file_systems_that_cannot_have_dax(block: SuperBlock, partition: bool, text: str) -> None:
    assert text in unfit_for_dax(block, device(partition=partition))
    if text:
        with pytest.raises(Refused, match="destroy_data"):
            check_fit(block, device(partition=partition), ())


def test_journaled_data() -> None:
    with pytest.raises(Refused, match="journals data"):
        check_fit(SuperBlock("ext4", NUMBER, PAGE, 0), device(), ("data=journal",))
    with pytest.raises(Refused, match="tune2fs"):
        check_fit(SuperBlock("ext4", NUMBER, PAGE, 0, journals_data=True), device(), ())


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("EXT4-fs (pmem0): DAX unsupported by block device.", 0),
        ("XFS (loop0): DAX unsupported by block device. Turning off DAX.", 0),
        ("EXT4-fs (pmem0): unsupported blocksize for DAX", 1),
        ("XFS (pmem0): DAX not supported for blocksize. Turning off DAX.", 2),
        ("EXT4-fs (pmem0): can't mount with both data=journal and dax", 3),
        ("EXT4-fs (pmem0): Cannot use DAX on a filesystem that may contain inline data", 4),
        ("XFS (pmem0p1): DAX and reflink cannot work with multi-partitions!", 5),
        ("EXT4-fs (pmem0): can't change dax mount option while remounting", 6),
    ],
)
def test_cures_for_what_the_kernel_logs(text: str, cure: int) -> None:
    assert cure_for(text) == CURES[cure][1]


def test_devices_that_are_none(tmp_path: Any) -> None:
    with pytest.raises(Refused, match="There is no device"):
        check_device(str(tmp_path / "pmem0"), "always")
    with pytest.raises(Refused, match="no block device"):
        check_device(str(tmp_path), "always")
    with pytest.raises(Refused, match="character device"):
        check_device("/dev/null", "always")


def test_data_without_a_signature_are_data(tmp_path: Path) -> None:
    """wipefs sees nothing in a guest's RAM, and samples nothing of a byte between them."""
    size = 256 << 20
    position = (size - (256 << 10)) * 100 // 255 + (300 << 10)
    path = tmp_path / "device"
    with path.open("wb") as file:
        file.truncate(size)
    assert file_system_on(device(path=str(path))) is None
    check_empty(device(path=str(path)))
    with path.open("r+b") as file:
        file.seek(position)
        file.write(b"x")
    assert file_system_on(device(path=str(path))) is None
    with pytest.raises(Refused, match=f"without a signature .* not zero at {position:#x}") as caught:
        check_empty(device(path=str(path)))
    assert caught.value.cure.endswith(f"set destroy_data to {path}.")
    assert "pmem_namespace clears nothing" in caught.value.cause


def test_what_cannot_be_read_is_not_empty(tmp_path: Path) -> None:
    path = tmp_path / "device"
    path.touch()
    with pytest.raises(Refused, match="cannot be found out") as caught:
        check_empty(device(path=str(path)))
    assert "it has no size" in caught.value.cause
    assert caught.value.cure.endswith(f"set destroy_data to {path}.")


@pytest.mark.parametrize("option", ["dax", "dax=never", "ro"])
def test_options_with_a_place_of_their_own(option: str) -> None:
    with pytest.raises(Refused, match="does not belong in options"):
        plan_mount(wish(options=("noatime", option)))


@pytest.mark.parametrize(
    ("held", "make", "before", "after"),
    [
        (None, True, None, "ext4"),
        ("xfs", True, "xfs", "ext4"),
        ("ext4", True, "another ext4", "ext4"),
        ("ext4", False, "ext4", "ext4"),
    ],
)
def test_a_file_system_that_is_made_shows(held: str | None, make: bool, before: str | None, after: str) -> None:
    block = SuperBlock(held, NUMBER, PAGE, 0) if held else None
    present = mount("rw,dax=always")
    unit = UnitPlan("", None, False, None)
    found = Plan("/mnt", wish(), device(), block, present, make, make, make, Directory(0, True), unit).diff()
    assert found["before"]["/dev/pmem2"] == {"file_system": before}
    assert found["after"]["/dev/pmem2"] == {"file_system": after}
    assert (found["before"] != found["after"]) is make


def test_warnings() -> None:
    assert warnings_about(1.0, 1.0) == warnings_about(None, None) == []
    assert "0% of a file here is mapped by 2 MiB as the file system" in warnings_about(0.0, 1.0)[0]
    assert "Only 50%" in warnings_about(0.0, 0.5)[0]
