# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The power of a real host is cut while its guest, with RAM on DAX, runs, is saved, lies saved, and is restored.

What the host's kernel had not written is gone. Its CPU has no caches here, and its NVDIMM keeps every store.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from typing import NamedTuple

import pytest

from support.engine import AT_FUNCTION
from support.vm_runtime import PLACE, VmRuntime
from support.watch import STATUS_OFFSET

RAM = "/srv/pm/g/qemu_back_mem.0+4000000.ram0"
ENGINE = f"{PLACE}/lib/hostmem"
PREPARE = """set -e
ndctl disable-region region1
ndctl init-labels -f nmem0
ndctl enable-region region1
ndctl create-namespace -f -r region1 -m fsdax -a 2M -s 512M -n guests
mkfs.ext4 -q -b 4096 /dev/$(BLOCKDEV)
"""
# After a boot it comes later than SSH.
BLOCKDEV = """for i in $(seq 300); do
  name=$(ndctl list -N -r region1 -m fsdax | sed -n 's/.*"blockdev":"\\([^"]*\\)".*/\\1/p')
  test -b "/dev/$name" && break
  sleep 0.2
done
echo $name"""
STATUS = f"import os, struct; print(*struct.unpack('<IIQIII', os.pread(os.open({RAM!r}, os.O_RDONLY), 28, {STATUS_OFFSET}))[1:])"
# The runtime stops itself where the test says, as if the power went there.
HANG = "os.kill(os.getpid(), 19)"


class Status(NamedTuple):
    """What the guest keeps in its memory about itself."""

    boots: int
    counter: int
    errors: int
    ready: int
    passes: int


def status(vm: VmRuntime) -> Status:
    """By the file, whoever maps it."""
    return Status(*map(int, vm.python(STATUS).split()))


@pytest.fixture(scope="module", name="guest")
def fixture_guest(vm: VmRuntime) -> VmRuntime:
    vm.host.run(PREPARE.replace("BLOCKDEV", BLOCKDEV))
    mount(vm)
    block = {"backing": "dax", "directory": "/srv/pm/g", "pmem": True}
    # It looks through its memory in some seconds, though it is emulated twice.
    kernel = {"image": "/srv/heartbeat", "cmdline": "16 64 100 10"}
    vm.define("g", block, on_host_shutdown="save", kernel=kernel)
    vm.host.run(f"cp -a {ENGINE} {ENGINE}.whole; sync")
    return vm


def mount(vm: VmRuntime) -> None:
    vm.host.run(f"mkdir -p /srv/pm && mount -o dax=always /dev/$({BLOCKDEV}) /srv/pm")


def cut(vm: VmRuntime) -> None:
    boot = vm.host.boot_id()
    vm.host.power_cut()
    vm.host.wait(not_boot=boot)
    mount(vm)


def started(vm: VmRuntime) -> Status:
    """A guest that was started anew, once its memory is filled."""
    assert vm.one("start", "g")["how"] == "started"
    return waited(vm, lambda now: now.ready == 1)


def waited(vm: VmRuntime, condition: Callable[[Status], bool]) -> Status:
    deadline = time.monotonic() + 400
    while not condition(now := status(vm)):
        assert time.monotonic() < deadline, now
        time.sleep(0.5)
    return now


def went_on(vm: VmRuntime, before: Status) -> None:
    """The guest is the one it was: its first boot, its counter and its whole memory as it left them."""
    now = waited(vm, lambda now: now.counter > before.counter and now.passes > before.passes + 1)
    assert (now.boots, now.errors) == (1, 0)


def cut_in(vm: VmRuntime, file: str, name: str, verb: str) -> None:
    """Cut the power while a verb stands right after a function."""
    vm.host.run(
        f"printf %s {shlex.quote(AT_FUNCTION.format(function=name, act=HANG, when='after'))} >> {ENGINE}/_guest/{file}; rm -rf {ENGINE}/_guest/__pycache__"
    )
    command = f"python3 -IS {PLACE}/lib/bin/hostmem --config {PLACE}/config.json {verb} g"
    vm.host.run(
        f"setsid {command} >/dev/null 2>&1 </dev/null & for i in $(seq 600); do grep -qs '^State:.T' /proc/[0-9]*/status && exit 0; sleep 0.1; done; exit 1"
    )
    cut(vm)
    vm.host.run(f"rm -rf {ENGINE}; cp -a {ENGINE}.whole {ENGINE}")


def refused(vm: VmRuntime, text: str) -> None:
    for verb in ("start", "restore"):
        result = vm.verb(verb, "g")
        assert not result["ok"], result
    assert text in vm.verb("start", "g")["error"]["message"]


def given_up(vm: VmRuntime) -> None:
    assert vm.one("discard", "g")["changed"]


def test_while_the_guest_runs(guest: VmRuntime) -> None:
    """Memory without device state: said so, and started anew only when asked for."""
    started(guest)
    cut(guest)
    refused(guest, "ran when its host went down, and had not been saved")
    given_up(guest)


def test_while_it_is_saved(guest: VmRuntime) -> None:
    started(guest)
    cut_in(guest, "save.py", "sha256_of", "save")
    assert guest.one("info", "g")["state"] == "stopped"
    refused(guest, "ran when its host went down, and had not been saved")
    given_up(guest)


def test_when_it_is_saved(guest: VmRuntime) -> None:
    """Between the end of the save and a shutdown that never came."""
    started(guest)
    guest.one("save", "g")
    before = status(guest)
    cut(guest)
    assert guest.one("info", "g")["checkpoint"]["restorable"]
    assert guest.one("start", "g")["how"] == "restored"
    went_on(guest, before)


def test_while_it_is_restored(guest: VmRuntime) -> None:
    """Before the guest may run: it is still saved."""
    guest.one("save", "g")
    before = status(guest)
    cut_in(guest, "restore.py", "prepare_current", "restore")
    assert guest.one("restore", "g")["asleep_seconds"] > 1
    went_on(guest, before)


def test_when_it_may_have_run(guest: VmRuntime) -> None:
    """Right after the state was spent: nobody can tell any more whether it fits the memory."""
    guest.one("save", "g")
    cut_in(guest, "checkpoint_store.py", "rename_durably", "restore")
    refused(guest, "may have run since")
    given_up(guest)
    assert started(guest).boots == 1
    guest.one("stop", "--timeout", "0", "g")
    guest.one("undefine", "g")
