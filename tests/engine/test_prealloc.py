# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How files are filled: by which calls, on which CPUs, under which memory policy; also where the kernel is older than MADV_POPULATE_WRITE."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.prealloc import fill
from support.engine import EngineHost
from support.held_calls import held_calls
from support.materials import huge_pages, small_tmpfs

MIB = 1 << 20
SIZE = 32 * MIB
POLICIES = {"bind": "bind:0", "interleave": "interleave:0", "preferred": "prefer:0"}


@contextmanager
def new_file(directory: Path) -> Iterator[int]:
    """A file of 32 MiB without pages."""
    descriptor = os.open(directory / "file", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.ftruncate(descriptor, SIZE)
        yield descriptor
    finally:
        os.close(descriptor)
        os.unlink(directory / "file")


def place(host: EngineHost, kind: str) -> tuple[Path, int]:
    """A directory in a file system of this kind, and its page size."""
    if kind == "hugetlbfs":
        return huge_pages(host, 20), 2 * MIB
    host.memory.mkdir(parents=True, exist_ok=True)
    return host.memory, 4096


def allocated(descriptor: int) -> int:
    return os.fstat(descriptor).st_blocks * 512


def test_threads_fill_on_the_cpus_they_are_given(host: EngineHost) -> None:
    cpu = max(os.sched_getaffinity(0))
    directory, page = place(host, "tmpfs")
    with new_file(directory) as file:
        calls = held_calls(partial(fill, file, SIZE, page, 3, {cpu}, "default", []))
        assert allocated(file) == SIZE
    assert [call.name for call in calls] == ["madvise"] * 3
    assert sum(call.length for call in calls) == SIZE
    assert {call.cpus for call in calls} == {frozenset({cpu})}


@pytest.mark.parametrize("kind", ["tmpfs", "hugetlbfs"])
def test_older_kernel_allocates_and_keeps_what_is_there(host: EngineHost, kind: str) -> None:
    cpu = max(os.sched_getaffinity(0))
    directory, page = place(host, kind)
    with new_file(directory) as file:
        with mmap.mmap(file, SIZE) as mapping:
            mapping[page : page + 6] = b"before"
        calls = held_calls(partial(fill, file, SIZE, page, 2, {cpu}, "default", []), populates=False)
        assert allocated(file) == SIZE
        assert os.pread(file, 8, page) == b"before\0\0"
    assert sorted(call.name for call in calls) == ["fallocate"] * 2 + ["madvise"] * 2
    assert sum(call.length for call in calls if call.name == "fallocate") == SIZE
    assert {(call.cpus, call.policy) for call in calls} == {(frozenset({cpu}), "default")}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kind", ["tmpfs", "hugetlbfs"])
def test_older_kernel_allocates_under_the_policy(host: EngineHost, kind: str, policy: str) -> None:
    """hugetlbfs keeps no policy with a file, so that mbind(2) of a mapping means nothing to fallocate(2): the thread needs one."""
    directory, page = place(host, kind)
    with new_file(directory) as file:
        calls = held_calls(partial(fill, file, SIZE, page, 2, [], policy, [0]), populates=False)
        assert allocated(file) == SIZE
    assert {call.policy for call in calls if call.name == "fallocate"} == {POLICIES[policy]}
    # What else the threads need may be anywhere.
    assert {call.policy for call in calls if call.name == "madvise"} == {"default"}


@pytest.mark.parametrize("populates", [True, False])
def test_no_room(host: EngineHost, populates: bool) -> None:
    directory = host.root / "small"
    small_tmpfs(host, directory, "size=16M")
    with (
        new_file(directory) as file,
        pytest.raises(
            OSError, match=os.strerror(errno.ENOSPC) if not populates else "cannot get all its pages"
        ) as failure,
    ):
        held_calls(partial(fill, file, SIZE, 4096, 2, [], "default", []), populates=populates)
    assert failure.value.errno == errno.ENOSPC
