# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mounts of file systems as the module makes them, on block devices without DAX; what it is with DAX is shown on VMs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.modules import refused, run_module

SIZE = 64 << 20
TEXT = b"only text, no signature of anything"


@pytest.fixture(name="loop")
def fixture_loop(tmp_path: Path) -> Iterator[str]:
    """An empty loop device."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(SIZE)
    done = subprocess.run(["losetup", "--find", "--show", str(image)], check=True, capture_output=True, text=True)
    path = done.stdout.strip()
    try:
        yield path
    finally:
        subprocess.run(["losetup", "--detach", path], check=True)


def test_data_without_a_signature_are_kept(loop: str, tmp_path: Path) -> None:
    """Until the device is named in destroy_data, and never again once there is a file system that fits."""
    with open(loop, "r+b", buffering=0) as file:
        file.seek(SIZE // 2)
        file.write(TEXT.ljust(4096, b"."))
    point = tmp_path / "mount"
    wanted = {"path": str(point), "device": loop, "dax": "never", "persistent": False}
    for told in ({}, {"destroy_data": "/dev/pmem77"}):
        text = refused("dax_mount", **wanted, **told)
        assert f"{loop} holds data without a signature" in text
        assert f"set destroy_data to {loop}" in text
    assert (tmp_path / "image").read_bytes()[SIZE // 2 :].startswith(TEXT)
    assert not point.exists()
    checked = run_module("dax_mount", check=True, **wanted, destroy_data=loop)
    assert checked["diff"]["after"][loop] == {"file_system": "ext4"}
    assert not point.exists()
    try:
        assert run_module("dax_mount", **wanted, destroy_data=loop)["changed"]
        (point / "kept").write_text("kept")
        assert not run_module("dax_mount", **wanted, destroy_data=loop)["changed"]
        assert not run_module("dax_mount", **wanted)["changed"]
        assert (point / "kept").read_text() == "kept"
    finally:
        run_module("dax_mount", path=str(point), state="absent")
    assert not point.exists()
