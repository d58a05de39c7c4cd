# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Modules that configure a host's memory, run as Ansible runs them: each in a process of its own, as root on the real kernel."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MODULES = Path(__file__).resolve().parents[2] / "plugins" / "modules"


def run_module(
    name: str, /, check: bool = False, directory: str = "/", before: Sequence[str] = (), **arguments: Any
) -> dict[str, Any]:
    """The result of a module, well or failed, with its warnings as texts.

    :param directory: where the module runs.
    :param before: a program that runs it.
    """
    given = {"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_check_mode": check, "_ansible_diff": True}}
    done = subprocess.run(
        [*before, sys.executable, str(MODULES / f"{name}.py")],
        input=json.dumps(given),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=False,
        cwd=directory,
    )
    if not done.stdout:
        raise AssertionError(done.stderr)
    result: dict[str, Any] = json.loads(done.stdout)
    result.pop("invocation", None)
    result["warnings"] = [_text(item) for item in result.get("warnings", [])]
    return result


def _text(warning: Any) -> str:
    """ansible-core 2.19 sends warnings as objects."""
    return str(warning["event"]["msg"]) if isinstance(warning, dict) else str(warning)


def without(*names: str, also: Sequence[str] = ()) -> list[str]:
    """What runs a program in a mount namespace of its own, where these programs cannot be executed, wherever they lie.

    :param also: files that are empty there.
    """
    places = [
        *os.environ["PATH"].split(os.pathsep),
        "/usr/local/sbin",
        "/usr/sbin",
        "/sbin",
        "/usr/local/bin",
        "/usr/bin",
        "/bin",
    ]
    found = {os.path.realpath(f"{place}/{name}") for name in names for place in places}
    hidden = [path for path in [*also, *found] if os.path.exists(path)]
    # mount(8) itself can be among them.
    hidden.sort(key=lambda path: os.path.basename(path) == "mount")
    lines = [f"mount --bind /dev/null {shlex.quote(path)}" for path in hidden]
    return ["unshare", "--mount", "sh", "-c", "\n".join(["set -e", *lines, 'exec "$@"']), "sh"]


def foretold(name: str, /, **arguments: Any) -> dict[str, Any]:
    """A run, and before it the same in check mode: both must tell the same; and a second run must change nothing."""
    checked = run_module(name, check=True, **arguments)
    checked.pop("foreseen", None)  # what only a check hands on
    done = run_module(name, **arguments)
    assert checked == done, f"check mode foretold {checked}"
    again = run_module(name, **arguments)
    assert "failed" not in again, again
    assert not again["changed"], again
    return done


def refused(name: str, /, **arguments: Any) -> str:
    """The message of a module that refuses, with and without check mode in the same words."""
    checked, done = run_module(name, check=True, **arguments), run_module(name, **arguments)
    assert checked.get("failed"), checked
    assert done.get("failed"), done
    # Free memory is another a second later.
    messages = [re.sub(r"\d+ MiB", "N MiB", result["error"]["message"]) for result in (checked, done)]
    assert messages[0] == messages[1]
    return str(done["msg"])
