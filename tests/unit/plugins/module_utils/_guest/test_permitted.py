# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Only further arguments that are known to survive a live update are permitted; the others are refused with the reason."""

from __future__ import annotations

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.definition import parse_definition
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.errors import DefinitionError

from .definitions import definition

RENDERED = "is rendered from the definition"
RUNTIME = "belongs to the runtime"
DISK = "use disks"
UNKNOWN = "is not known to survive a live update"
SHARED_PORT = "two QEMUs cannot hold at once"
CHARACTER_DEVICE = "may name only chardev:ID"
TWICE = "is given more than once"

REFUSED = [
    ("-machine pc-q35-11.1", RENDERED),
    ("--machine pc-q35-11.1", RENDERED),
    ("-M q35", RENDERED),
    ("-accel kvm", RENDERED),
    ("-enable-kvm", RENDERED),
    ("-cpu max", RENDERED),
    ("-smp 2", RENDERED),
    ("-m 1G", RENDERED),
    ("-mem-path /dev/shm", RENDERED),
    ("-mem-prealloc", RENDERED),
    ("-numa node,memdev=x", RENDERED),
    ("-name web2", RENDERED),
    ("-kernel /x", RENDERED),
    ("-initrd /x", RENDERED),
    ("-append quiet", RENDERED),
    ("-vnc :1", RENDERED),
    ("-vnc unix:/run/x", RENDERED),
    ("-vnc none", RENDERED),
    ("-vga std", RENDERED),
    ("-object memory-backend-ram,id=x,size=1G", RENDERED),
    ("-object qom-type=memory-backend-file,id=x", RENDERED),
    ('-object {"qom-type":"memory-backend-memfd","id":"x"}', RENDERED),
    ("-object rng-builtin,id=x,qom-type=memory-backend-ram", TWICE),
    ("-object monitor-qmp,id=x,chardev=y", RUNTIME),
    ("-object monitor-hmp,id=x,chardev=y", RUNTIME),
    ("-object filter-dump,id=x,netdev=y,file=/x", UNKNOWN),
    ("-object input-linux,id=x,evdev=/dev/input/event0", UNKNOWN),
    ("-object sev-guest,id=x", UNKNOWN),
    ("-qmp unix:/run/x,server", RUNTIME),
    ("-qmp-pretty stdio", RUNTIME),
    ("-mon chardev=x", RUNTIME),
    ("-monitor stdio", RUNTIME),
    ("-pidfile /run/x", RUNTIME),
    ("-S", RUNTIME),
    ("-incoming defer", RUNTIME),
    ("-daemonize", RUNTIME),
    ("-D /var/log/x", RUNTIME),
    ("-preconfig", RUNTIME),
    ("-sandbox off", RUNTIME),
    ("-run-with user=nobody", RUNTIME),
    ("-runas nobody", RUNTIME),
    ("-chroot /x", RUNTIME),
    ("-only-migratable", RUNTIME),
    ("-nodefaults", RUNTIME),
    ("-global migration.x-ignore-shared=on", "changes how QEMU migrates"),
    ("-global driver=migration,property=x-ignore-shared,value=on", "changes how QEMU migrates"),
    ("-readconfig /etc/x", UNKNOWN),
    ("-writeconfig /x", UNKNOWN),
    ("-loadvm x", UNKNOWN),
    ("-dump-vmstate /x", UNKNOWN),
    ("-snapshot", UNKNOWN),
    ("-no-shutdown", UNKNOWN),
    ("-set device.d0.drive=x", UNKNOWN),
    ("-plugin x", UNKNOWN),
    ("-s", UNKNOWN),
    ("-gdb tcp::1234", UNKNOWN),
    ("-qtest unix:/x,server", UNKNOWN),
    ("-spice port=5900", UNKNOWN),
    ("-usbdevice disk:/x", UNKNOWN),
    ("-virtfs local,path=/x,mount_tag=x,security_model=none", UNKNOWN),
    ("-fsdev local,id=x,path=/x,security_model=none", UNKNOWN),
    ("-nographic", UNKNOWN),
    ("-an-option-of-tomorrow x", UNKNOWN),
    ("-trace file=/x", "truncates"),
    ("-drive file=/srv/a,snapshot=on", DISK),
    ("-drive file=/srv/x,if=virtio", DISK),
    ("-hda /srv/a", DISK),
    ("-cdrom /srv/a.iso", DISK),
    ("-fda /x", DISK),
    ("-pflash /x", DISK),
    ("-sd /x", DISK),
    ("-mtdblock /x", DISK),
    ("-blockdev driver=file,node-name=x,filename=/x", "must be JSON"),
    ("-device nvme,serial=1", "cannot be migrated"),
    ('-device {"driver":"nvme","serial":"1"}', "cannot be migrated"),
    ("-device usb-host,hostbus=1", "two QEMUs"),
    ("-device vhost-vsock-pci,guest-cid=3", "two QEMUs"),
    ("-device pvpanic,driver=nvme", TWICE),
    ("-device pc-dimm,memdev=x", "use memory.blocks"),
    ("-device virtio-mem-pci,memdev=x", "use memory.blocks"),
    ("-display gtk", SHARED_PORT),
    ("-display vnc=:1", SHARED_PORT),
    ("-serial file:/var/log/x", CHARACTER_DEVICE),
    ("-serial unix:/run/x,server=on", CHARACTER_DEVICE),
    ("-serial tcp::4444,server=on", CHARACTER_DEVICE),
    ("-serial telnet:localhost:4444,server", CHARACTER_DEVICE),
    ("-serial stdio", CHARACTER_DEVICE),
    ("-serial mon:stdio", CHARACTER_DEVICE),
    ("-serial mon:unix:/x,server", CHARACTER_DEVICE),
    ("-parallel file:/x", CHARACTER_DEVICE),
    ("-debugcon file:/x", CHARACTER_DEVICE),
    ("-chardev file,id=x,path=/var/log/x", "truncate"),
    ("-chardev file,id=x,path=/var/log/x,append=off", "truncate"),
    ("-chardev null,id=x,logfile=/x", "truncates"),
    ("-chardev pipe,id=x,path=/run/x", SHARED_PORT),
    ("-chardev pty,id=x", SHARED_PORT),
    ("-chardev stdio,id=x", SHARED_PORT),
    ("-chardev udp,id=x,port=1", SHARED_PORT),
    ("-chardev socket,id=x,path=/run/x,server=on,wait=off", "old one unlink"),
    ("-chardev socket,id=x,path=/run/x,server=yes", "old one unlink"),
    ("-chardev socket,id=x,path=/run/x,server=true", "old one unlink"),
    ("-chardev socket,id=x,path=/run/x,server", "old one unlink"),
    ("-chardev socket,id=x,path=/run/x,server=off,server=on", TWICE),
    ("-chardev socket,id=x,path=/run/x,server=off,server", TWICE),
    ("-chardev socket,id=x,path=@generation@/x.sock,path=/run/x,server=on", TWICE),
    ("-chardev socket,id=x,path=@generation@/../x.sock,server=on", "takes the place"),
    ("-chardev socket,id=x,path=@generation@/qmp.sock,server=on", "takes the place of the runtime's qmp.sock"),
    ("-chardev socket,id=x,path=@generation@/cpr.sock,server=on", "takes the place of the runtime's cpr.sock"),
    ("-chardev socket,id=x,port=4444,server=on", SHARED_PORT),
    ("-netdev user,id=x,hostfwd=tcp::2222-:22", SHARED_PORT),
    ("-netdev user,id=x,guestfwd=tcp::1-tcp::2", SHARED_PORT),
    ('-netdev {"type":"user","id":"x","hostfwd":[{"str":"tcp::1-:2"}]}', SHARED_PORT),
    ("-netdev user,id=x,type=tap", TWICE),
    ("-netdev tap,id=x", "use nics"),
    ("-netdev bridge,id=x,br=br0", "use nics"),
    ("-netdev socket,id=x,listen=:1234", "use nics"),
    ("-netdev stream,id=x,server=on,addr.type=unix,addr.path=/x", "use nics"),
    ("-nic user,hostfwd=tcp::2222-:22", UNKNOWN),
    ("-net tap", UNKNOWN),
    ("-net user,hostfwd=tcp::1-:2", UNKNOWN),
    ("-device {x", "cannot be read"),
]

