# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module backing_file on real files."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.modules import backing_file

from ...plugins.module_utils._guest.ram_files import ME, mapped
from .module_run import run


class Files:
    """The module, for files of one directory."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self.path = directory / "qemu_back_mem.0+100000.ram0"
        self._capsys = capsys

    def __call__(self, check: bool = False, **arguments: Any) -> dict[str, Any]:
        """Run the module; with a single block of 1 MiB unless a definition is given."""
        if "definition" not in arguments:
            arguments = {"size": "1M", "directory": str(self.directory), **arguments}
        return run(backing_file, self._capsys, check, **{"owner": ME.name, "group": ME.group, **arguments})


@pytest.fixture(name="files")
def fixture_files(capsys: pytest.CaptureFixture[str]) -> Iterator[Files]:
    base = tempfile.mkdtemp(prefix="hostmem-unit-", dir="/dev/shm")
    yield Files(Path(base) / "guest", capsys)
    shutil.rmtree(base)


def test_check_mode_predicts_what_a_real_run_does(files: Files) -> None:
    for arguments in ({}, {}, {"content": "zero"}, {"state": "absent"}, {"state": "absent"}):
        if arguments.get("content"):
            files.path.write_bytes(b"old" + bytes((1 << 20) - 3))
        foretold = files(check=True, **arguments)
        assert foretold == files(**arguments)


def test_a_whole_life(files: Files) -> None:
    made = files()
    assert made["changed"]
    assert made["files"] == [
        {
            "path": str(files.path),
            "state": "present",
            "id": "ram0",
            "offset": 0,
            "size": 1 << 20,
            "allocated": 0,
            "mapped_by": [],
        }
    ]
    assert not files()["changed"]
    files.path.write_bytes(b"old" + bytes((1 << 20) - 3))
    assert not files()["changed"]
    assert not files(mode="open")["changed"]
    emptied = files(content="zero")
    assert emptied["diff"]["before"][str(files.path)]["allocated"] > 0
    assert emptied["diff"]["after"][str(files.path)]["allocated"] == 0
    assert not files(content="zero")["changed"]
    assert files(state="absent")["files"][0]["state"] == "absent"
    assert not files.directory.exists()
    assert not files(state="absent")["changed"]


def test_a_mapped_file_is_told_of_and_left_alone(files: Files) -> None:
    files()
    files.path.write_bytes(b"memory" + bytes((1 << 20) - 6))
    with mapped(str(files.path)) as pid:
        assert files()["files"][0]["mapped_by"] == [pid]
        for arguments in ({"state": "absent"}, {"content": "zero"}):
            refused = files(**arguments)
            assert refused["failed"]
            assert refused["error"]["message"] == f"{files.path} is mapped by process {pid}."
            assert "Cure: Stop the guest first." in refused["msg"]
    assert files.path.read_bytes()[:6] == b"memory"


def test_a_definition_gives_all_named_files(files: Files) -> None:
    blocks = [
        {"id": name, "size": "1M", "backing": backing, "numa_node": node, **where}
        for node, (name, backing, where) in enumerate(
            [
                ("ram0", "tmpfs", {"directory": str(files.directory)}),
                ("ram1", "memfd", {}),
                ("ram2", "tmpfs", {"directory": str(files.directory)}),
            ]
        )
    ]
    definition = {
        "name": "web1",
        "machine": "pc-q35-10.0",
        "accel": "tcg",
        "cpu": {"count": 3},
        "memory": {"blocks": blocks},
    }
    made = files(definition=definition)
    assert [os.path.basename(item["path"]) for item in made["files"]] == [
        "qemu_back_mem.0+100000.ram0",
        "qemu_back_mem.200000+100000.ram2",
    ]
    assert files(definition=definition, state="absent")["changed"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"mode": "open"}, "mode open demands"),
        ({"mode": "open", "content": "zero"}, "content: zero would drop"),
        ({"size": "1X"}, "size: '1X' is not a size"),
        ({"size": "1P0"}, "is not a size"),
        ({"owner": "nobody-of-that-name"}, "There is no user nobody-of-that-name"),
        ({"definition": {"name": "web1"}}, "machine: is required"),
        ({"definition": {}, "size": "1M"}, "mutually exclusive"),
        ({"filesystem": "dax"}, "demands dax"),
        ({"directory": "/dev/shm"}, "cannot become a directory of RAM files"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_changes(files: Files, arguments: dict[str, Any], reason: str) -> None:
    result = files(**arguments)
    assert result["failed"]
    assert reason in result["msg"]
    assert not files.directory.exists()
