# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a QEMU's own answers mean; the QEMUs themselves are asked in tests/engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.qemu_abilities import (
    abilities,
    enumerated,
    newest_machines,
)
from ansible_collections.hostmem.qemu.plugins.module_utils._host.errors import HostmemError

# From QEMU 11.1, which numbers its types.
SCHEMA = [
    {"name": "migrate-set-parameters", "meta-type": "command", "arg-type": "303", "ret-type": "0"},
    {"name": "303", "meta-type": "object", "members": [{"name": "mode", "default": None, "type": "448"}, {"name": "tls-creds", "type": "str"}]},
    {"name": "448", "meta-type": "enum", "values": ["normal", "cpr-reboot", "cpr-transfer", "cpr-exec"]},
]  # fmt: skip


def test_values_of_an_enumeration() -> None:
    modes = ["normal", "cpr-reboot", "cpr-transfer", "cpr-exec"]
    assert enumerated(SCHEMA, "migrate-set-parameters", "mode") == modes
    assert enumerated(SCHEMA, "migrate-set-parameters", "cpr-mode") == []
    assert enumerated(SCHEMA, "migrate", "mode") == []


def test_newest_machines() -> None:
    machines = [
        {"name": "pc-q35-11.1", "alias": "q35", "deprecated": False},
        {"name": "pc-q35-11.0", "deprecated": False},
        {"name": "pc-i440fx-rhel7.6.0", "alias": "pc"},
        {"name": "virt-10.0", "alias": "virt"},
        {"name": "isapc"},
        {"name": "pc-q35-noble", "alias": "ubuntu-q35"},
    ]
    assert newest_machines(machines) == {
        "q35": "pc-q35-11.1",
        "pc": "pc-i440fx-rhel7.6.0",
        "virt": "virt-10.0",
        "ubuntu-q35": "pc-q35-noble",
    }


@pytest.mark.parametrize(
    ("program", "cause"),
    [
        (None, "No such file"),
        ("#!/bin/sh\necho broken >&2\nexit 3\n", "it ended"),
        ("#!/bin/sh\necho hello\n", "Expecting value"),
        ("#!/bin/sh\necho '[1]'\n", "this is no QMP"),
        (
            '#!/bin/sh\necho \'{"QMP": {}}\'\nread line\necho \'{"error": {"desc": "no"}}\'\nread line\n',
            "qmp_capabilities: no",
        ),
    ],
)
def test_programs_that_are_no_qemu(tmp_path: Path, program: str | None, cause: str) -> None:
    path = tmp_path / "qemu"
    if program is not None:
        path.write_text(program)
        path.chmod(0o755)
    with pytest.raises(HostmemError) as caught:
        abilities(str(path))
    assert caught.value.message == f"{path} does not tell what it can do."
    assert cause in caught.value.cause
    assert ("broken" in caught.value.qemu) == (program is not None and "broken" in program)
