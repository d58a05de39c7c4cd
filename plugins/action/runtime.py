# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Puts the runtime's tree together on the controller and sends it to hosts that lack it."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.hostmem.qemu.plugins.plugin_utils._runtime_tree import runtime_files, tree_name


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """The module does the work on the host; it is asked first whether it needs the files at all."""

    _requires_connection = True
    TRANSFERS_FILES = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module, and once more with the archive when it asks for it."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        try:
            files = runtime_files()
        except ModuleNotFoundError as error:
            raise AnsibleActionFail(str(error)) from error
        arguments = {**self._task.args, "_tree": tree_name(files)}
        answer = self._ask(arguments, task_vars)
        if answer.pop("needs_archive", False) and not answer.get("failed"):
            try:
                arguments["_archive"] = self._send(archive(files))
                answer = self._ask(arguments, task_vars)
                answer.pop("needs_archive", None)
            finally:
                self._remove_tmp_path(self._connection._shell.tmpdir)
        result.update(answer)
        return result

    def _ask(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(
            module_name="hostmem.qemu.runtime", module_args=arguments, task_vars=task_vars
        )
        return answer

    def _send(self, content: bytes) -> str:
        """One transfer; the file's path on the host."""
        if self._connection._shell.tmpdir is None:
            self._make_tmp_path()
        target = self._connection._shell.join_path(self._connection._shell.tmpdir, "runtime.tar.gz")
        with tempfile.NamedTemporaryFile(prefix="hostmem-") as local:
            local.write(content)
            local.flush()
            self._transfer_file(local.name, target)
        self._fixup_perms2((self._connection._shell.tmpdir, target))
        return str(target)


def archive(files: dict[str, bytes]) -> bytes:
    """A compressed tar of the files, in their order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=6) as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(os.path.normpath(path))
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
