#!/usr/bin/python
# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: runtime
short_description: Install the runtime of this collection on a hypervisor host
version_added: 1.0.0
author: hostmem.qemu authors (@hostmem)
description:
  - Puts the runtime, which starts, updates and stops guests on the host, into a directory of its own under O(path) and points
    the symbolic link C(current) there at it.
  - The runtime is this collection's engine and the Python library C(qemu.qmp), which is taken from the controller's Python.
    The host needs C(/usr/bin/python3) of Python 3.9 or later and no network.
  - Programs that run from another tree keep it. Trees that no program uses any more are removed.
  - The role R(hostmem.qemu.hypervisor, ansible_collections.hostmem.qemu.hypervisor_role) calls this module.
extends_documentation_fragment:
  - hostmem.qemu.attributes
  - hostmem.qemu.attributes.platform
  - hostmem.qemu.attributes.actiongroup_hostmem
  - hostmem.qemu.attributes.full
attributes:
  action:
    description: Indicates this has a corresponding action plugin so some parts of the options can be executed on the controller.
    support: full
options:
  state:
    description:
      - V(present) installs the runtime of this version of the collection.
      - V(absent) removes every runtime. It is refused while a guest runs on the host.
    type: str
    choices: [present, absent]
    default: present
  path:
    description: Directory of the runtimes.
    type: path
    default: /usr/lib/hostmem
  _tree:
    description: Name of the runtime to install. Set by the action plugin, not by users.
    type: str
  _archive:
    description: The runtime's files on the host. Set by the action plugin, not by users.
    type: path
requirements:
  - qemu.qmp >= 0.0.5 on the controller
  - Python >= 3.9 as /usr/bin/python3 on the host
seealso:
  - module: hostmem.qemu.guest
"""

EXAMPLES = r"""
- name: Install the runtime
  hostmem.qemu.runtime:

- name: Remove the runtime
  hostmem.qemu.runtime:
    state: absent
"""

RETURN = r"""
current:
  description: Directory of the runtime that is used from now on.
  returned: O(state=present)
  type: str
  sample: /usr/lib/hostmem/1.0.0-f6ac2b02c7e1
kept:
  description: Names of older runtimes that stay, as programs still run from them.
  returned: success
  type: list
  elements: str
  sample: []
removed:
  description: Names of older runtimes that were removed.
  returned: success
  type: list
  elements: str
  sample: [1.0.0-0d5b2e88c35a]
