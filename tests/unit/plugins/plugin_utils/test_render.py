# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The argv templates, the collection's and users'."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.argv_check import check_argv
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.definition import parse_definition
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.errors import DefinitionError
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.update_methods import may_spawn
from ansible_collections.hostmem.qemu.plugins.plugin_utils._render import render_argv

from .guests import GUEST, NUMA, guest


def value_of(argv: list[str], option: str) -> str:
    """The value of an option's first appearance."""
    return argv[argv.index(option) + 1]


@pytest.mark.parametrize("data", [GUEST, NUMA], ids=["one block", "NUMA"])
def test_rendering_is_accepted_and_repeatable(data: dict[str, Any]) -> None:
    definition = parse_definition(data)
    assert render_argv(definition) == render_argv(definition)
    check_argv(definition, render_argv(definition))


@pytest.mark.parametrize(("key", "may"), [({}, False), ({"sandbox": {"spawn": True}}, True)])
def test_the_definition_decides_whether_a_qemu_may_replace_itself(key: dict[str, Any], may: bool) -> None:
    assert may_spawn(render_argv(parse_definition({**GUEST, **key}))) is may


def test_texts_arrive_unchanged() -> None:
    argv = render_argv(guest())
    assert value_of(argv, "-append") == GUEST["kernel"]["cmdline"]
    assert value_of(argv, "-kernel") == "/boot/vm linuz"
    assert argv[-4:] == GUEST["arguments"]


def test_a_device_of_the_hosts_own_need_not_migrate() -> None:
    """With -only-migratable QEMU does not start with a vfio device that cannot be migrated (migrate_add_blocker(), QEMU 8.2 to 11.1)."""
    for device, wanted in (("pvpanic", True), ("vfio-pci,host=0000:81:11.1", False)):
        definition = guest(arguments=["-device", device])
        argv = render_argv(definition)
        check_argv(definition, argv)
        assert ("-only-migratable" in argv) is wanted


def test_a_guest_with_nothing_but_memory() -> None:
    argv = render_argv(
        guest(disks=[], nics=[], consoles=[], guest_agent=False, vnc=False, video="none", kernel=None, arguments=[])
    )
    assert not {"-device", "-blockdev", "-netdev", "-chardev", "-kernel", "-vnc"} & set(argv)


def test_a_users_template_replaces_the_collections(tmp_path: Path) -> None:
    (tmp_path / "boot.argv.j2").write_text("-boot\nmenu=on\n")
    argv = render_argv(guest(kernel=None), [str(tmp_path)])
    assert value_of(argv, "-boot") == "menu=on"


def test_a_users_template_cannot_forget_the_memory_backend(tmp_path: Path) -> None:
    (tmp_path / "memory.argv.j2").write_text("-object\nmemory-backend-ram,id=ram0,size=256M\n")
    with pytest.raises(DefinitionError, match="memory backend ram0: qom-type"):
        render_argv(guest(), [str(tmp_path)])
