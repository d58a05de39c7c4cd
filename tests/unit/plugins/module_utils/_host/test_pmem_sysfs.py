# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Persistent memory in sysfs of Linux 6.12, held against what ndctl 81 said of the same VM at the same time."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.devdax import listed_devices
from ansible_collections.hostmem.qemu.plugins.module_utils._host.pmem import parse_regions
from ansible_collections.hostmem.qemu.plugins.module_utils._host.pmem_sysfs import regions_in_sysfs

NDCTL = """
{"regions": [
  {"dev": "region1", "size": 335544320, "align": 16777216, "available_size": 0, "max_available_extent": 0, "type":
      "pmem", "numa_node": 0, "target_node": 0, "persistence_domain": "unknown", "namespaces": [
    {"dev": "namespace1.0", "mode": "devdax", "map": "dev", "size": 329252864, "uuid":
      "ae5b3242-68a5-49af-ba34-5cd4c3bd3346", "daxregion": {"id": 1, "size": 329252864, "align": 2097152, "devices":
      [{"chardev": "dax1.0", "size": 329252864, "target_node": 0, "align": 2097152, "mode": "devdax"}]}, "align":
      2097152, "numa_node": 0, "target_node": 0}
  ]},
  {"dev": "region2", "size": 536870912, "align": 16777216, "available_size": 134217728, "max_available_extent":
      134217728, "type": "pmem", "numa_node": 1, "target_node": 1, "iset_id": 10248187106440278, "persistence_domain":
      "unknown", "namespaces": [
    {"dev": "namespace2.0", "mode": "fsdax", "map": "dev", "size": 394264576, "uuid":
      "b5dfd89d-a2c7-4305-9ee8-e96c977d5342", "raw_uuid": "698f2ec3-f4f7-42f6-a371-047639741067", "sector_size": 512,
      "align": 2097152, "blockdev": "pmem2", "name": "ram0", "numa_node": 1, "target_node": 1},
    {"dev": "namespace2.2", "mode": "raw", "size": 0, "uuid": "00000000-0000-0000-0000-000000000000", "sector_size":
      512, "state": "disabled", "numa_node": 1, "target_node": 1}
  ]},
  {"dev": "region0", "size": 67108864, "align": 16777216, "available_size": 0, "max_available_extent": 0, "type":
      "pmem", "numa_node": 1, "target_node": 1, "persistence_domain": "unknown", "namespaces": [
    {"dev": "namespace0.0", "mode": "fsdax", "map": "mem", "size": 67108864, "sector_size": 512, "state": "disabled",
      "numa_node": 1, "target_node": 1}
  ]}
]}
"""

