# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mount units as systemd reads them."""

from __future__ import annotations

import configparser

from ansible_collections.hostmem.qemu.plugins.module_utils._host.own_files import HEADER
from ansible_collections.hostmem.qemu.plugins.module_utils._host.unit_files import with_header
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.hugetlbfs_mounts import mount_unit
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.hugetlbfs_options import Limit, WantedOptions
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.mount_units import MountUnit, UnitPlan


def read(unit: MountUnit) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(unit.text())
    return parser


def test_a_mount_as_by_fstab() -> None:
    unit = MountUnit(
        "/mnt/pmem-0/", "/dev/pmem0", "xfs", ("dax=always", "noatime"), requires=("x.service",), timeout=300
    )
    found = read(unit)
    assert unit.name == r"mnt-pmem\x2d0.mount"
    assert dict(found["Unit"]) == {"Description": "xfs at /mnt/pmem-0/", "Requires": "x.service"}
    assert dict(found["Mount"]) == {
        "What": "/dev/pmem0",
        "Where": "/mnt/pmem-0",
        "Type": "xfs",
        "Options": "dax=always,noatime",
        "TimeoutSec": "300",
    }
    assert dict(found["Install"]) == {"WantedBy": "local-fs.target"}


def test_a_mount_of_huge_pages_comes_after_its_pool_and_before_all_services() -> None:
    """systemd-tmpfiles fills the pool after local-fs.target: default dependencies would make a cycle."""
    unit = mount_unit("/srv/huge", WantedOptions(2 << 20, Limit(percent=50), None, None, 0, 0, 0o755))
    found = read(unit)
    assert found["Unit"]["DefaultDependencies"] == "no"
    assert found["Unit"]["After"] == "systemd-tmpfiles-setup.service"
    assert found["Unit"]["Before"].split() == ["umount.target", "sysinit.target"]
    assert found["Unit"]["Conflicts"] == "umount.target"
    assert found["Mount"]["Options"] == "pagesize=2M,size=50%%,uid=0,gid=0,mode=0755"
    assert found["Install"]["WantedBy"] == "sysinit.target"


def test_plans() -> None:
    text = with_header("[Unit]\n")
    assert text.startswith(HEADER)
    assert not UnitPlan("a.mount", text, True, text).changed
    assert UnitPlan("a.mount", text, False, text).changed
    assert UnitPlan("a.mount", None, False, text).changed
    assert UnitPlan("a.mount", text, True, None).changed
    assert not UnitPlan("a.mount", None, False, None).changed
    assert UnitPlan("a.mount", None, False, None).diff() == {"before": {}, "after": {}}
    assert UnitPlan("a.mount", text, False, text).diff() == {
        "before": {"/etc/systemd/system/a.mount": {"state": "disabled", "text": text}},
        "after": {"/etc/systemd/system/a.mount": {"state": "enabled", "text": text}},
    }