# Not even a command line: there is no place to name.
UNREADABLE = [
    (["-device"], "lacks its argument"),
    (["disk.img"], "would take it for a disk image"),
    (["-no-reboot", "disk.img"], "would take it for a disk image"),
]

ACCEPTED = [
    [],
    ["-device", "pvpanic"],
    ["-device", "vfio-pci,host=0000:01:00.0"],  # cpr-transfer hands its descriptors over since QEMU 10.1
    ["-device", "virtio-rng-pci,rng=r", "-object", "rng-random,id=r,filename=/dev/urandom"],
    ["-object", "iothread,id=io0"],
    ["-object", "secret,id=s0,file=/etc/hostmem/key"],
    ["-object", "tls-creds-x509,id=t0,dir=/etc/pki,endpoint=client"],
    ["-chardev", "socket,id=x,path=@generation@/x.sock,server=on,wait=off"],
    ["-chardev", "socket,id=x,path=/run/swtpm,server=off"],
    ["-chardev", "file,id=x,path=@log@/x.log,append=on"],
    ["-chardev", "null,id=x"],
    ["-chardev", "ringbuf,id=x,size=4096"],
    ["-serial", "chardev:x"],
    ["-serial", "none"],
    ["-netdev", "user,id=x,restrict=on"],
    ["-blockdev", '{"driver":"null-co","node-name":"n0"}'],
    ["-display", "none"],
    ["-rtc", "base=utc"],
    ["-global", "ICH9-LPC.disable_s3=1"],
    ["-global", "driver=ICH9-LPC,property=disable_s3,value=1"],
    ["-trace", "enable=migrate_*"],
    ["-no-reboot", "-boot", "menu=on"],
    ["-smbios", "type=1,serial=a,,b c"],
    ["-smbios", "type=11,value=a,value=b"],
]


