# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Guests that name their device-DAX devices by namespaces, and the clearing of such memory, also when it is cut off."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from support.vm_runtime import CONFIG, PLACE, VmRuntime

SIZE = 512 << 20
# Near its end. At the very end the guest's firmware clears a part for itself, as late as it gets there.
LAST = SIZE - (32 << 20)
PREPARE = """set -e
ndctl disable-region region1
ndctl init-labels -f nmem0
ndctl enable-region region1
ndctl create-namespace -f -r region1 -m devdax -a 2M -s 128M -n first
ndctl create-namespace -f -r region1 -m devdax -a 2M -s 128M -n store
ndctl create-namespace -f -r region1 -m devdax -a 2M -s 544M -n web1
"""
# On the host: how the device reads in a page at each end.
ENDS = "import mmap, os; m = mmap.mmap(os.open({device!r}, os.O_RDWR), {size}); print(any(m[:4096]), any(m[{last}:]))"
FILL = (
    "import mmap, os; m = mmap.mmap(os.open({device!r}, os.O_RDWR), {size});"
    " [m.__setitem__(slice(at, at + 9), b'guest RAM') for at in range(0, {size}, 4096)]"
)
# In the host's copy of the engine: what clears stops itself once, when it has cleared the first piece.
WHOLE = "pool.map(lambda piece: ctypes.memset(piece[0], 0, piece[1]), pieces)"
HALF = (
    "map(lambda piece: (ctypes.memset(piece[0], 0, piece[1]), piece == pieces[0] and os.kill(os.getpid(), 19)), pieces)"
)
EXCHANGE = """
import glob, sys
(path,) = glob.glob("{place}/lib/**/devdax.py", recursive=True)
text = open(path).read()
assert text.count({old!r}) == 1
open(path, "w").write(text.replace({old!r}, {new!r}))
"""
# On the host: the verb, or the line of the unit, that clears has stopped itself.
STOPPED = """
import mmap, os, signal, subprocess, time
pid = clearing()
while (state := open("/proc/%d/stat" % pid).read().rpartition(")")[2].split()[0]) != "T":
    assert state != "Z", "it has not stopped itself"
    time.sleep(0.1)
memory = mmap.mmap(os.open({device!r}, os.O_RDWR), {size})
assert not any(memory[:4096])
"""
KILL = (
    """
import subprocess
verb = subprocess.Popen({words!r})
clearing = lambda: verb.pid
"""
    + STOPPED
    + """
verb.kill()
print(verb.wait(), any(memory[{last}:]))
"""
)


@contextlib.contextmanager
def clearing_stops_half_way(vm: VmRuntime) -> Iterator[None]:
    vm.python(EXCHANGE.format(place=PLACE, old=WHOLE, new=HALF))
    try:
        yield
    finally:
        vm.python(EXCHANGE.format(place=PLACE, old=HALF, new=WHOLE))


def chardev(vm: VmRuntime, name: str) -> str:
    listed = json.loads(vm.host.run("ndctl list -N -r region1"))
    return next(f"/dev/{item['chardev']}" for item in listed if item.get("name") == name)


def uuid(vm: VmRuntime, name: str) -> str:
    listed = json.loads(vm.host.run("ndctl list -N -r region1"))
    return str(next(item["uuid"] for item in listed if item.get("name") == name))


def command_line(vm: VmRuntime) -> str:
    return vm.host.run("tr '\\0' ' ' < /proc/$(cat /run/hostmem/g/pid)/cmdline")


def record(vm: VmRuntime) -> list[str]:
    found: list[str] = json.loads(vm.host.run("cat /var/lib/hostmem/g.devices.json 2>/dev/null || echo []"))
    return found


def ends(vm: VmRuntime, device: str) -> str:
    return vm.python(ENDS.format(device=device, size=SIZE, last=LAST))


def define(vm: VmRuntime, name: str = "g", **block: Any) -> None:
    vm.define(name, {"size": SIZE, "backing": "dax", **block}, nvdimms=[])


