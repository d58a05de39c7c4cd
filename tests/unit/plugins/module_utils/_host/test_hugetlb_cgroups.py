# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits of control groups on huge pages, in both of their versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.hugetlb_cgroups import (
    hugetlb_hierarchy,
    hugetlb_limits,
)
from ansible_collections.hostmem.qemu.plugins.module_utils._host.mounts import parse_mount

MIB = 1 << 20
PREFIXES = ("hostmem-guest@", "machine.slice")
V2 = {
    "hugetlb.2MB.max": "1073741824",
    "hugetlb.2MB.rsvd.max": "max",
    "hugetlb.1GB.max": "0",
    "hugetlb.2MB.current": "4096",
}
V1 = {
    "hugetlb.2MB.limit_in_bytes": "9223372036852678656",
    "hugetlb.2MB.rsvd.limit_in_bytes": "1073741824",
    "hugetlb.2MB.rsvd.usage_in_bytes": "4096",
    "hugetlb.1GB.limit_in_bytes": "0",
}


def group(root: Path, name: str, files: dict[str, str]) -> None:
    (root / name).mkdir(parents=True)
    for file, text in files.items():
        (root / name / file).write_text(f"{text}\n")


@pytest.mark.parametrize(("files", "file"), [(V2, "hugetlb.2MB.max"), (V1, "hugetlb.2MB.rsvd.limit_in_bytes")])
def test_limits_of_the_guests_and_of_what_they_lie_in(tmp_path: Path, files: dict[str, str], file: str) -> None:
    group(tmp_path, "machine.slice/hostmem-guest@web1.service", files)
    group(tmp_path, "machine.slice/other.service", files)
    group(tmp_path, "tenants.slice/tenants-a.slice/hostmem-guest@web2.service", {})
    for name, text in files.items():
        (tmp_path / "tenants.slice" / name).write_text(text)
    found = hugetlb_limits(str(tmp_path), 2 * MIB, PREFIXES)
    assert [(item.cgroup, item.file, item.limit, item.usage) for item in found] == [
        (place, f"{tmp_path}{place}/{file}", 1 << 30, 4096)
        for place in ("/machine.slice/hostmem-guest@web1.service", "/tenants.slice")
    ]
    assert [item.reservations for item in found] == ["rsvd" in file] * 2
    assert [item.limit for item in hugetlb_limits(str(tmp_path), 1 << 30, PREFIXES)] == [0, 0]
    assert hugetlb_limits(str(tmp_path), 65536, PREFIXES) == []


def test_where_the_controller_is(tmp_path: Path) -> None:
    unified = parse_mount(f"30 25 0:26 / {tmp_path} rw - cgroup2 cgroup2 rw,nsdelegate")
    old = parse_mount("31 25 0:27 / /sys/fs/cgroup/hugetlb rw - cgroup cgroup rw,hugetlb")
    other = parse_mount("32 25 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu")
    assert hugetlb_hierarchy([other, unified]) is None
    assert hugetlb_hierarchy([other, unified, old]) == "/sys/fs/cgroup/hugetlb"
    (tmp_path / "cgroup.controllers").write_text("cpu hugetlb pids\n")
    assert hugetlb_hierarchy([other, unified]) == str(tmp_path)
