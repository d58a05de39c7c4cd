# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runtime's tree for hosts: this collection's engine and the pure-Python library qemu.qmp, put together on the controller."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator

from ..module_utils._guest.version import VERSION
from ..module_utils._host.trees import tree_digest

_MODULE_UTILS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "module_utils")
# Not for hosts: the GPL-2.0-only legacy interface, and the interactive shells with their dependencies.
_LEFT_OUT = ("legacy.py", "qmp_shell.py", "qmp_tui.py")

# -I: nothing from the environment or the current directory. -S: the tree needs no site-packages, and starts faster.
# The shared lock says that a program runs from the tree; whoever removes an old tree holds it exclusively.
# The program lives for one verb: to collect garbage, and to take all modules apart at the end, would take a quarter of its start.
LAUNCHER = """#!/usr/bin/python3 -IS
import fcntl
import gc
import os
import sys

gc.disable()

tree = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
lock = os.open(tree, os.O_RDONLY | os.O_CLOEXEC)
fcntl.flock(lock, fcntl.LOCK_SH)
if not os.path.isdir(tree):
    os.execv(sys.argv[0], sys.argv)
sys.path.insert(0, tree)

from hostmem._guest.cli import main

status = main()
sys.stdout.flush()
os._exit(status)
"""


def runtime_files() -> dict[str, bytes]:
    """Every file of the tree by its relative path.

    :raises ModuleNotFoundError: qemu.qmp is not installed on the controller.
    """
    files = {"bin/hostmem": LAUNCHER.encode(), "hostmem/__init__.py": b""}
    for package in ("_host", "_guest"):
        for name, content in _python_files(os.path.join(_MODULE_UTILS, package)):
            files[f"hostmem/{package}/{name}"] = content
    for name, content in _python_files(_qmp_directory()):
        if name not in _LEFT_OUT:
            files[f"qemu/qmp/{name}"] = content
    return dict(sorted(files.items()))


def tree_name(files: dict[str, bytes]) -> str:
    """VERSION-DIGEST: another content is another tree, so that running programs keep theirs."""
    return f"{VERSION}-{tree_digest(files)}"


def write_tree(directory: str) -> None:
    """Put the files under an existing directory."""
    for path, content in runtime_files().items():
        target = os.path.join(directory, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as file:
            file.write(content)
        os.chmod(target, 0o755 if path.startswith("bin/") else 0o644)


def _python_files(directory: str) -> Iterator[tuple[str, bytes]]:
    for name in sorted(os.listdir(directory)):
        if name.endswith(".py"):
            with open(os.path.join(directory, name), "rb") as file:
                yield name, file.read()


def _qmp_directory() -> str:
    spec = importlib.util.find_spec("qemu.qmp")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("qemu.qmp is not installed on the controller: pip install 'qemu.qmp>=0.0.5'")
    return os.path.dirname(spec.origin)