"""

import os
import shutil
import tarfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._guest.config import DEFAULT_PATH
from ..module_utils._guest.generations import running_guests
from ..module_utils._host.files import read_json
from ..module_utils._host.trees import in_use, read_tree, remove_tree, tree_digest, write_tree

# What the tree's launcher runs with, whatever Python Ansible uses.
PYTHON = "/usr/bin/python3"
OLDEST_PYTHON = (3, 9)
LINK = "current"
DEFAULT_RUN = "/run/hostmem"


class Runtimes:
    """The directory of runtimes on this host."""

    def __init__(self, module: AnsibleModule) -> None:
        self._module = module
        self._path: str = module.params["path"]
        self._link = os.path.join(self._path, LINK)

    def trees(self) -> list[str]:
        """Names of all runtimes."""
        try:
            names = os.listdir(self._path)
        except FileNotFoundError:
            return []
        return sorted(name for name in names if name != LINK and not name.startswith("."))

    def current(self) -> str:
        """Name of the runtime in use; empty without one."""
        try:
            return os.path.basename(os.readlink(self._link))
        except OSError:
            return ""

    def whole(self, tree: str) -> bool:
        """True when the tree has exactly the content that its name promises, compiled for the host's Python."""
        directory = os.path.join(self._path, tree)
        if tree_digest(read_tree(directory)) != tree.rpartition("-")[2]:
            return False
        cached = os.path.join(directory, "hostmem", "_guest", "__pycache__", f"cli.{self.python_tag()}.pyc")
        return os.path.exists(cached)

    def python_tag(self) -> str:
        """The host's Python, as in names of compiled files; fails where it is missing or too old."""
        program = "import sys; print(sys.implementation.cache_tag, *sys.version_info[:2])"
        status, output, errors = self._module.run_command([PYTHON, "-IS", "-c", program])
        if status != 0:
            self._module.fail_json(msg=f"The runtime needs {PYTHON} on the host: {errors.strip()}")
        tag, *version = output.split()
        if tuple(int(part) for part in version) < OLDEST_PYTHON:
            self._module.fail_json(msg=f"{PYTHON} is Python {'.'.join(version)}; the runtime needs 3.9 or later.")
        return str(tag)

    def install(self, tree: str, archive: str) -> None:
        """Unpack and compile beside the trees in use, then put it into place at once."""
        made = os.path.join(self._path, f".{tree}.new")
        target = os.path.join(self._path, tree)
        if not os.path.isdir(self._path):
            os.makedirs(self._path, 0o755)
            os.chmod(self._path, 0o755)
        shutil.rmtree(made, ignore_errors=True)
        files = unpack(archive)
        if tree_digest(files) != tree.rpartition("-")[2]:
            self._module.fail_json(msg="The runtime's archive did not arrive whole.")
        write_tree(made, files)
        self._compile(made, target)
        if os.path.isdir(target) and not remove_tree(target):
            self._module.fail_json(
                msg=f"{target} is damaged, and programs run from it. Try again when they have ended."
            )
        os.rename(made, target)

    def _compile(self, made: str, target: str) -> None:
        """The trees never change, so compiled files need not be checked against their sources at each start."""
        words = [PYTHON, "-IS", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
        status, output, errors = self._module.run_command([*words, "-s", made, "-p", target, made], umask=0o022)
        if status != 0:
            self._module.fail_json(msg=f"The runtime cannot be compiled: {output}{errors}")

    def switch(self, tree: str) -> None:
        """Point ``current`` at the tree."""
        temporary = f"{self._link}.new"
        if os.path.lexists(temporary):
            os.unlink(temporary)
        os.symlink(tree, temporary)
        os.rename(temporary, self._link)

    def remove_others(self, wanted: str) -> tuple[list[str], list[str]]:
        """Names of the removed and of the kept ones."""
        removed: list[str] = []
        kept: list[str] = []
        for tree in self.trees():
            if tree == wanted:
                continue
            directory = os.path.join(self._path, tree)
            gone = not in_use(directory) if self._module.check_mode else remove_tree(directory)
            (removed if gone else kept).append(tree)
        return removed, kept

    def remove(self) -> None:
        """The link and, when it is empty by now, the directory."""
        for name in os.listdir(self._path):
            path = os.path.join(self._path, name)
            if os.path.islink(path):
                os.unlink(path)
            elif name.startswith("."):
                shutil.rmtree(path)
        os.rmdir(self._path)


def unpack(archive: str) -> dict[str, bytes]:
    """The files of the controller's archive."""
    files = {}
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is not None:
                files[member.name] = content.read()
    return files


def run_directory() -> str:
    """Where the guests' run directories are on this host."""
    try:
        config = read_json(DEFAULT_PATH)
    except ValueError:
        config = None
    return str(config.get("run", DEFAULT_RUN)) if isinstance(config, dict) else DEFAULT_RUN


def present(module: AnsibleModule, runtimes: Runtimes) -> dict[str, Any]:
    """Install what is missing."""
    wanted: str = module.params["_tree"]
    before = {"current": runtimes.current(), "trees": runtimes.trees()}
    whole = runtimes.whole(wanted)
    if not whole and not module.check_mode:
        if not module.params["_archive"]:
            return {"changed": True, "needs_archive": True}
        runtimes.install(wanted, module.params["_archive"])
    if before["current"] != wanted and not module.check_mode:
        runtimes.switch(wanted)
    removed, kept = runtimes.remove_others(wanted)
    after = {"current": wanted, "trees": sorted({*kept, wanted})}
    return {
        "changed": not whole or before != after,
        "current": os.path.join(module.params["path"], wanted),
        "removed": removed,
        "kept": kept,
        "diff": {"before": before, "after": after},
    }


def absent(module: AnsibleModule, runtimes: Runtimes) -> dict[str, Any]:
    """Remove all, unless something needs them."""
    running = running_guests(run_directory())
    if running:
        module.fail_json(msg=f"Guests run on this host and need the runtime: {', '.join(running)}. Stop them first.")
    before = {"current": runtimes.current(), "trees": runtimes.trees()}
    if not os.path.isdir(module.params["path"]):
        return {"changed": False, "removed": [], "kept": [], "diff": {"before": before, "after": before}}
    removed, kept = runtimes.remove_others("")
    if kept:
        module.fail_json(
            msg=f"Programs of the runtime run on this host (from {', '.join(kept)}). Try again when they have ended."
        )
    if not module.check_mode:
        runtimes.remove()
    after = {"current": "", "trees": []}
    return {"changed": True, "removed": removed, "kept": kept, "diff": {"before": before, "after": after}}


def main() -> None:
    """Read the options and run."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "path": {"type": "path", "default": "/usr/lib/hostmem"},
            "_tree": {"type": "str"},  # both set by the action plugin
            "_archive": {"type": "path"},
        },
        supports_check_mode=True,
    )
    if not module.params["_tree"]:
        module.fail_json(msg="The runtime's files come from the controller: call hostmem.qemu.runtime by this name.")
    work = absent if module.params["state"] == "absent" else present
    try:
        result = work(module, Runtimes(module))
    except OSError as error:
        module.fail_json(msg=f"The runtime cannot be changed: {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
