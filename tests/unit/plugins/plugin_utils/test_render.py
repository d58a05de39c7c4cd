# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates give arguments that do what the definition says, or they are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.argv_check import check_argv
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.definition import Definition, parse_definition
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.errors import DefinitionError
from ansible_collections.hostmem.qemu.plugins.plugin_utils._render import render_argv

GUEST: dict[str, Any] = {
    "name": "web1",
    "machine": "pc-q35-10.0",
    "accel": "tcg",
    "memory": {"blocks": [{"size": "256M", "backing": "file", "directory": "/srv/ram, fast"}]},
    "disks": [
        {"id": "d0", "path": "/srv/a, b.qcow2", "format": "qcow2"},
        {"id": "d1", "path": "/srv/c.raw", "format": "raw", "interface": "scsi", "read_only": True},
    ],
    "nics": [{"id": "n0", "bridge": "br0", "mac": "52:54:00:12:34:56"}],
    "consoles": [{"id": "c0"}, {"id": "c1", "type": "virtio", "to": "socket"}],
    "guest_agent": True,
    "vnc": True,
    "video": "std",
    "kernel": {"image": "/boot/vm linuz", "cmdline": "console=ttyS0 a=1,2 {{ 7 * 6 }} <&>"},
    "arguments": ["-device", "pvpanic", "-smbios", "type=1,serial=a,,b"],
}

NUMA: dict[str, Any] = {
    **GUEST,
    "memory": {
        "blocks": [{"id": "ram0", "size": "256M", "numa_node": 0}, {"id": "ram1", "size": "1G", "numa_node": 1}]
    },
}


def guest(**changes: Any) -> Definition:
    """The guest with top-level keys replaced."""
    return parse_definition({**GUEST, **changes})


def value_of(argv: list[str], option: str) -> str:
    """The value of an option's first appearance."""
    return argv[argv.index(option) + 1]


@pytest.mark.parametrize("data", [GUEST, NUMA], ids=["one block", "NUMA"])
def test_rendering_is_accepted_and_repeatable(data: dict[str, Any]) -> None:
    definition = parse_definition(data)
    assert render_argv(definition) == render_argv(definition)
    check_argv(definition, render_argv(definition))


def test_texts_arrive_unchanged() -> None:
    argv = render_argv(guest())
    assert value_of(argv, "-append") == GUEST["kernel"]["cmdline"]
    assert value_of(argv, "-kernel") == "/boot/vm linuz"
    assert argv[-4:] == GUEST["arguments"]


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


def drop(option: str) -> Callable[[list[str]], list[str]]:
    """Arguments without an option and its value."""

    def change(argv: list[str]) -> list[str]:
        place = argv.index(option)
        return argv[:place] + argv[place + 2 :]

    return change


def replace(old: str, new: str) -> Callable[[list[str]], list[str]]:
    """Arguments with a part of a value replaced; the part must be there."""

    def change(argv: list[str]) -> list[str]:
        assert any(old in word for word in argv)
        return [word.replace(old, new) for word in argv]

    return change


def add(*words: str) -> Callable[[list[str]], list[str]]:
    """Arguments with others behind them."""
    return lambda argv: [*argv, *words]


