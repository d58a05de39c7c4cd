# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Namespaces named by definitions, on hosts that are directories as libnvdimm's sysfs is (Linux 6.12)."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.arguments import device_placeholders, memory_objects
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.argv_check import check_argv
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.claims import claims
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.definition import Definition, parse_definition
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.device_names import known_namespaces, resolved
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.errors import Refused
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.manifest import layout_digest

from .definitions import definition, memory

UUIDS = [f"{number:08x}-68a5-49af-ba34-5cd4c3bd3346" for number in range(4)]


def make_namespace(devices: Path, number: int, name: str, mode: str = "dax", enabled: bool = True) -> None:
    """As ``ndctl create-namespace`` leaves it in region0, with UUIDS[number]; disabled ones keep their mode and have no holder."""
    region, namespace = devices / "region0", devices / f"namespace0.{number}"
    for directory in (region / namespace.name, namespace):
        directory.mkdir(parents=True)
    (region / "devtype").write_text("nd_pmem\n")
    facts = {"alt_name": name, "mode": mode, "size": "67108864", "uuid": f"f{UUIDS[number][1:]}"}
    top = devices / f"{'dax' if mode == 'dax' else 'pfn'}0.{number}"
    if enabled:
        node = top / f"dax0.{number}" if mode == "dax" else top / "block" / f"pmem0.{number}"
        node.mkdir(parents=True)
        (top / "driver").mkdir()
        (top / "uuid").write_text(f"{UUIDS[number]}\n")
        facts["holder"] = top.name
    else:
        facts["uuid"] = UUIDS[number]
    for key, value in facts.items():
        (namespace / key).write_text(f"{value}\n")


def guest(namespace: str, **changes: object) -> Definition:
    return parse_definition({**memory({"backing": "dax", "namespace": namespace, **changes}), "name": "web1"})


@pytest.fixture(name="devices")
def recorded_devices(tmp_path: Path) -> str:
    make_namespace(tmp_path, 0, "other")
    make_namespace(tmp_path, 1, "web1")
    make_namespace(tmp_path, 2, "files", mode="memory")
    return str(tmp_path)


@pytest.mark.parametrize("name", ["web1", UUIDS[1], UUIDS[1].upper()])
def test_by_name_and_by_uuid(devices: str, name: str) -> None:
    found = resolved(guest(name), devices)
    assert found.blocks[0].device == "/dev/dax0.1"
    assert device_placeholders(found) == {"@device-ram0@": "/dev/dax0.1"}


def test_the_arguments_do_not_depend_on_the_number(devices: str) -> None:
    wanted = guest("web1")
    objects = memory_objects(wanted)
    assert "mem-path=@device-ram0@," in objects[0]
    assert memory_objects(resolved(wanted, devices)) == objects
    assert parse_definition(wanted.as_dict()) == wanted
    assert resolved(wanted, devices).as_dict() == wanted.as_dict()
    # What a saved guest is known by: the number may have changed when it comes back.
    assert layout_digest(resolved(wanted, devices)) == layout_digest(wanted)


def test_nvdimm(devices: str) -> None:
    nvdimm = {"id": "nv0", "namespace": "web1", "size": "64M"}
    found = resolved(parse_definition(definition(nvdimms=[nvdimm])), devices)
    assert found.nvdimms[0].path == "/dev/dax0.1"
    assert device_placeholders(found) == {"@device-nv0@": "/dev/dax0.1"}


def test_without_namespaces_the_host_is_not_asked() -> None:
    plain = parse_definition(memory({"backing": "dax", "device": "/dev/dax7.0"}))
    assert resolved(plain, "/nowhere") is plain


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("web2", ["no devdax namespace", "web2", "name other", "name web1", "/dev/dax0.1", UUIDS[1]]),
        ("Web1", ["no devdax namespace", "name web1"]),
        ("files", ["no devdax namespace", "name files", "mode fsdax"]),
        ("twice", ["2 devdax namespaces", UUIDS[0], UUIDS[3], "by its UUID"]),
        ("off", ["disabled", "ndctl enable-namespace namespace0.3"]),
    ],
)
def test_refused_with_near_misses(tmp_path: Path, name: str, words: list[str]) -> None:
    make_namespace(tmp_path, 0, "twice" if name == "twice" else "other")
    make_namespace(tmp_path, 1, "web1")
    make_namespace(tmp_path, 2, "files", mode="memory")
    make_namespace(tmp_path, 3, name if name in ("twice", "off") else "last", enabled=name != "off")
    with pytest.raises(Refused) as caught:
        resolved(guest(name), str(tmp_path))
    text = f"{caught.value} {caught.value.cause} {caught.value.cure}"
    assert [word for word in words if word not in text] == []


def test_a_host_without_persistent_memory(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        resolved(guest("web1"), str(tmp_path / "nothing"))
    assert "none at all" in caught.value.cause


def test_one_device_by_two_names_is_refused(devices: str) -> None:
    blocks = [
        {"id": "ram0", "backing": "dax", "namespace": "web1", "numa_node": 0},
        {"id": "ram1", "backing": "dax", "device": "/dev/dax0.1", "numa_node": 1},
    ]
    with pytest.raises(Refused, match=r"ram0 and ram1 share a part of /dev/dax0\.1"):
        resolved(parse_definition(memory(*blocks)), devices)


def test_two_guests_by_two_names_meet(devices: str) -> None:
    known = known_namespaces(devices)
    by_device = parse_definition(memory({"backing": "dax", "device": "/dev/dax0.1"}))
    (first,) = claims(guest("web1"), known)
    (second,) = claims(by_device, known)
    (other,) = claims(guest("other"), known)
    assert first.meets(second)
    assert not first.meets(other)


def test_a_template_cannot_name_another_device(devices: str) -> None:
    wanted = resolved(guest("web1"), devices)
    words = ["-object", memory_objects(wanted)[0].replace("@device-ram0@", "/dev/dax0.0")]
    with pytest.raises(Exception, match=r"mem-path is '/dev/dax0\.0'"):
        check_argv(wanted, words)
