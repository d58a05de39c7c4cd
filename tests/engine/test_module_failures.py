# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a module says of a failure that only the kernel, or a program, notices: what it was, where, and what helps against this very one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.modules import run_module


@pytest.fixture(name="place")
def fixture_place(tmp_path: Path) -> Iterator[Path]:
    """A small file system with one file in it."""
    place = tmp_path / "place"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=2,mode=755", "none", str(place)], check=True)
    (place / "file").touch()
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


# Both may read what root may, and nothing more: the interpreter and the collection can lie in root's home.
WHO = {
    "not root": ["unshare", "--user", "--map-user=1000"],
    "root without capabilities": ["setpriv", "--inh-caps=-all", "--bounding-set=-all"],
}
CURES = {
    "full": ("No space left on device", "Make room there"),
    "read-only": ("Read-only file system", "Mount it for writing; in a container"),
    "a file": ("Not a directory", "Correct the path"),
    "not root": ("Permission denied", "set become to true"),
    "root without capabilities": ("Permission denied", "Do this on the host itself"),
}


@pytest.mark.parametrize("how", sorted(CURES))
def test_an_error_of_the_kernel_has_a_cure_of_its_own(place: Path, how: str) -> None:
    """become is the cure for one of them only."""
    if how == "read-only":
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    point = place / "file" / "huge" if how == "a file" else place / "huge"
    if how in WHO:
        os.chown(place, 1, 1)
    done = run_module("hugetlbfs_mount", path=str(point), persistent=False, before=WHO.get(how, []))
    reason, cure = CURES[how]
    assert done.get("failed"), done
    error = done["error"]
    assert reason in error["cause"]
    assert str(place) in error["cause"]
    assert cure in error["cure"]
    assert ("become" in error["cure"]) == (how == "not root")
    assert not point.exists()


def test_an_error_of_a_program_has_a_cure_of_its_own(tmp_path: Path) -> None:
    """mkfs of a device that is too small."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(32 << 10)
    found = subprocess.run(["losetup", "--find", "--show", str(image)], check=True, capture_output=True, text=True)
    loop = found.stdout.strip()
    try:
        done = run_module("dax_mount", path=str(tmp_path / "mount"), device=loop, dax="never", persistent=False)
    finally:
        subprocess.run(["losetup", "--detach", loop], check=True)
    error = done["error"]
    assert error["message"] == f"mkfs.ext4 could not make a file system on {loop}."
    assert error["cause"]
    assert "Check the device" in error["cure"]
    assert not (tmp_path / "mount").exists()
