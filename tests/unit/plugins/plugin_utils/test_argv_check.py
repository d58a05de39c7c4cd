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


NODE_NAME_AS_FILE = '{"driver": "qcow2", "node-name": "disk-d0", "read-only": false, "file": "proto"}'

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
    (
        "NUMA node not defined",
        add("-numa", "node,memdev=ram0"),
        "-numa has ['ram0 as node None'], the definition says []",
    ),
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
    ("QMP", add("-qmp", "unix:/run/x,server=on"), "-qmp unix:/run/x,server=on belongs to the runtime"),
    ("stopped", add("-S"), "-S belongs to the runtime"),
    ("incoming", add("-incoming", "defer"), "-incoming defer belongs to the runtime"),
    ("pid file", add("-pidfile", "/run/x"), "-pidfile /run/x belongs to the runtime"),
    ("daemon", add("-daemonize"), "-daemonize belongs to the runtime"),
    ("temporary snapshot", add("-snapshot"), "-snapshot is not known to survive a live update"),
    ("other image", replace("/srv/a, b.qcow2", "/srv/x.qcow2"), "disk d0: -blockdev disk-d0: file: filename is"),
    ("other format", replace('"driver": "qcow2"', '"driver": "raw"'), "disk d0: -blockdev disk-d0: driver is 'raw'"),
    ("writable", replace('"read-only": true', '"read-only": false'), "disk d1: -blockdev disk-d1: read-only is False"),
    (
        "host cache passed by",
        replace('"direct": false', '"direct": true'),
        "disk d0: -blockdev disk-d0: cache: direct is True",
    ),
    (
        "file is a node's name",
        lambda argv: [NODE_NAME_AS_FILE if "disk-d0" in word and word.startswith("{") else word for word in argv],
        "disk d0: -blockdev disk-d0: file: 'proto' is not the node",
    ),
    ("no disk device", replace("drive=disk-d0", "drive=disk-d1"), "disk d0: no -device"),
    ("no block node", drop("-blockdev"), "disk d0: -blockdev disk-d0: node-name is None"),
    ("block node not in JSON", replace('{"cache"', 'driver=raw,{"cache"'), "must be JSON, as nothing else"),
    ("no netdev", drop("-netdev"), "netdev of n0: type"),
    ("other tap", replace("fds=@tap-n0@", "fds=@tap-n1@"), "netdev of n0: fds"),
    ("tap by name", replace("fds=@tap-n0@", "ifname=tap0"), "netdev of n0: fds is None"),
    ("script", replace("vhost=off", "vhost=off,script=/x"), "netdev of n0: script=/x is not in the definition"),
    ("another netdev", add("-netdev", "bridge,id=x,br=br0"), "-netdev bridge,id=x,br=br0 is not known to survive"),
    ("other network model", replace("virtio-net-pci", "e1000e"), "device of n0: driver"),
    ("other MAC address", replace("52:54:00:12:34:56", "52:54:00:12:34:57"), "device of n0: mac"),
    ("console log truncated", replace("append=on", "append=off"), "chardev chr-c0: append is 'off'"),
    (
        "socket outside the generation",
        replace("@generation@/c1", "/run/c1"),
        "chardev chr-c1: path is '/run/c1.sock'",
    ),
    ("console forgotten", drop("-chardev"), "chardev chr-c0: backend is None"),
    ("console device forgotten", replace("isa-serial,id=c0", "isa-serial,id=x"), "device c0: chardev is None"),
    ("guest agent on another socket", replace("@generation@/qga", "@generation@/x"), "chardev chr-qga: path"),
    ("VNC forgotten", drop("-vnc"), "-vnc is [], the definition says ['unix:@generation@/vnc.sock']"),
    ("VNC on a port", replace("unix:@generation@/vnc.sock", ":1"), "-vnc is [':1']"),
    ("no screen", replace("id=video", "id=x"), "no -device with id video"),
    ("kernel forgotten", drop("-kernel"), "-kernel is [], the definition says ['/boot/vm linuz']"),
    ("other kernel command line", replace("a=1,2", "a=1"), "-append is"),
    ("initial RAM disk", add("-initrd", "/x"), "-initrd is ['/x'], the definition says []"),
    ("monitor", add("-monitor", "stdio"), "-monitor stdio belongs to the runtime"),
    ("monitor on a console", add("-mon", "chr-c0"), "-mon chr-c0 belongs to the runtime"),
    ("monitor object", add("-object", "monitor-hmp,id=x,chardev=chr-c0"), "chardev=chr-c0 belongs to the runtime"),
    ("packet dump", add("-object", "filter-dump,id=x,netdev=net-n0,file=/x"), "is not known to survive"),
    ("hidden memory object", add("-object", "rng-builtin,id=x,qom-type=memory-backend-ram"), "given more than once"),
    ("other user", add("-run-with", "user=x"), "-run-with user=x belongs to the runtime"),
    ("accelerator beside", add("-accel", "kvm"), "-accel kvm is rendered from the definition"),
    ("KVM beside", add("-enable-kvm"), "-enable-kvm is rendered from the definition"),
    ("configuration written", add("-writeconfig", "/x"), "-writeconfig /x is not known to survive"),
    ("property set", add("-set", "device.d0.drive=x"), "-set device.d0.drive=x is not known to survive"),
    ("sandbox forgotten", drop("-sandbox"), "-sandbox on is missing"),
    ("sandbox off", replace("on,obsolete", "off,obsolete"), "-sandbox on is missing"),
    ("sandbox that lets programs start", replace("spawn=deny", "spawn=allow"), "-sandbox: spawn is 'allow'"),
    ("sandbox by default", replace(",spawn=deny", ""), "-sandbox: spawn is None"),
    ("second sandbox", add("-sandbox", "off"), "-sandbox on is missing"),
    ("memory device", add("-device", "pc-dimm,memdev=ram0"), "adds memory beside the definition's"),
    ("listening socket", add("-chardev", "socket,id=x,path=/x,server=yes"), "server=yes listens on /x"),
    ("disk by drive", add("-hda", "/x"), "-hda /x is a disk"),
    ("serial port into a file", add("-serial", "file:/x"), "-serial file:/x may name only chardev:ID"),
    ("CPU feature", replace("qemu64", "qemu64,+x2apic"), "-cpu is 'qemu64,+x2apic'"),
    ("CPUs to plug", replace("cpus=1", "cpus=1,maxcpus=4"), "-smp: maxcpus=4 is not in the definition"),
    ("memory to plug", replace("size=262144k", "size=262144k,slots=2,maxmem=4G"), "-m: maxmem=4G is not"),
    ("file punched, otherwise spelt", replace("prealloc=off", "prealloc=off,discard-data=yes"), "discard-data=yes"),
    ("ROM", replace("prealloc=off", "prealloc=off,rom=on"), "rom=on is not in the definition (rom leaves no choice"),
    ("offset in the file", replace("prealloc=off", "prealloc=off,offset=4096"), "offset=4096 is not in the definition"),
    ("persistent memory", replace("prealloc=off", "prealloc=off,pmem=on"), "pmem=on is not in the definition"),
    ("shared and not shared", replace("share=on", "share=on,share=off"), "memory backend ram0: share is 'on,off'"),
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
    ("node forgotten", drop("-numa"), "-numa has ['ram1 as node 1'], the definition says"),
    ("nodes exchanged", replace("nodeid=0", "nodeid=7"), "-numa has ['ram0 as node 7', 'ram1 as node 1']"),
    ("one backend twice", replace("memdev=ram1", "memdev=ram0"), "-numa has ['ram0 as node 0', 'ram0 as node 1']"),
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


