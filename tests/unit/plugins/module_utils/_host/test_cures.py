# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is said to help, and that no error comes without it."""

from __future__ import annotations

import ast
import errno
import os
from pathlib import Path

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.config import load_config
from ansible_collections.hostmem.qemu.plugins.module_utils._host import cures
from ansible_collections.hostmem.qemu.plugins.module_utils._host.cures import (
    UNKNOWN,
    cure_in,
    cure_of,
    refused_by_kernel,
)
from ansible_collections.hostmem.qemu.plugins.module_utils._host.errors import HostmemError
from ansible_collections.hostmem.qemu.plugins.module_utils._host.program_failures import program_failed

PLUGINS = Path(cures.__file__).parents[2]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "Make room"),
        (errno.EROFS, "for writing"),
        (errno.ENOENT, "Correct the path"),
        (errno.EBUSY, "End what uses it"),
        (errno.EIO, "errors of the device"),
        (errno.ENOMEM, "Free memory"),
    ],
)
def test_by_error_number_and_by_the_words_for_it(code: int, words: str) -> None:
    assert words in cure_of(code)
    assert words in cure_in(f"mount: /mnt: {os.strerror(code).lower()}.")
    error = refused_by_kernel("It was not made.", OSError(code, os.strerror(code), "/some/where"))
    assert (error.message, error.cure) == ("It was not made.", cure_of(code))
    assert "/some/where" in error.cause


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """What is in it is mended in another way than that it cannot be had."""
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(HostmemError, match="cannot be read") as caught:
        load_config(str(tmp_path / "config.json"))
    assert "role hostmem.qemu.hypervisor" in caught.value.cure
    (tmp_path / "directory").mkdir()
    with pytest.raises(HostmemError, match="cannot be read") as caught:
        load_config(str(tmp_path / "directory"))
    assert caught.value.cure == cure_of(errno.EISDIR)


def test_who_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cure_of(errno.EPERM) == cure_of(errno.EACCES) == cure_in("umount: /x: must be superuser to unmount.")
    assert "become" in cure_of(errno.EPERM)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "on the host itself" in cure_of(errno.EPERM)
    assert "become" not in cure_of(errno.EACCES)


def test_words_of_programs() -> None:
    assert cure_in("umount: /mnt/huge: target is busy.") == cure_of(errno.EBUSY)
    # The first is the reason, what comes after it follows from it.
    assert cure_in("No such device; Device or resource busy") == cure_of(errno.ENODEV)
    assert cure_in("something else") == cure_of(None) == UNKNOWN


def test_a_program_that_failed() -> None:
    error = program_failed("It was not made.", "ndctl", "  libndctl: x\n\n  failed\n", ["one", "two"])
    assert error.cause == "libndctl: x; failed The kernel's log: one; two"
    assert "ndctl list" in error.cure
    assert program_failed("It was not made.", "ndctl", "").cause == "ndctl does not say why."
    assert program_failed("It was not made.", "mkfs.ext4", "No space left on device").cure == cure_of(errno.ENOSPC)


def sources() -> list[Path]:
    """The modules, the engine and the runtime."""
    return sorted([*PLUGINS.glob("modules/*.py"), *PLUGINS.glob("module_utils/_*/*.py")])


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.name)
def test_every_error_has_a_cure(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("HostmemError", "Refused")
        ):
            given = len(node.args) > 2 or any(word.arg == "cure" for word in node.keywords)
            assert given or any(isinstance(item, ast.Starred) for item in node.args), ast.unparse(node)
