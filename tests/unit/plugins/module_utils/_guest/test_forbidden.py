# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Arguments that belong to the definition or the runtime, or would break a live update, are refused."""

from __future__ import annotations

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.definition import parse_definition
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.errors import DefinitionError

from .definitions import definition

RENDERED = "is rendered from the definition"
RUNTIME = "belongs to the runtime"
SHARED_PORT = "two QEMUs cannot hold at once"

REFUSED = [
    (["-machine", "pc-q35-11.1"], RENDERED),
    (["--machine", "pc-q35-11.1"], RENDERED),
    (["-M", "q35"], RENDERED),
    (["-accel", "kvm"], RENDERED),
    (["-enable-kvm"], RENDERED),
    (["-cpu", "max"], RENDERED),
    (["-smp", "2"], RENDERED),
    (["-m", "1G"], RENDERED),
    (["-mem-path", "/dev/shm"], RENDERED),
    (["-mem-prealloc"], RENDERED),
    (["-numa", "node,memdev=x"], RENDERED),
    (["-name", "web2"], RENDERED),
    (["-object", "memory-backend-ram,id=x,size=1G"], RENDERED),
    (["-object", "qom-type=memory-backend-file,id=x"], RENDERED),
    (["-object", '{"qom-type":"memory-backend-memfd","id":"x"}'], RENDERED),
    (["-qmp", "unix:/run/x,server"], RUNTIME),
    (["-qmp-pretty", "stdio"], RUNTIME),
    (["-mon", "chardev=x"], RUNTIME),
    (["-monitor", "stdio"], RUNTIME),
    (["-pidfile", "/run/x"], RUNTIME),
    (["-S"], RUNTIME),
    (["-incoming", "defer"], RUNTIME),
    (["-daemonize"], RUNTIME),
    (["-D", "/var/log/x"], RUNTIME),
    (["-preconfig"], RUNTIME),
    (["-sandbox", "off"], RUNTIME),
    (["-run-with", "user=nobody"], RUNTIME),
    (["-only-migratable"], RUNTIME),
    (["-readconfig", "/etc/x"], "out of the definition's hands"),
    (["-loadvm", "x"], "out of the definition's hands"),
    (["-snapshot"], "next QEMU does not see"),
    (["-drive", "file=/srv/a,snapshot=on"], "next QEMU does not see"),
    (["-hda", "/srv/a"], "use disks"),
    (["-cdrom", "/srv/a.iso"], "use disks"),
    (["-device", "nvme,serial=1"], "cannot be migrated"),
    (["-device", '{"driver":"nvme","serial":"1"}'], "cannot be migrated"),
    (["-serial", "file:/var/log/x"], "truncate"),
    (["-chardev", "file,id=x,path=/var/log/x"], "truncate"),
    (["-chardev", "file,id=x,path=/var/log/x,append=off"], "truncate"),
    (["-chardev", "pipe,id=x,path=/run/x"], "one pipe"),
    (["-chardev", "socket,id=x,path=/run/x,server=on,wait=off"], "old one unlink"),
    (["-chardev", "socket,id=x,path=/run/x,server"], "old one unlink"),
    (["-chardev", "socket,id=x,port=4444,server=on"], SHARED_PORT),
    (["-serial", "unix:/run/x,server=on"], "old one unlink"),
    (["-serial", "tcp::4444,server=on"], SHARED_PORT),
    (["-serial", "telnet:localhost:4444,server"], SHARED_PORT),
    (["-netdev", "user,id=x,hostfwd=tcp::2222-:22"], "hostfwd"),
    (["-nic", "user,hostfwd=tcp::2222-:22"], "hostfwd"),
    (["-netdev", "tap,id=x"], "use nics"),
    (["-vnc", ":1"], SHARED_PORT),
    (["-vnc", "unix:/run/x"], SHARED_PORT),
    (["-device"], "lacks its argument"),
    (["disk.img"], "would take it for a disk image"),
]

ACCEPTED = [
    [],
    ["-device", "pvpanic"],
    ["-device", "virtio-rng-pci,rng=r", "-object", "rng-random,id=r,filename=/dev/urandom"],
    ["-chardev", "socket,id=x,path=@generation@/x.sock,server=on,wait=off"],
    ["-chardev", "file,id=x,path=@log@/x.log,append=on"],
    ["-chardev", "null,id=x"],
    ["-netdev", "user,id=x,restrict=on"],
    ["-vnc", "none"],
    ["-rtc", "base=utc"],
    ["-no-reboot", "-boot", "menu=on"],
    ["-smbios", "type=1,serial=a,,b c"],
]


def problems(arguments: list[str]) -> list[str]:
    """What is wrong with a definition's further arguments."""
    with pytest.raises(DefinitionError) as caught:
        parse_definition(definition(arguments=arguments))
    return caught.value.problems


@pytest.mark.parametrize(
    ("arguments", "reason"), REFUSED, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_refused(arguments: list[str], reason: str) -> None:
    found = problems(arguments)
    assert [line for line in found if line.startswith("arguments") and reason in line], found


@pytest.mark.parametrize(
    ("arguments", "reason"), REFUSED[:-2], ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_refused_behind_others_with_its_place(arguments: list[str], reason: str) -> None:
    (line,) = problems(["-rtc", "base=utc", *arguments, "-no-reboot"])
    assert line.startswith("arguments[2]: ")
    assert reason in line


@pytest.mark.parametrize("arguments", ACCEPTED, ids=" ".join)
def test_accepted(arguments: list[str]) -> None:
    assert parse_definition(definition(arguments=arguments)).arguments == arguments


@pytest.mark.parametrize("argument", ["", 1, None, True, ["-S"], "a\nb", "a\0b"])
def test_not_a_text(argument: object) -> None:
    assert [line for line in problems(["-rtc", argument]) if line.startswith("arguments[1]: must be a non-empty text")]
