# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of mountinfo, and the mounts of this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.errors import HostmemError
from ansible_collections.hostmem.qemu.plugins.module_utils._host.filesystems import file_system
from ansible_collections.hostmem.qemu.plugins.module_utils._host.mount_users import MountUser, users_of
from ansible_collections.hostmem.qemu.plugins.module_utils._host.mounts import (
    attach,
    detach,
    mount_at,
    mount_of,
    mounts,
    parse_mount,
)
from ansible_collections.hostmem.qemu.plugins.module_utils._host.swaps import swaps


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue",
            (
                "/mnt2",
                "ext3",
                "/dev/root",
                "/mnt1",
                ("rw", "noatime"),
                ("rw", "errors=continue"),
                os.makedev(98, 0),
                36,
                35,
            ),
        ),
        (
            r"40 36 0:76 / /a\040b\134c rw - hugetlbfs huge\043tlb rw,pagesize=1024M",
            ("/a b\\c", "hugetlbfs", "huge#tlb", "/", ("rw",), ("rw", "pagesize=1024M"), os.makedev(0, 76), 40, 36),
        ),
        ("50 36 0:77 / /d rw - tmpfs  rw,size=4k\n", ("/d", "tmpfs", "", "/", ("rw",), ("rw", "size=4k"), 77, 50, 36)),
        ("1 1 0:2 / / rw - rootfs none", ("/", "rootfs", "none", "/", ("rw",), (), os.makedev(0, 2), 1, 1)),
    ],
)
def test_lines(line: str, expected: tuple[object, ...]) -> None:
    found = parse_mount(line)
    assert tuple(vars(found).values()) == expected


def test_swap_space(tmp_path: Path) -> None:
    assert swaps(str(tmp_path / "no such kernel")) == []
    path = tmp_path / "swaps"
    path.write_text("Filename\tType\tSize\tUsed\tPriority\n/a\\040b file\t1\t0\t-2\n\n/dev/sda2 partition\t1\t0\t-3\n")
    assert [swap.path for swap in swaps(str(path))] == ["/a b", "/dev/sda2"]
    assert isinstance(swaps(), list)


def test_every_mount_of_this_machine_is_found_by_its_path() -> None:
    points = [mount.point for mount in mounts()]
    assert "/" in points
    for mount in mounts():
        hidden = any(
            mount.point != other and mount.point.startswith(other.rstrip("/") + "/") for other in points if other != "/"
        )
        if points.count(mount.point) == 1 and not hidden:
            assert mount_at(mount.point) == mount


def test_a_path_without_a_mount_of_its_own(tmp_path: Path) -> None:
    found = mount_of(str(tmp_path))
    assert found is not None
    assert mount_at(str(tmp_path)) is None
    assert mount_at(str(tmp_path / "missing")) is None
    assert file_system(str(tmp_path / "missing" / "too")).mount_point == found.point


def test_proc_is_what_it_is() -> None:
    found = mount_at("/proc")
    assert found is not None
    assert (found.type, found.device) == ("proc", os.stat("/proc").st_dev)


def test_users_are_named(tmp_path: Path) -> None:
    mount = mount_of(str(tmp_path))
    assert mount is not None
    with open(tmp_path / "open", "w", encoding="ascii") as file:
        found = [user for user in users_of(mount) if user.pid == os.getpid()]
    assert f"open {file.name}" in [user.how for user in found]
    assert str(MountUser(7, "x y", "maps /a")) == "process 7 (x y): maps /a"
    assert str(MountUser(0, "/a/b", "nested mount")) == "nested mount: /a/b"


def test_what_mount_and_umount_say_is_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(HostmemError, match=r"none cannot be mounted at .*/x as tmpfs\. Cause: mount: "):
        attach("none", str(tmp_path / "x"), "tmpfs")
    with pytest.raises(HostmemError, match=r"cannot be unmounted\. Cause: umount: "):
        detach(str(tmp_path))
