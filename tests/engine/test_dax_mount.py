# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mounts of file systems as the module makes them, on block devices without DAX; what it is with DAX is shown on VMs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.dax import is_dax_directory
from ansible_collections.hostmem.qemu.plugins.module_utils._host.errors import HostmemError
from support.loop_devices import line_of, loop_device
from support.modules import refused, run_module, without

SIZE = 64 << 20
LARGE = 1 << 30
TEXT = b"only text, no signature of anything"


@pytest.fixture(name="loop")
def fixture_loop(tmp_path: Path) -> Iterator[str]:
    with loop_device(tmp_path, SIZE) as path:
        yield path


def test_data_without_a_signature_are_kept(loop: str, tmp_path: Path) -> None:
    """Until the device is named in destroy_data, and never again once there is a file system that fits."""
    with open(loop, "r+b", buffering=0) as file:
        file.seek(SIZE // 2)
        file.write(TEXT.ljust(4096, b"."))
    point = tmp_path / "mount"
    wanted: dict[str, Any] = {"path": str(point), "device": loop, "dax": "never", "persistent": False}
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


def test_a_byte_anywhere_is_kept(tmp_path: Path) -> None:
    """Also one that a look at 256 pieces of 256 KiB, spread evenly over the device, does not see. Behind it nothing is read."""
    position = (LARGE - (256 << 10)) * 10 // 255 + (300 << 10)
    with loop_device(tmp_path, LARGE) as loop:
        with open(loop, "r+b", buffering=0) as file:
            file.seek(position // 4096 * 4096)
            file.write(bytes(position % 4096) + b"\1" + bytes(4095 - position % 4096))
        before = bytes_read(loop)
        assert f"not zero at {position:#x}" in refused("dax_mount", **new_mount(tmp_path, loop))
        assert bytes_read(loop) - before < LARGE  # by two runs


def test_a_device_is_read_once_before_a_file_system_is_made(tmp_path: Path) -> None:
    """And not where one is there already, nor where the data are given up."""
    with loop_device(tmp_path, LARGE) as loop:
        wanted = new_mount(tmp_path, loop)
        begin = bytes_read(loop)
        assert run_module("dax_mount", check=True, **wanted, destroy_data=loop)["changed"]
        given_up = bytes_read(loop)
        try:
            assert run_module("dax_mount", **wanted)["changed"]
            made = bytes_read(loop)
            assert not run_module("dax_mount", **wanted)["changed"]
            there = bytes_read(loop)
        finally:
            run_module("dax_mount", path=wanted["path"], state="absent")
        assert run_module("dax_mount", check=True, **wanted)["changed"]
        assert LARGE <= made - given_up < 1.5 * LARGE
        for read in (given_up - begin, there - made, bytes_read(loop) - there):
            assert read < LARGE / 10


def test_a_device_that_cannot_be_read_is_kept(tmp_path: Path) -> None:
    """Here a part of it is missing from the file that it lies in."""
    with loop_device(tmp_path, SIZE) as loop:
        os.truncate(tmp_path / "image", SIZE // 2)
        text = refused("dax_mount", **new_mount(tmp_path, loop))
    assert f"What {loop} holds cannot be found out" in text
    assert "Input/output error" in text
    assert f"set destroy_data to {loop}" in text


def new_mount(directory: Path, device: str) -> dict[str, Any]:
    return {"path": str(directory / "mount"), "device": device, "dax": "never", "persistent": False}


def bytes_read(device: str) -> int:
    """From the device since it is there, by anybody (sectors in Documentation/block/stat.rst)."""
    return int(Path(f"/sys/class/block/{Path(device).name}/stat").read_text().split()[2]) * 512


def test_options_are_those_of_the_mount(tmp_path: Path) -> None:
    """Also those without a value, and those that are on by the file system's own defaults."""
    with loop_device(tmp_path, SIZE) as loop:
        point = tmp_path / "mount"
        wanted: dict[str, Any] = {"path": str(point), "device": loop, "dax": "never", "persistent": False}
        try:
            run_module("dax_mount", **wanted)
            before = line_of(point)
            options = ["discard", "lazytime", "strictatime", "barrier=0"]
            for changed in (True, False):
                checked = run_module("dax_mount", check=True, **wanted, options=options)
                done = run_module("dax_mount", **wanted, options=options)
                assert done["changed"] == changed
                assert (done["diff"]["before"] != done["diff"]["after"]) == changed
                assert checked["diff"] == done["diff"]
            assert done["diff"]["after"][str(point)]["options"] == ["discard", "lazytime", "nobarrier", "strictatime"]
            found = line_of(point)
            assert found != before
            for option in ("discard", "lazytime", "nobarrier"):
                assert option in found.split(" - ")[1]
            for changed in (True, False):
                done = run_module("dax_mount", **wanted)
                assert done["changed"] == changed
                options = ["discard", "lazytime", "nobarrier"] if changed else []
                assert done["diff"]["before"][str(point)]["options"] == options
                assert done["diff"]["after"][str(point)]["options"] == []
            assert "discard" not in line_of(point)
            subprocess.run(["mount", "-o", "remount,ro", str(point)], check=True)
            done = run_module("dax_mount", **wanted)
            assert done["diff"]["before"][str(point)]["options"] == ["ro"]
            assert done["diff"]["after"][str(point)]["options"] == []
            (point / "written").touch()
            run_module("dax_mount", path=str(point), state="absent")
            subprocess.run(["tune2fs", "-o", "discard", loop], check=True, stdout=subprocess.DEVNULL)
            run_module("dax_mount", **wanted, options=["discard"])
            assert not run_module("dax_mount", **wanted, options=["discard"])["changed"]
        finally:
            run_module("dax_mount", path=str(point), state="absent")


def test_programs_that_are_missing_are_noticed_before_the_old_mount_goes(tmp_path: Path) -> None:
    """They are looked for on PATH, and where administrators' programs lie: here those are hidden."""
    with loop_device(tmp_path, SIZE) as loop:
        point = tmp_path / "mount"
        wanted: dict[str, Any] = {"path": str(point), "device": loop, "dax": "never", "persistent": False}
        run_module("dax_mount", **wanted)
        try:
            before = line_of(point)
            for check in (True, False):
                told = {**wanted, "fstype": "xfs", "destroy_data": loop}
                done = run_module("dax_mount", check, before=without("mkfs.xfs"), **told)
                assert "The program mkfs.xfs is not installed" in done["msg"]
                assert "xfsprogs" in done["error"]["cure"]
                assert line_of(point) == before
        finally:
            run_module("dax_mount", path=str(point), state="absent")


@pytest.mark.parametrize("how", ["full", "read-only", "not ours", "none"])
def test_nothing_is_said_of_dax_where_no_file_can_be_made(tmp_path: Path, how: str) -> None:
    """That it is full is no lack of DAX."""
    point = tmp_path / "mount"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=3", "none", str(point)], check=True)
    try:
        if how == "full":
            (point / "one").touch()
            (point / "two").touch()
        elif how == "read-only":
            subprocess.run(["mount", "-o", "remount,ro", str(point)], check=True)
        elif how == "not ours":
            point.chmod(0o700)
        if how == "none":
            assert not is_dax_directory(str(point))
        else:
            cure = {"full": "Make room", "read-only": "Mount it for writing", "not ours": "Run as root"}[how]
            assert cure in dax_as_somebody(str(point), 65534 if how == "not ours" else 0)
    finally:
        subprocess.run(["umount", str(point)], check=True)


def dax_as_somebody(path: str, uid: int) -> str:
    """The cure of the error that is_dax_directory() raises in a process of this user's."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setuid(uid)
            is_dax_directory(path)
        except HostmemError as error:
            os.write(writer, error.cure.encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with open(reader, encoding="utf-8") as file:
        return file.read()
