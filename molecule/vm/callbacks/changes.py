# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles' tasks change, or in check mode would change: one line of JSON for each item, as it is done."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from ansible import context
from ansible.plugins.callback import CallbackBase

if TYPE_CHECKING:
    from ansible.executor.task_result import CallbackTaskResult
    from ansible.playbook import Playbook

DOCUMENTATION = """
name: changes
type: aggregate
short_description: Record what roles change
description:
  - "Appends to C(changes.jsonl) in C($MOLECULE_EPHEMERAL_DIRECTORY): playbook, whether it was a check, what was changed, diff, and warnings."
requirements:
  - enabled in the configuration
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Only tasks of roles: a scenario's own change things, too."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "changes"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_start(self, playbook: Playbook) -> None:
        """The name of what is run."""
        self._playbook = os.path.basename(playbook._file_name)

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        """A task without a loop."""
        if not result.task.loop:
            self._record(result)

    def v2_runner_item_on_ok(self, result: CallbackTaskResult) -> None:
        """One item of a loop."""
        self._record(result)

    def _record(self, result: CallbackTaskResult) -> None:
        if not result.result.get("changed") or " : " not in result.task.get_name():
            return
        line = {
            "playbook": self._playbook,
            "check": bool(context.CLIARGS["check"]),
            "what": f"{result.host.get_name()}: {result.task.get_name()}: {result.result.get('_ansible_item_label', '')}",
            "diff": result.result.get("diff"),
            "warnings": [str(text) for text in result.result.get("warnings", [])],
        }
        with open(f"{os.environ['MOLECULE_EPHEMERAL_DIRECTORY']}/changes.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