@pytest.fixture(scope="module", name="named", autouse=True)
def fixture_named(vm: VmRuntime) -> None:
    vm.host.run(PREPARE)


def test_the_device_is_looked_up_at_the_start_and_at_each_update(vm: VmRuntime) -> None:
    nvdimm = {"id": "nv0", "namespace": uuid(vm, "store"), "size": "32M", "pmem": True}
    vm.define("g", {"size": SIZE, "backing": "dax", "namespace": "web1"}, nvdimms=[nvdimm])
    vm.one("start", "g")
    device, store = chardev(vm, "web1"), chardev(vm, "store")
    assert f"mem-path={device}," in command_line(vm)
    assert f"mem-path={store}," in command_line(vm)
    assert record(vm) == [f"{uuid(vm, 'web1')}+0x0+{SIZE:#x}"]
    vm.one("update", "--force", "--max-pause", "30", "g")
    assert f"mem-path={device}," in command_line(vm)
    # The device may be called by its other name while the guest runs.
    vm.define("g", {"size": SIZE, "backing": "dax", "device": device}, nvdimms=[nvdimm])


def test_a_name_that_became_ambiguous_keeps_the_guest_where_it_is(vm: VmRuntime) -> None:
    pid = vm.host.run("cat /run/hostmem/g/pid")
    vm.host.run("ndctl create-namespace -f -r region1 -m devdax -a 2M -s 32M -n web1")
    try:
        refused = vm.verb("update", "--force", "g")
        assert "2 devdax namespaces are called web1" in refused["error"]["message"], refused
        assert vm.one("info", "g")["state"] == "running"
        assert vm.host.run("cat /run/hostmem/g/pid") == pid
    finally:
        vm.host.run("ndctl destroy-namespace -f namespace1.3")
    vm.one("stop", "--timeout", "0", "g")
    assert record(vm) == []


def test_two_guests_on_one_device_by_two_names_are_refused(vm: VmRuntime) -> None:
    define(vm, namespace="web1")
    with pytest.raises(AssertionError, match=r"Guest g has /dev/dax1\.2 already"):
        define(vm, "h", device=chardev(vm, "web1"))


def test_a_clearing_that_is_killed_is_finished_by_the_next_start(vm: VmRuntime) -> None:
    define(vm, namespace="web1")
    device = chardev(vm, "web1")
    vm.one("start", "g")
    vm.python(FILL.format(device=device, size=SIZE))
    given = record(vm)
    words = [
        "python3",
        "-IS",
        f"{PLACE}/lib/bin/hostmem",
        "--config",
        f"{PLACE}/config.json",
        "stop",
        "--timeout",
        "0",
        "g",
    ]
    with clearing_stops_half_way(vm):
        assert vm.python(KILL.format(device=device, size=SIZE, last=LAST, words=words)).split() == ["-9", "True"]
    assert record(vm) == given
    # Nobody else gets what is left; the guest itself does not see it.
    define(vm, "g", device="/dev/dax9.9")
    define(vm, "h", namespace="web1")
    assert "holds data" in vm.verb("start", "h")["error"]["message"]
    assert ends(vm, device) == "False True"
    vm.one("undefine", "h")
    # Meanwhile the guest was given another place, and the number of the old one has changed.
    vm.host.run(
        "ndctl destroy-namespace -f namespace1.0; ndctl disable-region region1; ndctl enable-region region1; udevadm settle"
    )
    assert chardev(vm, "web1") != device
    define(vm, namespace="store", size="64M")
    vm.one("start", "g")
    assert record(vm) == [f"{uuid(vm, 'store')}+0x0+{64 << 20:#x}"]
    assert ends(vm, chardev(vm, "web1")) == "False False"
    vm.one("stop", "--timeout", "0", "g")
    vm.one("undefine", "g")


