# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asking the host's runtime (``hostmem VERB``) from a module. Private to this collection."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from ._guest.config import DEFAULT_PATH
from ._guest.definition import NAME
from ._guest.version import VERSION

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

PROGRAM = "/usr/lib/hostmem/current/bin/hostmem"
_ROLE = "Run the role hostmem.qemu.hypervisor on this host."


def runtime_options() -> dict[str, dict[str, Any]]:
    """The module options documented by the fragment hostmem.qemu.runtime."""
    return {
        "runtime": {"type": "path", "default": PROGRAM},
        "config": {"type": "path", "default": DEFAULT_PATH},
    }


def describe(error: dict[str, Any]) -> str:
    """An error of the engine as one text: what, why, what to do, and what QEMU said."""
    text = str(error["message"])
    for key, title in (("cause", "Cause"), ("cure", "Cure"), ("qemu", "QEMU said")):
        if error.get(key):
            text += f" {title}: {error[key]}"
    return text


def complaints(results: Sequence[dict[str, Any]]) -> str:
    """What was wrong with the guests that failed, each by its name; empty when all are well."""
    return "\n".join(f"{item['guest']}: {describe(item['error'])}" for item in results if not item["ok"])


class Runtime:
    """The host's runtime, called for one module; what fails as a whole ends the module with cause and cure."""

    def __init__(self, module: AnsibleModule) -> None:
        self._module = module
        self._program: str = module.params["runtime"]
        self._config: str = module.params["config"]

    def fail(self, error: dict[str, Any], **result: Any) -> NoReturn:
        """End the module with an error of the engine.

        :param error: with ``message`` and what there is of ``cause``, ``cure``, ``qemu``, ``code``.
        :param result: further return values, such as what was changed before.
        """
        self._module.fail_json(msg=describe(error), error=error, **result)
        raise SystemExit(1)  # not reached: fail_json() ends the program

    def run(
        self, verb: str, options: Sequence[str] = (), names: Sequence[str] = (), data: Any = None
    ) -> list[dict[str, Any]]:
        """Run a verb; one result for each guest, well (``ok``) or with its ``error``.

        :param data: given to the verb as JSON.
        """
        for name in names:
            if not re.fullmatch(NAME, name):  # before it could be taken for an option
                self.fail({"message": f"{name!r} is not a guest's name."})
        answer = self._answer([self._program, "--config", self._config, verb, *options, *names], data)
        if answer.get("runtime") != VERSION:
            self.fail(
                {
                    "message": f"The runtime {self._program} has version {answer.get('runtime')}, the collection {VERSION}.",
                    "cause": "Modules and runtime must be of the same version to understand each other.",
                    "cure": _ROLE,
                }
            )
        if "error" in answer:
            self.fail(answer["error"])
        results: list[dict[str, Any]] = answer["results"]
        return results

    def _answer(self, command: Sequence[str], data: Any) -> dict[str, Any]:
        if os.geteuid() != 0:
            self.fail(
                {
                    "message": "Guests are managed by root only.",
                    "cause": f"The module runs as the user with number {os.geteuid()}.",
                    "cure": "Set become to true for this task.",
                }
            )
        if not os.access(self._program, os.X_OK):
            self.fail(
                {
                    "message": f"The runtime {self._program} is not on this host.",
                    "cause": "The host was not prepared for guests, or the option runtime names another place.",
                    "cure": _ROLE,
                }
            )
        text = None if data is None else json.dumps(data)
        code, output, errors = self._module.run_command(list(command), data=text)
        try:
            answer = json.loads(output)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            self.fail(
                {
                    "message": f"The runtime {self._program} ended with code {code} and no answer.",
                    "cause": (errors or output).strip()[-2000:] or "It said nothing.",
                    "cure": _ROLE,
                }
            )
        return answer
