# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Persistent memory as ndctl 81 and Linux 6.12 really showed it: recorded on a VM with three regions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.pmem import Region, parse_regions

MIB = 1 << 20

RECORDED = """
{
  "regions":[
    {
      "dev":"region2", "size":536870912, "align":16777216, "available_size":218103808, "max_available_extent":218103808,
      "type":"pmem", "numa_node":1, "target_node":1, "iset_id":10248187106440278, "persistence_domain":"unknown",
      "namespaces":[
        {
          "dev":"namespace2.1", "mode":"devdax", "map":"dev", "size":130023424,
          "uuid":"97cbce5b-acf1-4bcc-97bc-3af0533fc50b", "raw_uuid":"c8f60ddf-f295-451b-b28d-0373a65113f5",
          "daxregion":{
            "id":2, "size":130023424, "align":2097152,
            "devices":[{"chardev":"dax2.1", "size":130023424, "target_node":1, "align":2097152, "mode":"devdax"}]
          },
          "align":2097152, "name":"dev0", "numa_node":1, "target_node":1
        },
        {
          "dev":"namespace2.3", "mode":"raw", "size":0, "uuid":"00000000-0000-0000-0000-000000000000", "sector_size":512,
          "state":"disabled", "numa_node":1, "target_node":1
        },
        {
          "dev":"namespace2.0", "mode":"fsdax", "map":"dev", "size":115343360,
          "uuid":"f7c0b955-da83-4fb1-983c-345921a797f7", "raw_uuid":"1021b548-7c4f-4673-80ae-3ae86cdda002",
          "sector_size":512, "align":2097152, "blockdev":"pmem2", "name":"ram0", "numa_node":1, "target_node":1
        },
        {
          "dev":"namespace2.2", "mode":"sector", "size":65961984,
          "uuid":"9a7fc577-77a8-4c95-81f3-079095f48b79", "raw_uuid":"e68bb960-840a-4e8e-8af0-efa06294ffe7",
          "sector_size":4096, "blockdev":"pmem2.2s", "numa_node":1, "target_node":1
        }
      ]
    },
    {
      "dev":"region1", "size":335544320, "align":16777216, "available_size":0, "max_available_extent":0, "type":"pmem",
      "numa_node":0, "target_node":0, "persistence_domain":"unknown",
      "namespaces":[
        {"dev":"namespace1.0", "mode":"raw", "size":335544320, "sector_size":512, "blockdev":"pmem1", "numa_node":0}
      ]
    },
    {
      "dev":"region0", "size":67108864, "align":16777216, "available_size":0, "max_available_extent":0, "type":"pmem",
      "persistence_domain":"unknown",
      "namespaces":[
        {"dev":"namespace0.0", "mode":"fsdax", "map":"mem", "size":67108864, "sector_size":512, "state":"disabled"}
      ]
    }
  ]
}
"""

SYSFS = {
    "region0/nstype": "4",
    "region0/mappings": "0",
    "region0/resource": "0x60100000",
    "region1/nstype": "4",
    "region1/mappings": "1",
    "region1/mapping0": "nmem1,0,335544320,0",
    "region1/resource": "0x120000000",
    "region2/nstype": "5",
    "region2/mappings": "1",
    "region2/mapping0": "nmem0,0,536870912,0",
    "region2/resource": "0x100000000",
    "nmem0/commands": "get_size get_data set_data cmd_call ",
    "nmem1/commands": "cmd_call ",
    "namespace2.0/size": "117440512",
    "namespace2.0/resource": "0x100000000",
    "namespace2.1/size": "134217728",
    "namespace2.1/resource": "0x107000000",
    "namespace2.2/size": "67108864",
    "namespace2.2/resource": "0x10f000000",
    "namespace2.3/size": "0",
}


@pytest.fixture(name="found")
def recorded_regions(tmp_path: Path) -> dict[str, Region]:
    for name, text in SYSFS.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{text}\n", encoding="ascii")
    return {region.dev: region for region in parse_regions(RECORDED, str(tmp_path))}


def test_namespaces_of_a_divided_region(found: dict[str, Region]) -> None:
    region = found["region2"]
    assert (region.labels, region.labels_possible, region.dimms, region.numa_node) == (True, True, ("nmem0",), 1)
    assert (region.align, region.available, region.start) == (16 * MIB, 208 * MIB, 0x100000000)
    rows = {item.dev: item for item in region.namespaces}
    assert sorted(rows) == ["namespace2.0", "namespace2.1", "namespace2.2"]  # the empty one is no namespace yet
    ram, device, sector = rows["namespace2.0"], rows["namespace2.1"], rows["namespace2.2"]
    assert (ram.name, ram.mode, ram.align, ram.map, ram.device) == ("ram0", "fsdax", 2 * MIB, "dev", "pmem2")
    assert (ram.size, ram.raw_size, ram.start) == (110 * MIB, 112 * MIB, 0x100000000)
    assert (device.mode, device.device, device.size, device.raw_size) == ("devdax", "dax2.1", 124 * MIB, 128 * MIB)
    assert (sector.mode, sector.align, sector.map, sector.device) == ("sector", None, None, "pmem2.2s")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("region1", {"labels": False, "labels_possible": False, "dimms": ("nmem1",), "numa_node": 0}),
        ("region0", {"labels": False, "labels_possible": False, "dimms": (), "numa_node": None, "start": 0x60100000}),
    ],
)
def test_regions_without_labels(found: dict[str, Region], name: str, wanted: dict[str, Any]) -> None:
    assert {key: getattr(found[name], key) for key in wanted} == wanted
    assert len(found[name].namespaces) == 1
    assert found[name].namespaces[0].enabled is (name == "region1")


@pytest.mark.parametrize("text", ["", "\n", "[]", "{}"])
def test_nothing(text: str) -> None:
    assert parse_regions(text, "/nonexistent") == []
