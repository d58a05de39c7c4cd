# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of units, and what others have configured to be mounted."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.mount_configuration import configured_mounts
from ansible_collections.hostmem.qemu.plugins.module_utils._host.own_files import HEADER
from ansible_collections.hostmem.qemu.plugins.module_utils._host.unit_files import systemd_escape_path

FSTAB = """# <file system> <mount point> <type> <options>
/dev/vda1 / ext4 defaults 0 1
hugetlbfs /mnt/huge-1G/ hugetlbfs pagesize=1G,size=4G 0 0
none\t/mnt/a\\040b\ttmpfs
"""


@pytest.mark.parametrize(
    ("path", "name"),  # of systemd-escape --path
    [
        ("/", "-"),
        ("/mnt/huge", "mnt-huge"),
        ("//mnt///huge-2M/", r"mnt-huge\x2d2M"),
        ("/a b/.x/ü", r"a\x20b-.x-\xc3\xbc"),
        ("/.x", r"\x2ex"),
        ("/a:b_c", "a:b_c"),
    ],
)
def test_names_of_mount_units(path: str, name: str) -> None:
    assert systemd_escape_path(path) == name


def test_fstab_and_units_are_found_with_their_lines(tmp_path: Path) -> None:
    fstab = tmp_path / "fstab"
    fstab.write_text(FSTAB)
    (tmp_path / "lib").mkdir()
    (tmp_path / "link").symlink_to("lib")
    unit = tmp_path / "lib" / r"mnt-huge\x2d1G.mount"
    unit.write_text(
        "[Unit]\nDescription=x\n[Mount]\n# What=no\nWhat=other\nWhere=/mnt/huge-1G\nType=hugetlbfs\nOptions=pagesize=1G\n"
    )
    directories = [str(tmp_path / "missing"), str(tmp_path / "lib"), str(tmp_path / "link")]
    found = configured_mounts("/mnt/huge-1G", str(fstab), directories)
    assert [(item.place, item.source, item.options) for item in found] == [
        (f"{fstab}:3", "hugetlbfs", ("pagesize=1G", "size=4G")),
        (f"{unit}:1", "other", ("pagesize=1G",)),
    ]
    assert [item.line for item in configured_mounts("/mnt/a b", str(fstab), directories)] == [4]
    assert configured_mounts("/mnt", str(fstab), directories) == []
    assert configured_mounts("/mnt", str(tmp_path / "none"), directories) == []


def test_units_of_ours_and_masked_ones_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "mnt-a.mount").write_text(f"{HEADER}\n[Mount]\nWhat=x\n")
    (tmp_path / "mnt-b.mount").symlink_to("/dev/null")
    for name in ("/mnt/a", "/mnt/b"):
        assert configured_mounts(name, str(tmp_path / "none"), [str(tmp_path)]) == []