TAMPERED = [
    ("machine backend forgotten", replace(",memory-backend=ram0", ""), "-machine: memory-backend"),
    ("other machine backend", replace("memory-backend=ram0", "memory-backend=ram1"), "-machine: memory-backend"),
    ("machine without version", replace("pc-q35-10.0", "q35"), "-machine: type"),
    ("other accelerator", replace("accel=tcg", "accel=kvm"), "-machine: accel"),
    ("auxiliary RAM not shared", replace("aux-ram-share=on", "aux-ram-share=off"), "-machine: aux-ram-share"),
    ("no machine", drop("-machine"), "-machine must be there once, not 0 times"),
    ("two machines", add("-machine", "usb=on"), "-machine must be there once, not 2 times"),
    ("other memory size", replace("size=262144k", "size=262145k"), "-m: size"),
    ("no memory object", drop("-object"), "memory backends are []"),
    ("another memory object", add("-object", "memory-backend-ram,id=x,size=1G"), "memory backends are ['ram0', 'x']"),
    ("memory not shared", replace("share=on", "share=off"), "memory backend ram0: share"),
    ("other backend size", replace("size=268435456", "size=134217728"), "memory backend ram0: size"),
    ("other file", replace("0+10000000.ram0", "0+10000000.ram1"), "memory backend ram0: mem-path"),
    ("comma not doubled", replace("ram,, fast", "ram, fast"), "memory backend ram0: mem-path"),
    ("file punched by the old QEMU", replace("prealloc=off", "prealloc=off,discard-data=on"), "discard-data=on"),
    ("read-only memory", replace("prealloc=off", "prealloc=off,readonly=on"), "readonly=on"),
    ("NUMA node not defined", add("-numa", "node,memdev=ram0"), "-numa uses the memory backends"),
    ("other name", replace("guest=web1", "guest=web2"), "-name: guest"),
    ("other vCPUs", replace("cpus=1", "cpus=2"), "-smp: cpus"),
    ("other CPU", replace("qemu64", "max"), "-cpu is 'max'"),
    ("defaults", lambda argv: [word for word in argv if word != "-nodefaults"], "-nodefaults is missing"),
    (
        "user configuration",
        lambda argv: [word for word in argv if word != "-no-user-config"],
        "-no-user-config is missing",
    ),
    (
        "not migratable",
        lambda argv: [word for word in argv if word != "-only-migratable"],
        "-only-migratable is missing",
    ),
    ("QMP", add("-qmp", "unix:/run/x,server=on"), "-qmp belongs to the runtime"),
    ("stopped", add("-S"), "-S belongs to the runtime"),
    ("incoming", add("-incoming", "defer"), "-incoming belongs to the runtime"),
    ("pid file", add("-pidfile", "/run/x"), "-pidfile belongs to the runtime"),
    ("daemon", add("-daemonize"), "-daemonize belongs to the runtime"),
    ("temporary snapshot", add("-snapshot"), "-snapshot belongs to the runtime"),
    ("other image", replace("/srv/a, b.qcow2", "/srv/x.qcow2"), "disk d0: no -blockdev"),
    ("other format", replace('"driver": "qcow2"', '"driver": "raw"'), "disk d0: no -blockdev"),
    ("writable", replace('"read-only": true', '"read-only": false'), "disk d1: read-only"),
    ("no disk device", replace("drive=disk-d0", "drive=disk-d1"), "disk d0: no -device"),
    ("no block node", drop("-blockdev"), "disk d0: no -blockdev"),
    ("block node not in JSON", replace('{"cache"', 'driver=raw,{"cache"'), "-blockdev must be JSON"),
    ("no netdev", drop("-netdev"), "netdev of n0: type"),
    ("single queue", replace("queues=2", "queues=1"), "netdev of n0: queues"),
    ("other tap", replace("ifname=hmweb1.0", "ifname=tap0"), "netdev of n0: ifname"),
    ("other MAC address", replace("52:54:00:12:34:56", "52:54:00:12:34:57"), "device of n0: mac"),
    ("console log truncated", replace("append=on", "append=off"), "chardev chr-c0: append=on is missing"),
    (
        "socket outside the generation",
        replace("@generation@/c1", "/run/c1"),
        "chardev chr-c1: its socket must lie under",
    ),
    ("further argument forgotten", lambda argv: argv[:-2], "-smbios type=1,serial=a,,b is missing"),
    ("bare word", add("disk.img"), "would take it for a disk image"),
    ("option without argument", add("-device"), "lacks its argument"),
]


@pytest.mark.parametrize(("change", "reason"), [case[1:] for case in TAMPERED], ids=[case[0] for case in TAMPERED])
def test_arguments_against_the_definition_are_refused(change: Callable[[list[str]], list[str]], reason: str) -> None:
    definition = guest()
    with pytest.raises(DefinitionError) as caught:
        check_argv(definition, change(render_argv(definition)))
    assert [line for line in caught.value.problems if line.startswith("argv: ") and reason in line], (
        caught.value.problems
    )


NUMA_TAMPERED = [
    (
        "machine backend",
        replace("aux-ram-share=on", "aux-ram-share=on,memory-backend=ram0"),
        "memory-backend contradicts the NUMA nodes",
    ),
    ("node forgotten", drop("-numa"), "-numa uses the memory backends ['ram1']"),
    ("nodes exchanged", replace("nodeid=0", "nodeid=7"), "backend ram0 is node 7, the definition says 0"),
    ("one backend twice", replace("memdev=ram1", "memdev=ram0"), "-numa uses the memory backends ['ram0', 'ram0']"),
]


@pytest.mark.parametrize(
    ("change", "reason"), [case[1:] for case in NUMA_TAMPERED], ids=[case[0] for case in NUMA_TAMPERED]
)
def test_numa_arguments_against_the_definition_are_refused(
    change: Callable[[list[str]], list[str]], reason: str
) -> None:
    definition = parse_definition(NUMA)
    with pytest.raises(DefinitionError) as caught:
        check_argv(definition, change(render_argv(definition)))
    assert [line for line in caught.value.problems if line.startswith("argv: ") and reason in line], (
        caught.value.problems
    )


def test_memory_objects_in_another_order_are_refused() -> None:
    definition = parse_definition(NUMA)
    argv = render_argv(definition)
    first, second = [place for place, word in enumerate(argv) if word.startswith("memory-backend-")]
    argv[first], argv[second] = argv[second], argv[first]
    with pytest.raises(DefinitionError, match="in this order"):
        check_argv(definition, argv)


@pytest.mark.parametrize("argv", [None, "-S", ["-name", 1], [["-S"]]])
def test_not_a_list_of_texts(argv: Any) -> None:
    with pytest.raises(DefinitionError, match="must be a list of texts"):
        check_argv(guest(), argv)