def problems(arguments: list[str]) -> list[str]:
    """What is wrong with a definition's further arguments."""
    with pytest.raises(DefinitionError) as caught:
        parse_definition(definition(arguments=arguments))
    return caught.value.problems


@pytest.mark.parametrize(("text", "reason"), REFUSED, ids=[text for text, _reason in REFUSED])
def test_refused_with_place_and_reason(text: str, reason: str) -> None:
    (line,) = problems(["-rtc", "base=utc", *text.split(" ", 1), "-no-reboot"])
    assert line.startswith("arguments[2]: ")
    assert reason in line


@pytest.mark.parametrize(("arguments", "reason"), UNREADABLE, ids=[" ".join(words) for words, _reason in UNREADABLE])
def test_unreadable(arguments: list[str], reason: str) -> None:
    (line,) = problems(arguments)
    assert line.startswith("arguments: ")
    assert reason in line


def test_every_refused_argument_is_named() -> None:
    found = problems(["-S", "-device", "nvme", "-rtc", "base=utc", "-hda", "/srv/a"])
    assert [line.split(":")[0] for line in found] == ["arguments[0]", "arguments[1]", "arguments[5]"]


@pytest.mark.parametrize("arguments", ACCEPTED, ids=" ".join)
def test_accepted(arguments: list[str]) -> None:
    assert parse_definition(definition(arguments=arguments)).arguments == arguments


@pytest.mark.parametrize("argument", ["", 1, None, True, ["-S"], "a\nb", "a\0b"])
def test_not_a_text(argument: object) -> None:
    assert [line for line in problems(["-rtc", argument]) if line.startswith("arguments[1]: must be a non-empty text")]
