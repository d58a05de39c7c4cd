# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Engine tests: the runtime with real QEMUs of two versions, without Ansible. script/test engine builds what they need."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).resolve().parents[2]


def _collections_directory() -> Path:
    """The directory that holds ansible_collections/hostmem/qemu; a link makes one for a checkout of another name."""
    if _REPOSITORY.parts[-3:] == ("ansible_collections", "hostmem", "qemu"):
        return _REPOSITORY.parents[2]
    base = Path(tempfile.gettempdir()) / f"hostmem-collections-{hashlib.sha256(bytes(_REPOSITORY)).hexdigest()[:12]}"
    link = base / "ansible_collections" / "hostmem" / "qemu"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(_REPOSITORY)
    return base


sys.path.insert(0, str(_collections_directory()))

from support.engine import EngineHost  # noqa: E402  it imports the collection
from support.host import HEARTBEAT, QEMU_TREES  # noqa: E402


def pytest_sessionstart() -> None:
    """Say at once what is missing."""
    missing = [path for path in (HEARTBEAT, QEMU_TREES / "10.0", QEMU_TREES / "11.1") if not path.exists()]
    if os.geteuid() != 0 or missing:
        pytest.exit(f"run by root, after tests/support/build-qemu and tests/guests/build-*; missing: {missing}", 3)


@pytest.fixture
def host() -> Iterator[EngineHost]:
    """A host of its own, with QEMU 10.0 installed. Its path is short: a UNIX socket's may have 107 bytes (unix(7))."""
    new = EngineHost(Path(tempfile.mkdtemp(prefix="hm", dir="/tmp")))
    try:
        yield new
    finally:
        new.clean()
