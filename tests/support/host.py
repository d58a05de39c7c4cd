# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host of its own for engine tests: the real runtime tree, its own directories, a QEMU "package" that can be upgraded."""

from __future__ import annotations

import functools
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.definition import parse_definition
from ansible_collections.hostmem.qemu.plugins.plugin_utils._render import render_argv
from ansible_collections.hostmem.qemu.plugins.plugin_utils._runtime_tree import write_tree
from support.qmp import QmpSession

CACHE = Path(os.environ.get("HOSTMEM_CACHE", "/var/cache/hostmem-tests"))
QEMU_TREES = CACHE / "qemu"
HEARTBEAT = CACHE / "guests" / "heartbeat"
USER = "hostmem-test"
MACHINE = "pc-q35-10.0"
PYTHON = "/usr/bin/python3"


@functools.cache
def _compiled_tree() -> tempfile.TemporaryDirectory[str]:
    """The runtime with its byte code, which is trusted as long as its sources keep their times; of the interpreter that runs it."""
    tree = tempfile.TemporaryDirectory(prefix="hm")
    os.chmod(tree.name, 0o755)
    write_tree(tree.name)
    subprocess.run([PYTHON, "-IS", "-m", "compileall", "-q", tree.name], check=True)
    return tree


def ensure_user() -> None:
    """The unprivileged user that the tests' QEMUs run as."""
    try:
        pwd.getpwnam(USER)
    except KeyError:
        subprocess.run(
            ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", USER],
            check=True,
        )


class Host:
    """Directories, configuration, runtime and QEMU of one test."""

    def __init__(self, root: Path, version: str = "10.0") -> None:
        ensure_user()
        self.root = root
        self.memory = Path("/dev/shm") / f"hostmem-test-{root.name}"
        self.tree = root / "lib"
        self.tree.mkdir(mode=0o755)
        os.chmod(root, 0o755)
        shutil.copytree(_compiled_tree().name, self.tree, dirs_exist_ok=True)
        self.config = root / "config.json"
        self.settings: dict[str, Any] = {
            "schema": 1,
            "manager": "direct",
            "user": USER,
            "group": USER,
            "parallel": 2,
            **{name: str(root / name) for name in ("definitions", "run", "log", "state")},
        }
        self.configure()
        self.names: list[str] = []
        self.install(version)

    def configure(self, **changes: Any) -> None:
        """Change the runtime's configuration."""
        self.settings.update(changes)
        self.config.write_text(json.dumps(self.settings))

    # --- the QEMU "package"

    @property
    def qemu(self) -> str:
        return str(self.root / "qemu" / "usr" / "bin" / "qemu-system-x86_64")

    def install(self, version: str) -> None:
        """Make this version the installed one, by a rename as dpkg does; running QEMUs keep theirs."""
        new = self.root / "qemu.new"
        new.symlink_to(QEMU_TREES / version)
        new.rename(self.root / "qemu")

    def install_file(self, content: str) -> None:
        """Install something else than a QEMU under its path."""
        fake = self.root / f"fake-{time.monotonic_ns()}"
        (fake / "usr" / "bin").mkdir(parents=True)
        program = fake / "usr" / "bin" / "qemu-system-x86_64"
        program.write_text(content)
        program.chmod(0o755)
        new = self.root / "qemu.new"
        new.symlink_to(fake)
        new.rename(self.root / "qemu")

    # --- guests

    def heartbeat(self, name: str, size: str = "64M", hertz: int = 1000, **changes: Any) -> dict[str, Any]:
        """A definition of the heartbeat guest."""
        mebibytes = 16
        definition: dict[str, Any] = {
            "name": name,
            "qemu": self.qemu,
            "machine": MACHINE,
            "accel": "tcg",
            "cpu": {"model": "qemu64", "count": 1},
            "memory": {
                "blocks": [{"id": "ram0", "size": size, "backing": "tmpfs", "directory": str(self.memory / name)}]
            },
            "consoles": [{"id": "c0", "type": "serial", "to": "log"}],
            "kernel": {"image": str(HEARTBEAT), "cmdline": f"{mebibytes} 20 {hertz}"},
        }
        definition.update(changes)
        return definition

    def define(self, definition: dict[str, Any]) -> dict[str, Any]:
        """Render and keep a definition."""
        argv = render_argv(parse_definition(definition))
        if definition["name"] not in self.names:
            self.names.append(definition["name"])
        return self.one("define", stdin=json.dumps({"definition": definition, "argv": argv}))

    def start(self, definition: dict[str, Any]) -> dict[str, Any]:
        """Define and start a guest; wait until its memory is filled."""
        self.define(definition)
        return self.one("start", definition["name"])

    def command(self, *words: str) -> list[str]:
        return [PYTHON, "-IS", str(self.tree / "bin" / "hostmem"), "--config", str(self.config), *words]

    def run(self, *words: str, stdin: str = "") -> list[dict[str, Any]]:
        """Run a verb; its results, whatever they are."""
        done = subprocess.run(
            self.command(*words), input=stdin, capture_output=True, text=True, timeout=300, check=False
        )
        if not done.stdout.strip():
            raise AssertionError(f"hostmem {' '.join(words)} ended with {done.returncode} and said: {done.stderr}")
        answer = json.loads(done.stdout)
        if "error" in answer:
            raise AssertionError(answer["error"])
        if done.stderr:
            print(done.stderr, file=sys.stderr)
        results: list[dict[str, Any]] = answer["results"]
        return results

    def one(self, *words: str, stdin: str = "") -> dict[str, Any]:
        """Run a verb for one guest, which must succeed."""
        result = self.run(*words, stdin=stdin)[0]
        if not result["ok"]:
            raise AssertionError(result["error"])
        return result

    def refused(self, *words: str) -> dict[str, Any]:
        """Run a verb for one guest, which must fail; its error."""
        result = self.run(*words)[0]
        if result["ok"]:
            raise AssertionError(f"hostmem {' '.join(words)} succeeded: {result}")
        error: dict[str, Any] = result["error"]
        return error

    def info(self, name: str) -> dict[str, Any]:
        return self.one("info", name)

    def ram_file(self, name: str) -> Path:
        """The file of a guest's first memory block."""
        return Path(self.info(name)["layout"][0]["path"])

    def qmp(self, name: str) -> QmpSession:
        """A QMP session of our own with the current QEMU (it serves one client at a time: close it)."""
        return QmpSession(Path(self.settings["run"]) / name / "current" / "qmp.sock")

    def qemu_pids(self, name: str) -> list[int]:
        """All processes that have this guest's run directory on their command line: the kernel's word."""
        wanted = f"{self.settings['run']}/{name}/gen-".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if wanted in words and b"qemu-system" in words.split(b"\0")[0]:
                    found.append(int(entry.name))
        return sorted(found)

    def clean(self) -> None:
        """Whatever the test left."""
        for name in self.names:
            for pid in self.qemu_pids(name):
                os.kill(pid, 9)
        for name in self.names:
            self.run("undefine", name)
        shutil.rmtree(self.memory, ignore_errors=True)
