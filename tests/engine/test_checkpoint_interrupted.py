# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What saves, restores and updates that fail, or are cut off, leave of a guest's QEMU, and of what was interrupted."""

from __future__ import annotations

from typing import Any

import pytest

from support.checkpoints import save, went_on
from support.engine import EngineHost

NAME = "beat"
KILL = "os.kill(os.getpid(), 9)"
FAIL = "raise OSError(5, 'Input/output error')"


def parameters(host: EngineHost) -> dict[str, Any]:
    """Of migration, as the guest's QEMU has them."""
    with host.qmp(NAME) as qmp:
        found: dict[str, Any] = qmp("query-migrate-parameters")
    return found


@pytest.mark.parametrize("act", [KILL, FAIL], ids=["killed", "failed"])
def test_the_guest_goes_on_with_its_migration_parameters(host: EngineHost, act: str) -> None:
    """A save needs another bandwidth than a guest's QEMU has; when it comes to nothing that is as it was, whoever had set it."""
    page = host.boot(NAME)
    with host.qmp(NAME) as qmp:
        qmp("migrate-set-parameters", max_bandwidth=77 << 20)
    before = parameters(host)
    with host.at_function("_guest/save.py", "sha256_of", act):
        host.begin("save", NAME).communicate()
        host.wait_quiet()
    assert parameters(host) == before
    assert before["max-bandwidth"] == 77 << 20
    went_on(host, NAME, page.counter)


def test_a_restored_guest_has_the_parameters_of_a_started_one(host: EngineHost) -> None:
    page = host.boot(NAME)
    before, counter = parameters(host), page.counter
    page.close()
    save(host, NAME)
    host.one("restore", NAME)
    went_on(host, NAME, counter)
    assert parameters(host) == before
