# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signs a host's public key by the authority on the controller; the module makes the key, judges, and puts files into place."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.hostmem.qemu.plugins.module_utils._host.errors import HostmemError
from ansible_collections.hostmem.qemu.plugins.module_utils._host.host_names import host_name
from ansible_collections.hostmem.qemu.plugins.plugin_utils._authority import (
    Authority,
    AuthorityError,
    find_authority,
    make_authority,
    sign,
)
from ansible_collections.hostmem.qemu.plugins.plugin_utils._plain import plain

DEFAULT_VALIDITY = 730


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """The module is asked first whether it wants a certificate at all."""

    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module, and once more with a certificate when it asks for one."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments: dict[str, Any] = {**self._task.args}
        place = arguments.pop("authority", None)
        if arguments.get("state", "present") != "present":
            result.update(self._ask(arguments, task_vars))
            return result
        if not place:
            raise AnsibleActionFail("authority is needed with state=present: a directory on the controller.")
        try:
            result.update(self._present(self._loader.path_dwim(str(place)), arguments, task_vars))
        except (AuthorityError, HostmemError) as error:
            raise AnsibleActionFail(str(error)) from error
        return result

    def _present(self, place: str, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        found = find_authority(place)
        answer = self._ask({**arguments, "_authority": found.pem if found else ""}, task_vars)
        public_key = answer.pop("public_key", None)
        if not public_key or answer.get("failed"):
            return answer
        authority = found or make_authority(place)
        signed = self._sign(authority, public_key, arguments)
        return self._ask({**arguments, "_authority": authority.pem, "_certificate": signed}, task_vars)

    @staticmethod
    def _sign(authority: Authority, public_key: str, arguments: dict[str, Any]) -> str:
        """For the names of the task, whatever the host would like to be called."""
        given = plain(arguments["names"])
        names = {host_name(name.strip()) for name in (given.split(",") if isinstance(given, str) else map(str, given))}
        return sign(authority, public_key, sorted(names), int(arguments.get("validity", DEFAULT_VALIDITY)))

    def _ask(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(
            module_name="hostmem.qemu.move_credentials", module_args=arguments, task_vars=task_vars
        )
        return answer