FREE = [
    ("memory not merged", replace("prealloc=off", "prealloc=off,merge=off,dump=off")),
    ("vCPU topology", replace("cpus=1", "cpus=1,sockets=1,cores=1,threads=1")),
    ("debug names", replace("guest=web1", "guest=web1,debug-threads=on")),
    ("disk that reports errors", replace("virtio-blk-pci,", "virtio-blk-pci,werror=report,")),
    ("zeroes detected", replace('"driver": "qcow2"', '"driver": "qcow2", "detect-zeroes": "unmap"')),
    ("network without option ROM", replace("virtio-net-pci,", "virtio-net-pci,romfile=,")),
    ("I/O thread", add("-object", "iothread,id=io0")),
    ("harmless options", add("-rtc", "base=utc", "-no-reboot")),
]


@pytest.mark.parametrize("change", [case[1] for case in FREE], ids=[case[0] for case in FREE])
def test_what_a_template_may_choose(change: Callable[[list[str]], list[str]]) -> None:
    definition = guest()
    check_argv(definition, change(render_argv(definition)))


def test_every_contradiction_is_reported() -> None:
    definition = guest()
    argv = [word.replace("share=on", "share=off").replace("cpus=1", "cpus=2") for word in render_argv(definition)]
    with pytest.raises(DefinitionError) as caught:
        check_argv(definition, [*argv, "-S"])
    assert len(caught.value.problems) == 4  # aux-ram-share too


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
