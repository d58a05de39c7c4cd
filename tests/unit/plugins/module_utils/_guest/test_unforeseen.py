# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of the kernel, as it really gives them, come out with file, cause and cure."""

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.errors import HostmemError, Refused
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.unforeseen import as_hostmem_error


def caught(work: object, *arguments: object) -> HostmemError:
    """What becomes of the error of a call."""
    try:
        work(*arguments)  # type: ignore[operator]
    except Exception as error:
        return as_hostmem_error(error)
    raise AssertionError("nothing was wrong")


def test_a_file_in_the_way(tmp_path: Path) -> None:
    place = tmp_path / "checkpoint.new"
    place.touch()
    error = caught(os.mkdir, place)
    assert error.message == f"{place}: File exists."
    assert error.cause == "The kernel refused it with EEXIST."
    assert error.cure == "Remove what is there, or choose another name."


def test_two_files(tmp_path: Path) -> None:
    error = caught(os.rename, tmp_path / "one", tmp_path / "two")
    assert error.message == f"{tmp_path}/one to {tmp_path}/two: No such file or directory."


def test_a_full_device() -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        error = caught(full.write, b"x")
    assert error.message == "A file or device: No space left on device."
    assert "ENOSPC (test_unforeseen.py: work(" in error.cause
    assert "Make room" in error.cure


def test_an_error_that_is_worded_stays() -> None:
    refused = Refused("No.")
    assert as_hostmem_error(refused) is refused


def test_a_fault_of_ours_has_its_place() -> None:
    error = caught(int, "x")
    assert error.message.startswith("Unexpected error: ValueError: invalid literal for int()")
    assert "test_unforeseen.py" in error.cause
    assert "Report it" in error.cure