# Attributes, links, and directories below /sys/bus.
SYSFS = """
nd/devices/dax1.0/align=2097152
nd/devices/dax1.0/dax1.0/
nd/devices/dax1.0/dax_region/
nd/devices/dax1.0/devtype=nd_dax
nd/devices/dax1.0/driver -> dax_pmem
nd/devices/dax1.0/mode=pmem
nd/devices/dax1.0/namespace=namespace1.0
nd/devices/dax1.0/numa_node=0
nd/devices/dax1.0/resource=0x120600000
nd/devices/dax1.0/size=329252864
nd/devices/dax1.0/uuid=ae5b3242-68a5-49af-ba34-5cd4c3bd3346
nd/devices/namespace0.0/devtype=nd_namespace_io
nd/devices/namespace0.0/holder=
nd/devices/namespace0.0/holder_class=pfn
nd/devices/namespace0.0/mode=memory
nd/devices/namespace0.0/nstype=4
nd/devices/namespace0.0/numa_node=1
nd/devices/namespace0.0/resource=0x60100000
nd/devices/namespace0.0/size=67108864
nd/devices/namespace1.0/devtype=nd_namespace_io
nd/devices/namespace1.0/holder=dax1.0
nd/devices/namespace1.0/holder_class=dax
nd/devices/namespace1.0/mode=dax
nd/devices/namespace1.0/nstype=4
nd/devices/namespace1.0/numa_node=0
nd/devices/namespace1.0/resource=0x120000000
nd/devices/namespace1.0/size=335544320
nd/devices/namespace2.0/alt_name=ram0
nd/devices/namespace2.0/devtype=nd_namespace_pmem
nd/devices/namespace2.0/holder=pfn2.0
nd/devices/namespace2.0/holder_class=pfn
nd/devices/namespace2.0/mode=memory
nd/devices/namespace2.0/nstype=5
nd/devices/namespace2.0/numa_node=1
nd/devices/namespace2.0/resource=0x100000000
nd/devices/namespace2.0/sector_size=[512] 4096
nd/devices/namespace2.0/size=402653184
nd/devices/namespace2.0/uuid=698f2ec3-f4f7-42f6-a371-047639741067
nd/devices/namespace2.2/alt_name=
nd/devices/namespace2.2/devtype=nd_namespace_pmem
nd/devices/namespace2.2/holder=
nd/devices/namespace2.2/holder_class=
nd/devices/namespace2.2/mode=raw
nd/devices/namespace2.2/nstype=5
nd/devices/namespace2.2/numa_node=1
nd/devices/namespace2.2/sector_size=512 4096
nd/devices/namespace2.2/size=0
nd/devices/namespace2.2/uuid=
nd/devices/nmem0/commands=get_size get_data set_data cmd_call
nd/devices/nmem0/devtype=nvdimm
nd/devices/nmem0/driver -> nvdimm
nd/devices/nmem1/commands=cmd_call
nd/devices/nmem1/devtype=nvdimm
nd/devices/nmem1/driver -> nvdimm
nd/devices/pfn2.0/align=2097152
nd/devices/pfn2.0/block/pmem2/
nd/devices/pfn2.0/devtype=nd_pfn
nd/devices/pfn2.0/driver -> nd_pmem
nd/devices/pfn2.0/mode=pmem
nd/devices/pfn2.0/namespace=namespace2.0
nd/devices/pfn2.0/numa_node=1
nd/devices/pfn2.0/resource=0x100800000
nd/devices/pfn2.0/size=394264576
nd/devices/pfn2.0/uuid=b5dfd89d-a2c7-4305-9ee8-e96c977d5342
nd/devices/region0/align=0x1000000
nd/devices/region0/dax0.0/
nd/devices/region0/devtype=nd_pmem
nd/devices/region0/driver -> nd_region
nd/devices/region0/mappings=0
nd/devices/region0/max_available_extent=0
nd/devices/region0/namespace0.0/
nd/devices/region0/nstype=4
nd/devices/region0/numa_node=1
nd/devices/region0/resource=0x60100000
nd/devices/region0/size=67108864
nd/devices/region1/align=0x1000000
nd/devices/region1/available_size=0
nd/devices/region1/dax1.0/
nd/devices/region1/dax1.1/
nd/devices/region1/devtype=nd_pmem
nd/devices/region1/driver -> nd_region
nd/devices/region1/mapping0=nmem1,0,335544320,0
nd/devices/region1/mappings=1
nd/devices/region1/max_available_extent=0
nd/devices/region1/namespace1.0/
nd/devices/region1/nstype=4
nd/devices/region1/numa_node=0
nd/devices/region1/resource=0x120000000
nd/devices/region1/size=335544320
nd/devices/region2/align=0x1000000
nd/devices/region2/available_size=134217728
nd/devices/region2/dax2.0/
nd/devices/region2/devtype=nd_pmem
nd/devices/region2/driver -> nd_region
nd/devices/region2/mapping0=nmem0,0,536870912,0
nd/devices/region2/mappings=1
nd/devices/region2/max_available_extent=134217728
nd/devices/region2/namespace2.0/
nd/devices/region2/namespace2.2/
nd/devices/region2/nstype=5
nd/devices/region2/numa_node=1
nd/devices/region2/resource=0x100000000
nd/devices/region2/size=536870912
dax/devices/dax1.0/align=2097152
dax/devices/dax1.0/driver -> device_dax
dax/devices/dax1.0/numa_node=0
dax/devices/dax1.0/resource=0x120600000
dax/devices/dax1.0/size=329252864
dax/devices/dax1.0/target_node=0
"""


@pytest.fixture(name="bus")
def recorded_bus(tmp_path: Path) -> Path:
    for line in SYSFS.strip().splitlines():
        name, equals, value = line.partition("=")
        path = tmp_path / name.partition(" -> ")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        if equals:
            path.write_text(f"{value}\n", encoding="ascii")
        elif " -> " in name:
            target = tmp_path / "drivers" / name.partition(" -> ")[2]
            target.mkdir(parents=True, exist_ok=True)
            path.symlink_to(target)
        else:
            path.mkdir(parents=True)
    return tmp_path


def test_sysfs_tells_what_ndctl_does(bus: Path) -> None:
    devices = str(bus / "nd/devices")
    by_ndctl = sorted(parse_regions(NDCTL, devices), key=lambda region: region.dev)
    assert regions_in_sysfs(devices) == by_ndctl
    assert [len(region.namespaces) for region in by_ndctl] == [1, 1, 1]


def test_device_dax_devices(bus: Path) -> None:
    (device,) = listed_devices(str(bus / "dax/devices"))
    assert asdict(device) == {
        "name": "dax1.0",
        "size": 329252864,
        "align": 2 << 20,
        "node": 0,
        "target_node": 0,
        "driver": "device_dax",
    }


def test_a_host_without_any(tmp_path: Path) -> None:
    assert regions_in_sysfs(str(tmp_path / "nd/devices")) == []
    assert listed_devices(str(tmp_path / "dax/devices")) == []
