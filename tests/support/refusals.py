# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What modules must refuse on a host, case by case: each says why, and changes nothing that the kernel knows of.

It runs on the host, with ansible.module_utils and the collection on PYTHONPATH. Standard input holds a JSON list of cases:
``module`` and its ``arguments``, ``says`` (regular expressions that the message matches), ``before`` and ``after`` (shell commands that
make the case and take it back; ``$SPARE`` is there the device of the namespace named spare).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from typing import Any

from support.memory_probe import mounts, pools
from support.modules import run_module


def device_of(name: str) -> str:
    """Path of the block device of the namespace with this name."""
    listed = subprocess.run(["ndctl", "list", "--namespaces"], capture_output=True, text=True, check=True).stdout
    return next(f"/dev/{item['blockdev']}" for item in json.loads(listed) if item.get("name") == name)


def shell(commands: str) -> None:
    """Commands of a case, ended by the first that fails. Raises RuntimeError with what it said."""
    done = subprocess.run(["bash", "-euc", commands], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{commands}: {done.stdout}{done.stderr}")


def problem(case: dict[str, Any]) -> tuple[str, str]:
    """What was wrong with the refusal, empty if nothing was; and the module's message."""
    seen = pools(), mounts()
    result = run_module(case["module"], **case["arguments"])
    message = str(result.get("msg", ""))
    if not result.get("failed"):
        return "it was not refused", json.dumps(result)
    missing = [text for text in case["says"] if not re.search(text, message)]
    if missing:
        return f"it does not say {' or '.join(missing)}", message
    return ("" if (pools(), mounts()) == seen else "it changed something"), message


def try_case(case: dict[str, Any]) -> dict[str, Any]:
    """One case, from making it to taking it back."""
    began = time.monotonic()
    try:
        shell(case.get("before", ""))
        try:
            wrong, message = problem(case)
        finally:
            shell(case.get("after", ""))
    except (RuntimeError, AssertionError, OSError) as error:
        wrong, message = str(error), ""
    return {"case": case["case"], "problem": wrong, "message": message, "seconds": round(time.monotonic() - began, 1)}


def main() -> int:
    """All cases, one JSON object a line; 1 if one of them was not as it must be."""
    failed = False
    os.environ["SPARE"] = device_of("spare")
    for case in json.load(sys.stdin):
        result = try_case(case)
        failed = failed or bool(result["problem"])
        print(json.dumps(result), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
