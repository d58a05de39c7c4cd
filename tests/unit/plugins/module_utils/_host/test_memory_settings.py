# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's ways with memory, from its own files."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.kvm import nested
from ansible_collections.hostmem.qemu.plugins.module_utils._host.memory_settings import (
    host_memory,
    overcommit,
    same_page_merging,
    transparent_huge_pages,
    unprivileged_userfaultfd,
)
from ansible_collections.hostmem.qemu.plugins.module_utils._host.numa import node_distances, online_nodes

MEMINFO = """\
MemTotal:       24684092 kB
MemFree:        17997428 kB
MemAvailable:   20893424 kB
Shmem:            149000 kB
SwapTotal:             0 kB
SwapFree:              0 kB
CommitLimit:    12342044 kB
Committed_AS:   11786168 kB
"""


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_transparent_huge_pages(tmp_path: Path) -> None:
    write(
        tmp_path / "kernel/mm/transparent_hugepage",
        enabled="always [madvise] never\n",
        defrag="always defer defer+madvise [madvise] never\n",
        shmem_enabled="always within_size advise [never] deny force\n",
        hpage_pmd_size="2097152\n",
    )
    assert transparent_huge_pages(str(tmp_path)) == {
        "enabled": "madvise",
        "defrag": "madvise",
        "shmem_enabled": "never",
        "page_size": 2097152,
    }
    assert transparent_huge_pages(str(tmp_path / "none")) == {}


@pytest.mark.parametrize(("run", "running"), [("0", False), ("1", True), ("2", False)])
def test_merging(tmp_path: Path, run: str, running: bool) -> None:
    write(tmp_path / "kernel/mm/ksm", run=f"{run}\n", pages_shared="12\n", pages_sharing="34\n")
    assert same_page_merging(str(tmp_path)) == {"running": running, "pages_shared": 12, "pages_sharing": 34}
    assert same_page_merging(str(tmp_path / "none")) == {}


def test_overcommit_and_memory(tmp_path: Path) -> None:
    write(tmp_path, meminfo=MEMINFO, sys__vm__overcommit_memory="2\n", sys__vm__overcommit_ratio="50\n")
    assert overcommit(str(tmp_path)) == {"memory": 2, "ratio": 50, "limit": 12342044 << 10, "committed": 11786168 << 10}
    assert host_memory(str(tmp_path)) == {
        "total": 24684092 << 10,
        "free": 17997428 << 10,
        "available": 20893424 << 10,
        "shared": 149000 << 10,
        "swap_total": 0,
        "swap_free": 0,
    }
    assert unprivileged_userfaultfd(str(tmp_path)) is None
    write(tmp_path, sys__vm__unprivileged_userfaultfd="1\n")
    assert unprivileged_userfaultfd(str(tmp_path)) is True


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"kvm__parameters__halt_poll_ns": "200000\n", "kvm_amd__parameters__nested": "1\n"}, True),
        ({"kvm_intel__parameters__nested": "Y\n"}, True),
        ({"kvm_intel__parameters__nested": "N\n"}, False),
        ({"kvm__parameters__halt_poll_ns": "200000\n"}, None),
    ],
)
def test_nested(tmp_path: Path, files: dict[str, str], wanted: bool | None) -> None:
    write(tmp_path, **files)
    assert nested(str(tmp_path)) is wanted


def test_nodes(tmp_path: Path) -> None:
    assert (online_nodes(str(tmp_path)), node_distances(0, str(tmp_path))) == ([0], [])
    write(tmp_path / "devices/system/node", online="0,2-3\n", node2__distance="20 10 20\n")
    assert (online_nodes(str(tmp_path)), node_distances(2, str(tmp_path))) == ([0, 2, 3], [20, 10, 20])
