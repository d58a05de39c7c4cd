# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lines of a guest's unit, run by a test as systemd runs them: as QEMU's user, or as root."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Any

from support.engine import EngineHost
from support.host import USER

AS_ROOT = ("prepare", "taps", "release")


def begin_line(host: EngineHost, line: str, name: str, *options: str, notify: str = "") -> subprocess.Popen[str]:
    """Run a line in the background.

    :param notify: the socket at which systemd listens to it (sd_notify(3)).
    """
    user: dict[str, Any] = {} if line in AS_ROOT else {"user": USER, "group": USER, "extra_groups": []}
    pipe = subprocess.PIPE
    words = host.command("unit", *options, line, name)
    environment = {**os.environ, **({"NOTIFY_SOCKET": notify} if notify else {})}
    return subprocess.Popen(
        words, stdout=pipe, stderr=pipe, text=True, cwd="/", start_new_session=True, env=environment, **user
    )


def answer(line: subprocess.Popen[str]) -> dict[str, Any]:
    """The line's result, once it ends."""
    output, complaint = line.communicate(timeout=300)
    if not output.strip():
        raise AssertionError(f"the line ended with {line.returncode} and said: {complaint}")
    result: dict[str, Any] = json.loads(output)["results"][0]
    assert (line.returncode == 0) == result["ok"]
    return result


def run_line(host: EngineHost, line: str, name: str, *options: str) -> dict[str, Any]:
    """Run a line to its end; its result, whatever it is."""
    return answer(begin_line(host, line, name, *options))


def request(host: EngineHost, line: str, name: str, **options: Any) -> None:
    """Leave what the runtime leaves for a line before it asks systemd to run it."""
    path = host.run_directory(name) / "request.json"
    path.write_text(json.dumps({"token": "of a test", "line": line, "options": options}))
    shutil.chown(path, USER, USER)
