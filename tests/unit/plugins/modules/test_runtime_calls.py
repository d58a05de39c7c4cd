# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the modules that ask the runtime answer when it cannot be asked, and what they refuse by themselves."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.version import VERSION
from ansible_collections.hostmem.qemu.plugins.module_utils._runtime import complaints, describe
from ansible_collections.hostmem.qemu.plugins.modules import guest, guest_checkpoint, guest_info, live_update

from .module_run import run

ALL: list[tuple[ModuleType, dict[str, Any]]] = [
    (guest, {"name": "web1"}),
    (guest_checkpoint, {"names": ["web1"]}),
    (guest_info, {}),
    (live_update, {"all": True}),
]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="the runtime is asked by root only")


def program(path: Path, text: str) -> str:
    """An executable shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@as_root
@pytest.mark.parametrize(("module", "arguments"), ALL)
def test_a_missing_runtime(
    module: ModuleType, arguments: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(module, capsys, runtime=str(tmp_path / "hostmem"), **arguments)
    assert result["failed"]
    assert "is not on this host" in result["error"]["message"]
    assert "hostmem.qemu.hypervisor" in result["error"]["cure"]


@as_root
@pytest.mark.parametrize(("module", "arguments"), ALL)
def test_a_runtime_of_another_version(
    module: ModuleType, arguments: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = json.dumps({"schema": 1, "runtime": "0.9.0", "results": []})
    result = run(module, capsys, runtime=program(tmp_path / "hostmem", f"echo '{answer}'"), **arguments)
    assert result["failed"]
    assert f"has version 0.9.0, the collection {VERSION}" in result["error"]["message"]
    assert "hostmem.qemu.hypervisor" in result["msg"]


@as_root
@pytest.mark.parametrize(("module", "arguments"), ALL)
def test_a_runtime_that_dies(
    module: ModuleType, arguments: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(module, capsys, runtime=program(tmp_path / "hostmem", "echo No space >&2; exit 3"), **arguments)
    assert "ended with code 3 and no answer" in result["error"]["message"]
    assert result["error"]["cause"] == "No space"


@pytest.mark.parametrize(
    ("module", "arguments", "reason"),
    [
        (guest, {"name": "web1", "definition": {"name": "web1"}}, "argv"),
        (guest, {"name": "web1", "definition": {"name": "web2"}, "argv": []}, "must be the same"),
        (guest, {"name": "web1", "state": "absent", "power": "on"}, "contradicts"),
        (guest, {"name": "web1", "power": "off", "stop_timeout": -1}, "must not be negative"),
        (guest, {"name": "web1", "power": "reset"}, "value of power must be one of"),
        (guest, {"name": "--all"}, "'--all' is not a guest's name"),
        (guest_checkpoint, {}, "names"),
        (guest_checkpoint, {"names": ["--all"]}, "'--all' is not a guest's name"),
        (guest_checkpoint, {"names": ["web1"], "state": "running"}, "value of state must be one of"),
        (guest_checkpoint, {"names": ["web1"], "older": True}, "older has a meaning with state=restored only"),
        (
            guest_checkpoint,
            {"names": ["web1"], "state": "absent", "full": True},
            "full has a meaning with state=saved only",
        ),
        (guest_info, {"names": ["../etc"]}, "'../etc' is not a guest's name"),
        (live_update, {}, "Exactly one of names and all"),
        (live_update, {"names": ["web1"], "all": True}, "Exactly one of names and all"),
        (live_update, {"names": ["--force"]}, "'--force' is not a guest's name"),
        (live_update, {"all": True, "max_pause": 0}, "max_pause must be more than 0"),
        (live_update, {"all": True, "parallel": 0}, "parallel must be at least 1"),
        (live_update, {"all": True, "method": "kexec"}, "value of method must be one of"),
    ],
)
def test_wrong_parameters(
    module: ModuleType, arguments: dict[str, Any], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(module, capsys, **arguments)
    assert result["failed"]
    assert reason in result["msg"]


def test_no_names_are_no_guests(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(live_update, capsys, names=[])["updates"] == []
    assert run(guest_checkpoint, capsys, names=[])["checkpoints"] == []
    assert run(guest_info, capsys, names=[])["guests"] == []


def test_errors_are_worded_for_people() -> None:
    error = {"message": "It broke.", "cause": "Age.", "cure": "Replace it.", "qemu": "oops", "code": "busy"}
    assert describe(error) == "It broke. Cause: Age. Cure: Replace it. QEMU said: oops"
    assert (
        complaints([{"guest": "a", "ok": True}, {"guest": "b", "ok": False, "error": {"message": "No."}}]) == "b: No."
    )
