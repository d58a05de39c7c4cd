# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RAM files and virtio queues of two QEMUs held against each other."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest import comparison


def mapped(inode: int, path: str = "/dev/shm/a", device: tuple[int, int] = (0, 26)) -> dict[str, Any]:
    """A file as mapped_file shows it."""
    return {"path": path, "device": list(device), "inode": inode, "shared": True}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"ram0": mapped(7)}, {"ram0": mapped(7)}),
        ({"ram0": mapped(7)}, {"ram0": mapped(7, "/dev/shm/a (deleted)")}),
        ({"ram0": None}, {"ram0": None}),
        ({"ram0": mapped(7)}, {"ram0": mapped(7), "more": mapped(8)}),
        ({"": mapped(7)}, {"": mapped(8)}),
    ],
    ids=["same", "by another name", "both anonymous", "more in the new one", "nameless"],
)
def test_the_same_files(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert comparison._file_differences(old, new) == []


@pytest.mark.parametrize(
    ("new", "place"),
    [
        ({"ram0": mapped(8)}, "/dev/shm/a (inode 8)"),
        ({"ram0": mapped(7, device=(0, 27))}, "/dev/shm/a (inode 7)"),
        ({"ram0": None}, "anonymous memory"),
        ({}, "anonymous memory"),
    ],
    ids=["other inode", "other file system", "anonymous", "missing"],
)
def test_another_file_is_a_difference(new: dict[str, Any], place: str) -> None:
    assert comparison._file_differences({"ram0": mapped(7)}, new) == [
        f"RAMBlock ram0 lies in /dev/shm/a (inode 7) in the running guest, in {place} otherwise"
    ]


def test_anonymous_memory_that_came_to_lie_in_a_file_is_a_difference() -> None:
    assert comparison._file_differences({"ram0": None}, {"ram0": mapped(7)}) == [
        "RAMBlock ram0 lies in anonymous memory in the running guest, in /dev/shm/a (inode 7) otherwise"
    ]


@pytest.mark.parametrize(
    ("running", "other"),
    [
        ({"/d0": 256}, {"/d0": 256}),
        ({"/d0": 256}, {"/d0": 1024}),
        ({"/d0": 1024}, {}),
        ({}, {"/d0": 256}),
    ],
    ids=["same", "larger in the new one", "not told by the new one", "not told by the old one"],
)
def test_queues_that_can_be_loaded(running: dict[str, int], other: dict[str, int]) -> None:
    assert comparison.queue_differences(running, other) == []


def test_queues_that_are_too_large_for_the_new_qemu() -> None:
    assert comparison.queue_differences({"/n0": 1024, "/d0": 1024, "/x": 64}, {"/d0": 256, "/n0": 256, "/x": 64}) == [
        "the virtio queues of /d0 have 1024 entries in the running guest, at most 256 otherwise",
        "the virtio queues of /n0 have 1024 entries in the running guest, at most 256 otherwise",
    ]
