# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A second host for one task: modules run on it as on the task's own, by its own connection and variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import become_loader

# What ansible-core keeps in a host's variables for running modules there.
_OF_THE_HOST = ("ansible_python_interpreter", "ansible_remote_tmp", "ansible_async_dir", "inventory_hostname")


class SecondHost:
    """Runs modules on another host of the inventory; the task's ``become`` and user hold there, too."""

    def __init__(self, action: ActionBase, host: str, task_vars: dict[str, Any]) -> None:
        """:raises AnsibleActionFail: the inventory has no such host."""
        if host not in task_vars["hostvars"]:
            raise AnsibleActionFail(f"destination: the inventory has no host {host}.")
        variables = task_vars["hostvars"][host]
        self.variables = {key: value for key, value in task_vars.items() if key not in _OF_THE_HOST}
        self.variables.update({key: variables[key] for key in _OF_THE_HOST if key in variables})
        # A discovered interpreter is kept here.
        self.variables["ansible_facts"] = {}
        self.variables.pop("ansible_delegated_vars", None)
        self.connection = _connection(action, host, variables)
        self.action = type(action)(
            task=action._task,
            connection=self.connection,
            play_context=self.connection._play_context,
            loader=action._loader,
            templar=action._templar,
            shared_loader_obj=action._shared_loader_obj,
        )


def _connection(action: ActionBase, host: str, variables: Mapping[str, Any]) -> Any:
    """As ansible-core makes a task's (TaskExecutor._get_connection() in executor/task_executor.py, 2.19 to 2.21)."""
    context = action._play_context.copy()
    context.remote_addr = str(variables.get("ansible_host", host))
    context.connection = str(variables.get("ansible_connection", constants.DEFAULT_TRANSPORT))
    connection, _found = action._shared_loader_obj.connection_loader.get_with_context(
        context.connection,
        context,
        new_stdin=None,
        task_uuid=action._task._uuid,
        ansible_playbook_pid=str(os.getppid()),
    )
    if connection is None:
        raise AnsibleActionFail(f"destination: there is no connection plugin {context.connection}.")
    keys = {**action._task.dump_attrs(), "timeout": context.timeout}
    keys.pop("retries", None)  # the task's, not the connection's
    if context.password:
        keys["password"] = context.password
    connection.set_options(task_keys=keys, var_options=connection._resolve_option_variables(variables, action._templar))
    _set_options(connection._shell, "shell", variables, keys)
    if action._connection.become is not None:
        become = become_loader.get(action._connection.become._load_name)
        connection.set_become_plugin(become)
        if context.become_pass:
            keys["become_pass"] = context.become_pass
        _set_options(become, "become", variables, keys)
    return connection


def _set_options(plugin: Any, kind: str, variables: Mapping[str, Any], keys: dict[str, Any]) -> None:
    names = constants.config.get_plugin_vars(kind, plugin._load_name)
    plugin.set_options(task_keys=keys, var_options={name: variables[name] for name in names if name in variables})
