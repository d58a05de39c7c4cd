# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runtime on a test host that is a virtual machine."""

from __future__ import annotations

import json
import shlex
import tarfile
from pathlib import Path
from typing import Any

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.definition import parse_definition
from ansible_collections.hostmem.qemu.plugins.plugin_utils._render import render_argv
from ansible_collections.hostmem.qemu.plugins.plugin_utils._runtime_tree import write_tree
from support.host import HEARTBEAT
from support.vm_host import VmHost

PLACE = "/srv/test"
CONFIG = {
    "schema": 1,
    "manager": "direct",
    "user": "hostmem",
    "group": "hostmem",
    "parallel": 1,
    "definitions": "/etc/hostmem/guests",
    "run": "/run/hostmem",
    "log": "/var/log/hostmem",
    "state": "/var/lib/hostmem",
}


class VmRuntime:
    """The runtime's verbs on the virtual machine."""

    def __init__(self, host: VmHost) -> None:
        self.host = host

    def install(self, directory: Path) -> None:
        """Bring the runtime, its user and a guest's kernel to the host."""
        (directory / "lib").mkdir()
        write_tree(str(directory / "lib"))
        (directory / "config.json").write_text(json.dumps(CONFIG))
        archive = directory / "runtime.tar"
        with tarfile.open(archive, "w") as tar:
            for name in ("lib", "config.json"):
                tar.add(directory / name, name)
        self.host.push([str(archive), str(HEARTBEAT)], "/srv/")
        self.host.run(f"useradd --system --user-group hostmem; mkdir -p {PLACE}; tar -xmf /srv/runtime.tar -C {PLACE}")

    def verb(self, *words: str, stdin: str = "") -> dict[str, Any]:
        """One verb for one guest; its result, whatever it is."""
        command = f"python3 -IS {PLACE}/lib/bin/hostmem --config {PLACE}/config.json {shlex.join(words)}"
        said = self.host.run(f"printf %s {shlex.quote(stdin)} | {command}", check=False)
        result: dict[str, Any] = json.loads(said)["results"][0]
        return result

    def one(self, *words: str) -> dict[str, Any]:
        """A verb that must succeed."""
        result = self.verb(*words)
        assert result["ok"], result
        return result

    def define(self, name: str, block: dict[str, Any], **changes: Any) -> None:
        """A heartbeat guest."""
        result = self.verb("define", stdin=self.definition(name, block, **changes))
        assert result["ok"], result

    def definition(self, name: str, block: dict[str, Any], **changes: Any) -> str:
        """What the verb define reads."""
        definition = {
            "name": name,
            "machine": "pc-q35-10.0",
            "accel": "tcg",
            "cpu": {"model": "qemu64"},
            "memory": {"blocks": [{"size": "64M", **block}]},
            "consoles": [{"id": "c0"}],
            "kernel": {"image": "/srv/heartbeat", "cmdline": "16 2 100 10"},
            **changes,
        }
        return json.dumps({"definition": definition, "argv": render_argv(parse_definition(definition))})

    def python(self, code: str) -> str:
        """What a program on the host prints."""
        return self.host.run(f"python3 -c {shlex.quote(code)}").strip()
