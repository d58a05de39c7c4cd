# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of hugetlbfs as they are written, mounted and shown."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.errors import Refused
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.hugetlbfs_options import (
    Limit,
    LiveOptions,
    WantedOptions,
    live_options,
    parse_limit,
    wanted_options,
)

MIB = 1 << 20
GIB = 1 << 30


def wanted(page_size: int = 2 * MIB, **changes: Any) -> WantedOptions:
    values: dict[str, Any] = {"size": None, "min_size": None, "nr_inodes": None, "uid": 0, "gid": 0, "mode": 0o755}
    return WantedOptions(page_size=page_size, **{**values, **changes})


# Measured on Linux 6.12: what mountinfo shows.
SHOWN = [
    ("rw,pagesize=2M", LiveOptions(2 * MIB, None, None, None)),
    ("rw,pagesize=1024M", LiveOptions(GIB, None, None, None)),
    ("rw,pagesize=64K,size=65536", LiveOptions(65536, 65536, None, None)),
    (
        "rw,uid=1,mode=700,nr_inodes=7,pagesize=2M,size=104857600,min_size=4194304",
        LiveOptions(2 * MIB, 100 * MIB, 4 * MIB, 7),
    ),
]


@pytest.mark.parametrize(("text", "options"), SHOWN)
def test_what_the_kernel_shows(text: str, options: LiveOptions) -> None:
    assert live_options(text.split(",")) == options
    assert set(options.words()) <= set(text.split(","))


@pytest.mark.parametrize(
    ("text", "page_size", "pool", "size"),
    [
        ("101M", 2 * MIB, 0, 100 * MIB),
        ("104857600", 2 * MIB, 0, 100 * MIB),
        ("3G", GIB, 0, 3 * GIB),
        ("50%", 2 * MIB, 101, 100 * MIB),
        ("100%", GIB, 3, 3 * GIB),
    ],
)
def test_limits_in_the_kernels_units(text: str, page_size: int, pool: int, size: int) -> None:
    limit = parse_limit("size", text)
    assert wanted(page_size, size=limit).live(pool).size == size


@pytest.mark.parametrize("text", ["", "x", "0", "0%", "101%", "-5M", "5 %%"])
def test_what_is_no_limit(text: str) -> None:
    with pytest.raises(Refused, match="min_size: "):
        parse_limit("min_size", text)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"size": Limit(MIB)}, "size=1048576 is less than one page of 2M. Cause: The kernel rounds down"),
        ({"min_size": Limit(percent=10)}, "min_size=10% is less than one page of 2M. Cause: The pool has 9 pages"),
        ({"size": Limit(4 * MIB), "min_size": Limit(6 * MIB)}, "min_size (6M) is more than size (4M)"),
    ],
)
def test_limits_that_cannot_be(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(Refused) as caught:
        wanted(**changes).live(9)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        wanted(),
        wanted(GIB, size=Limit(4 * GIB), min_size=Limit(GIB), nr_inodes=7),
        wanted(size=Limit(percent=50), uid=5, gid=6, mode=0o1770),
    ],
)
def test_options_are_read_as_they_are_written(options: WantedOptions) -> None:
    assert wanted_options(options.words(), 0) == options


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("defaults", wanted()),
        ("rw,nosuid,pagesize=1G,mode=1770,gid=5,size=4G", wanted(GIB, size=Limit(4 * GIB), gid=5, mode=0o1770)),
        ("noexec,nodev,noatime,nofail,x-mount.mkdir,x-systemd.requires=a.service", wanted()),
        ("ro,pagesize=2M", None),
        ("noauto,pagesize=2M", None),
        ("noauto,x-systemd.automount", None),
        ("x-systemd.automount", None),
        ("user", None),
        ("unheard,pagesize=2M", None),
        ("gid=kvm", None),
        ("size=x", None),
    ],
)
def test_how_others_write_them(words: str, options: WantedOptions | None) -> None:
    assert wanted_options(words.split(","), 2 * MIB) == options
