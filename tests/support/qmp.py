# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A QMP client of the tests' own."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any


class QmpSession:
    """A bare QMP client, independent of the runtime's: blocking, one JSON a line."""

    def __init__(self, path: Path, timeout: float = 30.0) -> None:
        """Each answer has ``timeout`` seconds."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        self._socket.connect(str(path))
        self._file = self._socket.makefile("rwb")
        self.greeting = json.loads(self._file.readline())
        self.events: list[dict[str, Any]] = []
        self("qmp_capabilities")

    def __call__(self, command: str, **arguments: Any) -> Any:
        """One command, underscores of argument names as dashes; raises RuntimeError with QEMU's error."""
        return self.send(command, {key.replace("_", "-"): value for key, value in arguments.items()})

    def send(self, command: str, arguments: dict[str, Any]) -> Any:
        """One command with its arguments spelt as QEMU does."""
        message = {"execute": command, "arguments": arguments}
        self._file.write(json.dumps(message).encode() + b"\n")
        self._file.flush()
        while True:
            answer = json.loads(self._file.readline())
            if "event" in answer:
                self.events.append(answer)
            elif "error" in answer:
                raise RuntimeError(answer["error"]["desc"])
            else:
                return answer["return"]

    def event(self, name: str) -> dict[str, Any]:
        """Wait for an event."""
        while True:
            for item in self.events:
                if item["event"] == name:
                    self.events.remove(item)
                    return item
            answer = json.loads(self._file.readline())
            if "event" in answer:
                self.events.append(answer)

    def close(self) -> None:
        self._file.close()  # the descriptor stays open as long as either of the two
        self._socket.close()

    def __enter__(self) -> QmpSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
