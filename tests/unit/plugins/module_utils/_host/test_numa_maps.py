# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where pages lie, from lines that Linux 6.18 wrote for a QEMU."""

from __future__ import annotations

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.numa_maps import MappedPages, parse_numa_maps

HUGE = 2 << 20


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        pytest.param(
            "7f894d200000 default file=/tmp/huge/ram\\040h huge dirty=4 N0=4 kernelpagesize_kB=2048",
            MappedPages(0x7F894D200000, "default", True, HUGE, {0: 4 * HUGE}),
            id="huge pages",
        ),
        pytest.param(
            "7f8947a00000 default file=/memfd:memory-backend-memfd\\040(deleted) huge",
            MappedPages(0x7F8947A00000, "default", True, 0),
            id="untouched",
        ),
        pytest.param(
            "7f2a40000000 bind:0-1 anon=24 dirty=24 active=0 N0=16 N1=8 kernelpagesize_kB=4",
            MappedPages(0x7F2A40000000, "bind:0-1", False, 4096, {0: 65536, 1: 32768}),
            id="two nodes",
        ),
        pytest.param("7f8946200000 default", MappedPages(0x7F8946200000, "default", False, 0), id="reserved addresses"),
        pytest.param(
            "7f0000000000 default file=/tmp/N1=5\\040huge mapped=1 N0=1 kernelpagesize_kB=4",
            MappedPages(0x7F0000000000, "default", False, 4096, {0: 4096}),
            id="a misleading name",
        ),
    ],
)
def test_lines(line: str, wanted: MappedPages) -> None:
    assert list(parse_numa_maps([f"{line}\n"])) == [wanted]


def test_bytes_on_all_nodes() -> None:
    assert MappedPages(0, "default", False, 4096, {0: 65536, 3: 4096}).present == 69632
