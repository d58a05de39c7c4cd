# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What saves, restores and updates that fail, or are cut off, leave of a guest's QEMU, and of what was interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support.checkpoints import save, went_on
from support.engine import EngineHost
from support.sound import assert_sound, refuses

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


@pytest.fixture
def unrepaired(host: EngineHost) -> Iterator[None]:
    """A runtime whose watchdog leaves what was interrupted to the next verb, as when both are killed."""
    with host.patched("_guest/verbs.py", "lambda: _recover_all(config, names))", "lambda: None)"):
        yield


def cut_off(host: EngineHost, verb: str, path: str, function: str) -> None:
    """Kill a verb after a function of its own."""
    with host.at_function(path, function, KILL):
        host.begin(verb, NAME).communicate()
        host.wait_quiet()


def refused_unchanged(host: EngineHost, verb: str, step: str) -> None:
    """Check mode says that it cannot foretell anything, and leaves everything as it is."""
    before = everything(host)
    refuses(host.refused(verb, "--check", NAME), "interrupted", step, f"hostmem recover {NAME}")
    assert everything(host) == before


def everything(host: EngineHost) -> tuple[Any, ...]:
    journal = (host.run_directory(NAME) / "journal.json").read_text()
    return journal, host.listing(NAME), host.only_qemu(NAME), host.run_states(NAME)


@pytest.mark.parametrize("verb", ["save", "update"])
def test_check_does_not_repair_a_save(host: EngineHost, unrepaired: None, verb: str) -> None:
    page = host.boot(NAME)
    cut_off(host, "save", "_guest/save.py", "sha256_of")
    refused_unchanged(host, verb, "saving")
    host.one("recover", NAME)
    host.one(verb, "--check", NAME)
    assert_sound(host, NAME, page)


@pytest.mark.parametrize("verb", ["save", "restore"])
def test_check_does_not_repair_a_restore(host: EngineHost, unrepaired: None, verb: str) -> None:
    page = host.boot(NAME)
    save(host, NAME)
    counter = page.counter
    cut_off(host, "restore", "_guest/restore.py", "save_record")
    refused_unchanged(host, verb, "restoring")
    host.one("recover", NAME)
    host.one("restore", "--check", NAME)
    host.one("restore", NAME)
    went_on(host, NAME, counter)
