# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rendered arguments that contradict the definition, or add what is not permitted, are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.argv_check import check_argv
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.definition import parse_definition
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.errors import DefinitionError
from ansible_collections.hostmem.qemu.plugins.plugin_utils._render import render_argv

from .guests import NUMA, guest


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
