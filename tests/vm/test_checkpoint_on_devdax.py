# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest whose RAM is a device-DAX device is saved and restored: its memory has no file, and no place for a mark."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from typing import NamedTuple

import pytest

from support.vm_runtime import VmRuntime
from support.watch import STATUS_OFFSET

SIZE = 64 << 20
MAKE = """set -e
ndctl disable-region region1
ndctl init-labels -f nmem0
ndctl enable-region region1
ndctl create-namespace -f -r region1 -m devdax -a 2M -s 256M
"""
MAP = "import hashlib, mmap, os, struct; m = mmap.mmap(os.open({device!r}, os.O_RDWR), {size}); "
STATUS = f"print(*struct.unpack('<IIQIII', m[{STATUS_OFFSET}:{STATUS_OFFSET + 28}])[1:])"
DIGEST = "print(hashlib.sha256(m).hexdigest())"
CHECKPOINT = "/var/lib/hostmem/g/checkpoint"


class Status(NamedTuple):
    """What the guest keeps in its memory about itself."""

    boots: int
    counter: int
    errors: int
    ready: int
    passes: int


@pytest.fixture(scope="module", name="device")
def fixture_device(vm: VmRuntime) -> str:
    vm.host.run(MAKE)
    path = vm.host.run("ls /dev/dax*")
    # It looks through its memory in some seconds, though it is emulated twice.
    vm.define("g", {"backing": "dax", "device": path}, kernel={"image": "/srv/heartbeat", "cmdline": "16 64 100 10"})
    return path


def held(vm: VmRuntime, device: str, code: str) -> str:
    """What a program on the host makes of the guest's memory, which it maps."""
    return vm.python(MAP.format(device=device, size=SIZE) + code)


def waited(vm: VmRuntime, device: str, condition: Callable[[Status], bool]) -> Status:
    deadline = time.monotonic() + 300
    while not condition(now := Status(*map(int, held(vm, device, STATUS).split()))):
        assert time.monotonic() < deadline, now
        time.sleep(0.5)
    return now


def test_the_memory_is_what_it_was(vm: VmRuntime, device: str) -> None:
    vm.one("start", "g")
    waited(vm, device, lambda now: now.ready == 1)
    saved = vm.one("save", "g")["saved"]
    assert (saved["copied_bytes"], saved["in_place_bytes"]) == (0, SIZE)
    before, content = waited(vm, device, lambda _now: True), held(vm, device, DIGEST)
    vm.one("stop", "g")
    assert held(vm, device, DIGEST) == content
    vm.host.run(f"cp -a {CHECKPOINT} {CHECKPOINT}.copy")
    assert vm.one("restore", "g")["changed"]
    now = waited(vm, device, lambda now: now.counter > before.counter and now.passes > before.passes + 1)
    assert (now.boots, now.errors) == (1, 0)
    assert not vm.one("restore", "g")["changed"]


def test_a_second_load_is_refused(vm: VmRuntime, device: str) -> None:
    """By the tokens of checkpoints that were spent: a copy of the state which somebody puts back loads to no memory."""
    vm.host.run("kill -9 $(cat /run/hostmem/g/pid); sleep 1")
    vm.host.run(f"rm -rf {CHECKPOINT}; mv {CHECKPOINT}.copy {CHECKPOINT}")
    assert "was spent" in vm.verb("restore", "g")["error"]["message"]
    vm.one("discard", "g")
    assert device


def test_what_is_seen_of_others_meanwhile(vm: VmRuntime, device: str) -> None:
    """Who maps the device, and a namespace that was made anew. What somebody wrote who is gone again is not seen: nobody could see it
    without a digest of the whole memory.
    """
    vm.one("start", "g")
    before = waited(vm, device, lambda now: now.ready == 1)
    vm.one("save", "g")
    # Another guest would clear it, or be refused for what it holds.
    other = vm.verb("define", stdin=vm.definition("other", {"backing": "dax", "device": device}))
    assert f"Guest g has {device} already" in other["error"]["message"]
    stay = MAP.format(device=device, size=SIZE) + "import time; time.sleep(600)"
    vm.host.run(f"setsid python3 -c {shlex.quote(stay)} >/dev/null 2>&1 </dev/null & echo $! >/run/mapper; sleep 1")
    assert "is mapped by process" in vm.verb("restore", "g")["error"]["message"]
    vm.host.run("kill -9 $(cat /run/mapper); sleep 1")
    vm.one("restore", "g")
    now = waited(vm, device, lambda now: now.passes > before.passes + 1)
    assert (now.boots, now.errors) == (1, 0)
    vm.one("save", "g")
    vm.host.run(f"ndctl destroy-namespace -f all; {MAKE}")
    assert vm.host.run("ls /dev/dax*") == device
    assert "its namespace is" in vm.verb("restore", "g")["error"]["message"]
    vm.one("discard", "g")
    vm.one("undefine", "g")