UNIT = """set -e
mkdir -p /etc/hostmem /usr/lib/hostmem /etc/systemd/system/hostmem-guest@g.service.d
ln -sfn {place}/lib /usr/lib/hostmem/current
cat >/etc/systemd/system/hostmem-guest@.service <<'END'
{unit}
END
cat >/etc/systemd/system/hostmem-guest@g.service.d/short.conf <<'END'
[Unit]
Upholds=
[Service]
TimeoutStopSec=90
END
cat >/etc/hostmem/config.json <<'END'
{config}
END
systemctl daemon-reload
"""
# On the host: the unit's line that clears stands still for longer than the unit gives it.
STALL = (
    """
import subprocess, time
stop = subprocess.Popen(["systemctl", "stop", "hostmem-guest@g"])
show = lambda what: subprocess.check_output(["systemctl", "show", "--value", "-p", what, "hostmem-guest@g"], text=True).strip()
def clearing():
    while show("SubState") != "stop-post":
        time.sleep(0.2)
    return int(show("ControlPID"))
"""
    + STOPPED
    + """
time.sleep(90)
os.kill(pid, signal.SIGCONT)
stop.wait()
print(any(memory[{last}:]), show("Result"))
"""
)


def unit() -> str:
    """The role's unit, with the role's defaults."""
    role = Path(__file__).resolve().parents[2] / "roles" / "hypervisor"
    values = {**yaml.safe_load((role / "defaults" / "main.yml").read_text()), "hypervisor_library": "/usr/lib/hostmem"}
    values["hypervisor_stop_timeout"] = 0  # the guest knows no ACPI
    template = (role / "templates" / "hostmem-guest@.service.j2").read_text()
    text: str = jinja2.Template(template).render(**values, ansible_managed="a test")
    return text


def test_a_clearing_that_gets_on_is_not_cut_off_by_systemd(vm: VmRuntime) -> None:
    vm.host.run(UNIT.format(place=PLACE, unit=unit(), config=json.dumps({**CONFIG, "manager": "systemd"})))
    define(vm, namespace="web1")
    vm.host.run("systemctl start hostmem-guest@g")
    device = chardev(vm, "web1")
    vm.python(FILL.format(device=device, size=SIZE))
    with clearing_stops_half_way(vm):
        assert vm.python(STALL.format(device=device, size=SIZE, last=LAST)).split() == ["False", "success"]
    assert record(vm) == []


# On the host: the device comes while the unit waits.
LATE = """
import json, subprocess, time
def said(*words):
    return subprocess.run(words, stdout=subprocess.PIPE, text=True).stdout.strip()
def state():
    return said("systemctl", "show", "--value", "-p", "ActiveState", "hostmem-guest@g")
said("ndctl", "disable-namespace", {namespace!r})
asked = said("python3", "-IS", "{place}/lib/bin/hostmem", "start", "g")
said("systemctl", "start", "--no-block", "hostmem-guest@g")
end = time.monotonic() + 300
while state() not in ("active", "failed") and "web1" not in said("journalctl", "-o", "cat", "HOSTMEM_EVENT=waiting"):
    assert time.monotonic() < end
    time.sleep(0.5)
without = state()
said("ndctl", "enable-namespace", {namespace!r})
said("systemctl", "start", "hostmem-guest@g")
print(json.dumps([json.loads(asked)["results"][0]["error"], without, state()]))
"""


def test_a_device_that_comes_late_is_waited_for(vm: VmRuntime) -> None:
    listed = json.loads(vm.host.run("ndctl list -N -r region1"))
    namespace = next(item["dev"] for item in listed if item.get("name") == "web1")
    asked, without, state = json.loads(vm.python(LATE.format(place=PLACE, namespace=namespace)))
    assert "web1" in asked["message"]  # whoever asks is told
    assert (without, state) == ("activating", "active")
    assert vm.one("info", "g")["state"] == "running"
    vm.host.run("systemctl stop hostmem-guest@g")
