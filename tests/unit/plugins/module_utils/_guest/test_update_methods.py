# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can be said of the methods of a live update without a QEMU."""

from __future__ import annotations

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.definition import parse_definition
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.errors import HostmemError
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.update_by_exec import incoming_command
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.update_methods import may_spawn, stays

from .definitions import memory


@pytest.mark.parametrize(
    ("sandbox", "may"),
    [
        ([], True),
        (["off"], True),
        (["on"], True),
        (["on,spawn=allow"], True),
        (["enable=on,spawn=deny"], False),
        (["on,obsolete=deny,spawn=deny"], False),
        (["on,spawn=allow", "on,spawn=deny"], False),
    ],
)
def test_sandboxes_in_which_a_qemu_may_replace_itself(sandbox: list[str], may: bool) -> None:
    argv = ["-nodefaults", *(word for value in sandbox for word in ("-sandbox", value))]
    assert may_spawn(argv) is may


def test_memory_that_a_checkpoint_leaves_in_its_place() -> None:
    guest = parse_definition(
        memory(
            {"id": "a", "numa_node": 0},
            {"id": "b", "numa_node": 1, "backing": "memfd"},
            {"id": "c", "numa_node": 2, "backing": "file", "directory": "/x", "mode": "temp"},
            {"id": "d", "numa_node": 3, "backing": "file", "directory": "/x", "mmap": "private"},
        )
    )
    assert stays(guest) == {"a", "c"}


def test_a_command_waits_for_the_guest() -> None:
    assert incoming_command(["/usr/bin/qemu", "-S"]) == ["/usr/bin/qemu", "-S", "-incoming", "defer"]


@pytest.mark.parametrize("words", [["/usr/bin/qemu"], ["/usr/bin/qemu", "-S", "-incoming", "tcp::1"]])
def test_a_command_that_does_something_else_is_refused(words: list[str]) -> None:
    with pytest.raises(HostmemError, match="would not just wait for the guest"):
        incoming_command(words)
