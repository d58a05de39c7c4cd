# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whose memory is on a namespace, by what lies on the host's disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.namespace_guests import (
    GuestFiles,
    guest_files,
    guests_on,
)
from ansible_collections.hostmem.qemu.plugins.module_utils._host.pmem import Namespace

UUID = "f7c0b955-da83-4fb1-983c-345921a797f7"
NAMESPACE = Namespace(
    dev="namespace0.0",
    region="region0",
    mode="devdax",
    name="ram",
    size=1 << 30,
    raw_size=1 << 30,
    align=2 << 20,
    map="dev",
    sector_size=None,
    device="dax0.1",
    enabled=True,
    numa_node=0,
    uuid=UUID,
    start=None,
)


def definition(**block: str) -> dict[str, Any]:
    return {
        "schema": 1,
        "definition": {"name": "db", "memory": {"blocks": [{"id": "ram", "backing": "dax", **block}]}},
        "argv": [],
    }


@pytest.fixture
def files(tmp_path: Path) -> GuestFiles:
    for name in ("guests", "state/db/checkpoint"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "state/db/checkpoint").rmdir()
    return GuestFiles(str(tmp_path / "guests"), str(tmp_path / "state"))


@pytest.mark.parametrize(
    "block", [{"namespace": "ram"}, {"namespace": UUID.upper()}, {"device": "/dev/dax0.1"}, {"x": "y=/dev/dax0.1,z"}]
)
def test_a_definition(files: GuestFiles, block: dict[str, str]) -> None:
    Path(files.definitions, "db.json").write_text(json.dumps(definition(**block)))
    assert "places memory of guest db" in guests_on(NAMESPACE, files)["db"]


@pytest.mark.parametrize("block", [{"namespace": "ram0"}, {"device": "/dev/dax0.10"}, {"device": "/dev/dax0.0"}, {}])
def test_a_definition_of_something_else(files: GuestFiles, block: dict[str, str]) -> None:
    """A block with the same name is not the namespace."""
    Path(files.definitions, "db.json").write_text(json.dumps(definition(**block)))
    assert guests_on(NAMESPACE, files) == {}
    nameless = replace(NAMESPACE, name="", uuid="", device="")
    assert guests_on(nameless, files) == {}


@pytest.mark.parametrize("name", ["checkpoint", "checkpoint.spent"])
def test_a_checkpoint(files: GuestFiles, name: str) -> None:
    manifest = Path(files.state, "db", name, "manifest")
    manifest.parent.mkdir()
    manifest.write_text("digest\n" + json.dumps({"blocks": [{"id": "ram", "identity": {"device": UUID}}]}))
    assert str(manifest) in guests_on(NAMESPACE, files)["db"]
    manifest.write_text("digest\n" + json.dumps({"blocks": []}))
    assert guests_on(NAMESPACE, files) == {}
    manifest.unlink()
    assert "cannot be read" in guests_on(NAMESPACE, files)["db"]


def test_memory_that_was_given_and_not_cleared(files: GuestFiles) -> None:
    Path(files.state, "db.devices.json").write_text(json.dumps([f"{UUID}+0x0+0x1000"]))
    assert list(guests_on(NAMESPACE, files)) == ["db"]


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[" * 100_000])
def test_what_cannot_be_read_may_be_the_one(files: GuestFiles, content: bytes) -> None:
    Path(files.definitions, "db.json").write_bytes(content)
    assert "may place memory of guest db" in guests_on(NAMESPACE, files)["db"]


def test_where_the_files_are(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    assert guest_files(str(path)) == GuestFiles()
    path.write_text(json.dumps({"definitions": "/d"}))
    assert guest_files(str(path)) == GuestFiles("/d", GuestFiles.state)
    for wrong in ("[]", "{"):
        path.write_text(wrong)
        with pytest.raises(ValueError, match=r"config|Expecting"):
            guest_files(str(path))


def test_a_host_without_guests(tmp_path: Path) -> None:
    assert guests_on(NAMESPACE, GuestFiles(str(tmp_path / "a"), str(tmp_path / "b"))) == {}
