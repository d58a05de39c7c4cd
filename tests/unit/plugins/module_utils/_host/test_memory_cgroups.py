# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits of control groups on memory, in both of their versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.cgroups import hierarchy
from ansible_collections.hostmem.qemu.plugins.module_utils._host.memory_cgroups import memory_limits
from ansible_collections.hostmem.qemu.plugins.module_utils._host.mounts import parse_mount

PREFIXES = ("hostmem-guest@", "machine.slice")
V2 = {"memory.max": "1073741824", "memory.high": "max", "memory.swap.max": "0", "memory.current": "4096"}
V1 = {
    "memory.limit_in_bytes": "1073741824",
    "memory.usage_in_bytes": "4096",
    "memory.memsw.limit_in_bytes": "9223372036854771712",
}


@pytest.mark.parametrize(
    ("files", "wanted"),
    [(V2, [("memory.max", "memory", 1 << 30, 4096), ("memory.swap.max", "swap", 0, 0)]),
     (V1, [("memory.limit_in_bytes", "memory", 1 << 30, 4096)])],
)  # fmt: skip
def test_limits(tmp_path: Path, files: dict[str, str], wanted: list[tuple[str, str, int, int]]) -> None:
    group = tmp_path / "machine.slice"
    for place in (group / "hostmem-guest@web1.service", tmp_path / "other.slice"):
        place.mkdir(parents=True)
        for name, text in files.items():
            (place / name).write_text(f"{text}\n")
    (group / "memory.max").write_text("max\n")
    found = memory_limits(str(tmp_path), PREFIXES)
    cgroup = "/machine.slice/hostmem-guest@web1.service"
    assert [item.as_dict() for item in found] == [
        {"cgroup": cgroup, "file": f"{tmp_path}{cgroup}/{name}", "limits": limits, "limit": limit, "usage": usage}
        for name, limits, limit, usage in wanted
    ]


def test_where_the_controllers_are(tmp_path: Path) -> None:
    unified = parse_mount(f"30 25 0:26 / {tmp_path} rw - cgroup2 cgroup2 rw,nsdelegate")
    old = parse_mount("31 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory")
    assert hierarchy("memory", [unified, old]) == "/sys/fs/cgroup/memory"
    (tmp_path / "cgroup.controllers").write_text("cpu memory hugetlb\n")
    assert hierarchy("memory", [unified, old]) == str(tmp_path)
    assert hierarchy("rdma", [unified, old]) is None
