# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What /proc tells of a process's memory, from texts of Linux 6.18, and of this one."""

from __future__ import annotations

import os
import resource

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.process_memory import (
    Limit,
    kernel_page_sizes,
    kilobytes,
    locked_memory_limit,
    own_locked_memory_limit,
    parse_locked_memory,
    parse_page_sizes,
    proportional_size,
    resident_size,
)

SMAPS = """\
7f8947a00000-7f8947e00000 rw-s 00000000 00:11 2544829                    /memfd:memory-backend-memfd (deleted)
Size:               4096 kB
KernelPageSize:     2048 kB
MMUPageSize:        2048 kB
Rss:                   0 kB
VmFlags: rd wr sh mr mw me ms de ht sd
7f8947e00000-7f8947e01000 ---p 00000000 00:00 0
Size:                  4 kB
KernelPageSize:        4 kB
"""


def test_page_sizes() -> None:
    assert parse_page_sizes(SMAPS.splitlines()) == {0x7F8947A00000: 2 << 20, 0x7F8947E00000: 4096}
    assert set(kernel_page_sizes(os.getpid()).values()) == {os.sysconf("SC_PAGE_SIZE")}


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("Max locked memory         8388608              unlimited            bytes     ", Limit(8388608, None)),
        ("Max locked memory         unlimited            unlimited            bytes     ", Limit(None, None)),
        ("Max file locks            unlimited            unlimited            locks     ", None),
    ],
)
def test_locked_memory(line: str, wanted: Limit | None) -> None:
    text = f"Limit                     Soft Limit           Hard Limit           Units     \n{line}\n"
    assert parse_locked_memory(text) == wanted


def test_sizes() -> None:
    text = "VmPeak:\t  201380 kB\nVmRSS:\t   43088 kB\nRss:               43124 kB\n"
    assert (kilobytes(text, "VmRSS"), kilobytes(text, "Rss"), kilobytes(text, "Pss")) == (
        43088 << 10,
        43124 << 10,
        None,
    )


def test_this_process() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    wanted = Limit(None if soft == resource.RLIM_INFINITY else soft, None if hard == resource.RLIM_INFINITY else hard)
    assert own_locked_memory_limit() == locked_memory_limit(os.getpid()) == wanted
    assert 0 < (proportional_size(os.getpid()) or 0) <= resident_size(os.getpid()) * 1.1
