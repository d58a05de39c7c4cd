# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters, given what Ansible's own templating gives them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from ...plugins.module_utils._guest.definitions import CONSOLE, DISK, NIC, definition

VARIABLES: dict[str, Any] = {
    "name": trust_as_template("{{ 'we' ~ 'b1' }}"),
    "web1": {**definition(disks=[DISK], nics=[NIC], consoles=[CONSOLE]), "name": trust_as_template("{{ name }}")},
    "disk": DISK,
    "nic": NIC,
    "console": CONSOLE,
    "broken": "a\nb",
}


def evaluate(expression: str, **variables: Any) -> Any:
    """The value of a template as a playbook would see it."""
    templar = Templar(loader=DataLoader(), variables={**VARIABLES, **variables})
    return templar.template(trust_as_template("{{ " + expression + " }}"))


def test_argv_is_a_list_of_texts() -> None:
    argv = evaluate("web1 | hostmem.qemu.argv")
    assert argv[argv.index("-name") + 1] == "guest=web1"
    assert all(isinstance(item, str) for item in argv)


def test_argv_takes_templates_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "boot.argv.j2").write_text("-rtc\n{{ {'base': 'utc'} | hostmem.qemu.qemu_options }}\n")
    argv = evaluate("web1 | hostmem.qemu.argv(templates=[directory])", directory=str(tmp_path))
    assert argv[argv.index("-rtc") + 1] == "base=utc"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{ guest.nonsense }}", "boot.argv.j2, line 1|nonsense"),
        ("{% if %}", "boot.argv.j2, line 1"),
        ("-m\n512", "argv: -m"),
    ],
)
def test_argv_names_what_is_wrong_with_a_template(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "boot.argv.j2").write_text(text)
    with pytest.raises(AnsibleError, match=reason):
        evaluate("web1 | hostmem.qemu.argv([directory])", directory=str(tmp_path))


def test_argv_wants_a_list_of_directories() -> None:
    with pytest.raises(AnsibleError, match="must be a list of directories"):
        evaluate("web1 | hostmem.qemu.argv('/srv')")


def test_definition_is_completed() -> None:
    complete = evaluate("web1 | hostmem.qemu.definition")
    assert complete["memory"]["blocks"][0]["size"] == 256 << 20
    assert json.loads(json.dumps(complete)) == evaluate("web1 | hostmem.qemu.definition | hostmem.qemu.definition")


def test_definition_tells_every_problem() -> None:
    with pytest.raises(AnsibleError) as refusal:
        evaluate("web1 | combine({'machine': 'q35', 'colour': 'red'}) | hostmem.qemu.definition")
    assert "machine: 'q35' is an alias" in str(refusal.value)
    assert "colour: is not known here" in str(refusal.value)


def test_layout_names_the_files() -> None:
    assert evaluate("(web1 | hostmem.qemu.layout)[0].path") == "/dev/shm/hostmem/web1/qemu_back_mem.0+10000000.ram0"


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("{'path': '/srv/a,b', 'server': true, 'n': 1} | hostmem.qemu.qemu_options", "path=/srv/a,,b,server=on,n=1"),
        ("{'id': 'x', 'no': none} | hostmem.qemu.qemu_options('virtio-rng-pci')", "virtio-rng-pci,id=x"),
        ("{'fd': [3, 4]} | hostmem.qemu.qemu_options(first='tap')", "tap,fd=3,fd=4"),
        ("'4G' | hostmem.qemu.size", 4 << 30),
        ("'256 MiB' | hostmem.qemu.size", 256 << 20),
        ("268435456 | hostmem.qemu.size(human=true)", "256M"),
        ("web1 | hostmem.qemu.machine_options", "pc-q35-10.0,accel=tcg,memory-backend=ram0,aux-ram-share=on"),
        ("web1 | hostmem.qemu.memory_options", "size=262144k"),
        ("(web1 | hostmem.qemu.memory_objects) | length", 1),
        ("web1 | hostmem.qemu.numa_nodes", []),
        (
            "{'id': 'nv0', 'path': '/pm/a,b', 'size': '64M', 'pmem': true} | hostmem.qemu.nvdimm_object",
            "memory-backend-file,id=nv0,size=67108864,share=on,mem-path=/pm/a,,b,align=2097152,pmem=on",
        ),
        (
            "{'id': 'nv0', 'path': '/pm/a', 'size': '64M', 'label_size': '128K'} | hostmem.qemu.nvdimm_device",
            "nvdimm,id=nvdimm-nv0,memdev=nv0,label-size=131072",
        ),
        ("(disk | hostmem.qemu.disk_blockdev | from_json)['node-name']", "disk-d0"),
        ("disk | hostmem.qemu.disk_device", "virtio-blk-pci,id=d0,drive=disk-d0"),
        ("(nic | hostmem.qemu.nic_netdev).split(',')[:2]", ["tap", "id=net-n0"]),
        ("nic | hostmem.qemu.nic_device", "virtio-net-pci,id=n0,netdev=net-n0,mac=52:54:00:12:34:56"),
        ("console | hostmem.qemu.console_chardev", "file,id=chr-c0,path=@log@/console-c0.log,append=on"),
    ],
)
def test_values(expression: str, value: Any) -> None:
    assert evaluate(expression) == value


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("{'path': broken} | hostmem.qemu.qemu_options", "line break"),
        ("[1] | hostmem.qemu.qemu_options", "must be a dictionary"),
        ("'much' | hostmem.qemu.size", "is not a size"),
        ("0 | hostmem.qemu.size", "not larger than 0"),
        ("[1] | hostmem.qemu.size", "a size is a number of bytes"),
        ("disk | combine({'format': 'vmdk'}) | hostmem.qemu.disk_blockdev", "disk is not acceptable: format: 'vmdk'"),
        ("nic | combine({'mac': '1'}) | hostmem.qemu.nic_device", "network interface is not acceptable: mac"),
        ("console | combine({'to': 'x'}) | hostmem.qemu.console_chardev", "console is not acceptable: to"),
        ("{} | hostmem.qemu.machine_options", "name: is required"),
        ("5 | hostmem.qemu.layout", "must be a mapping"),
    ],
)
def test_wrong_input(expression: str, reason: str) -> None:
    with pytest.raises(AnsibleError, match=reason):
        evaluate(expression)
