# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The documents name tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def functions(path: Path) -> set[str]:
    return {item.name for item in ast.parse(path.read_text()).body if isinstance(item, ast.FunctionDef)}


@pytest.mark.parametrize(
    ("document", "least"), [("traps.md", 60), ("host-memory.md", 25), ("checkpoint.md", 30), ("moving.md", 30)]
)
def test_every_named_test_exists(document: str, least: int) -> None:
    named = re.findall(r"`([a-z_/.]+)::([a-z0-9_]+)`", (ROOT / "docs" / document).read_text())
    assert len(named) > least
    missing = []
    for file, function in named:
        path = ROOT / ("tests/" + file.removeprefix("tests/") if "/" in file else f"tests/engine/test_{file}.py")
        path = ROOT / "molecule/vm/files/dax_cases.py" if file == "dax_cases" else path
        if not path.exists() or function not in functions(path):
            missing.append(f"{file}::{function}")
    assert missing == []
