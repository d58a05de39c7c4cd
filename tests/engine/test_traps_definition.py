# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What would make a later live update impossible is refused when it is defined, while the guest runs on undisturbed."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.definition import parse_definition
from ansible_collections.hostmem.qemu.plugins.plugin_utils._render import render_argv
from support.engine import EngineHost
from support.sound import refuses, undisturbed


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[EngineHost, Any]]:
    """One guest for all tests here: none of them may change it."""
    host = EngineHost(Path(tempfile.mkdtemp(prefix="hm", dir="/tmp")))
    try:
        yield host, host.boot("g")
    finally:
        host.clean()


ARGUMENTS = {
    "forwarded port": (["-netdev", "user,id=n,hostfwd=tcp:127.0.0.1:5022-:22"], "forwards a port"),
    "tap of one's own": (["-netdev", "tap,id=n,ifname=t0"], "use nics"),
    "VNC on a port": (["-vnc", ":1"], "use vnc"),
    "NVMe": (["-device", "nvme,serial=1"], "cannot be migrated"),
    "socket at a fixed path": (
        ["-chardev", "socket,id=c,path=/tmp/s,server=on,wait=off"],
        "put it under @generation@/",
    ),
    "socket on a port": (["-chardev", "socket,id=c,port=7777,server=on,wait=off"], "two QEMUs cannot hold at once"),
    "log that is truncated": (["-chardev", "file,id=c,path=/tmp/l"], "add append=on"),
    "serial port to a file": (["-serial", "file:/tmp/l"], "may name only chardev:ID"),
    "disk that is not followed": (["-drive", "file=/tmp/d,if=virtio"], "use disks"),
    "temporary disk": (["-snapshot"], "is not known to survive"),
    "memory backend": (["-object", "memory-backend-ram,id=x,size=1M"], "use memory.blocks"),
    "memory path": (["-mem-path", "/dev/shm"], "use memory.blocks"),
    "memory device": (["-device", "pc-dimm,memdev=x"], "use memory.blocks"),
    "monitor": (["-qmp", "unix:/tmp/q,server=on"], "belongs to the runtime"),
    "daemon": (["-daemonize"], "belongs to the runtime"),
    "incoming": (["-incoming", "defer"], "belongs to the runtime"),
    "sandbox": (["-sandbox", "off"], "belongs to the runtime"),
    "machine": (["-machine", "q35"], "use machine and accel"),
}

DEFINITIONS: dict[str, tuple[dict[str, Any], str]] = {
    "alias of a machine": ({"machine": "q35"}, "is an alias or has no version"),
    "single queue": ({"nics": [{"id": "n0", "mac": "52:54:00:00:00:01", "bridge": "b", "queues": 0}]}, "queues"),
    "private memfd": (
        {"memory": {"blocks": [{"size": "64M", "backing": "memfd", "mmap": "private"}]}},
        "costs the memory twice",
    ),
    "private tmpfs": (
        {"memory": {"blocks": [{"size": "64M", "backing": "tmpfs", "mmap": "private"}]}},
        "costs the memory twice",
    ),
    "private prealloc": (
        {
            "memory": {
                "blocks": [{"size": "64M", "backing": "file", "directory": "/x", "mmap": "private", "prealloc": True}]
            }
        },
        "copies every page",
    ),
}

ALTERED = {
    "discard-data": ("prealloc=off", "prealloc=off,discard-data=on", "discard-data"),
    "no reservation": ("prealloc=off", "prealloc=off,reserve=off", "reserve"),
    "read-only": ("prealloc=off", "prealloc=off,readonly=on", "readonly"),
    "auxiliary memory not shared": ("aux-ram-share=on", "aux-ram-share=off", "aux-ram-share"),
    "memory backend forgotten": ("memory-backend=ram0,", "", "memory-backend"),
    "console log truncated": ("append=on", "append=off", "append"),
    "not only what migrates": ("-only-migratable\n", "", "only-migratable"),
}


def refuse(running: tuple[EngineHost, Any], definition: dict[str, Any], argv: list[str], *texts: str) -> None:
    host, page = running
    with undisturbed(host, "g", page):
        result = host.run("define", stdin=json.dumps({"definition": definition, "argv": argv}))[0]
        assert not result["ok"]
        refuses(result["error"], *texts)
    assert not host.info("g")["definition_pending"]


def rendered(definition: dict[str, Any]) -> list[str]:
    return render_argv(parse_definition(definition))


@pytest.mark.parametrize("case", ARGUMENTS)
def test_arguments(running: tuple[EngineHost, Any], case: str) -> None:
    words, text = ARGUMENTS[case]
    definition = running[0].heartbeat("g", arguments=words)
    refuse(running, definition, rendered(running[0].heartbeat("g")), "arguments[4]", text)


@pytest.mark.parametrize("case", DEFINITIONS)
def test_definitions(running: tuple[EngineHost, Any], case: str) -> None:
    changes, text = DEFINITIONS[case]
    definition = running[0].heartbeat("g", **changes)
    refuse(running, definition, rendered(running[0].heartbeat("g")), text)


@pytest.mark.parametrize("case", ALTERED)
def test_templates(running: tuple[EngineHost, Any], case: str) -> None:
    old, new, text = ALTERED[case]
    definition = running[0].heartbeat("g")
    argv = "\n".join(rendered(definition))
    assert argv.count(old) == 1
    refuse(running, definition, argv.replace(old, new).split("\n"), "argv", text)
