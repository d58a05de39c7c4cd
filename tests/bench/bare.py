# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The measure of the benchmark: live updates as the shortest script that an experienced administrator would write, by each method.

It does what cpr-transfer (cpr-reboot, cpr-exec) demands, and keeps what makes it safe on the part of QEMU (-S, return-path, completed on both ends),
but checks nothing: no lock, no journal, no comparison of the two QEMUs, no way back, nobody who stands by. It needs nothing but Python's standard library
and imports as little of it as it can. Within the pause it only blocks in reads; before it, it polls for two sockets.

    bare.py JOBS.json      [{"argv": [...], "qmp": PATH, "pid": N, "directory": PATH, "method": METHOD}, ...], "parallel": N

``argv`` is the new QEMU's whole command line with its QMP socket at DIRECTORY/qmp.sock, ``qmp`` and ``pid`` are the old QEMU's. Prints
the new PIDs as JSON, in the order of the jobs. Any error ends it with a traceback.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing would take a millisecond
    from collections.abc import Callable
    from typing import Any

POLL = 0.001


class Monitor:
    """A blocking QMP connection, one JSON object a line; it remembers the events since the last command."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._file = self._socket.makefile("rb")
        self._file.readline()  # greeting
        self("qmp_capabilities")

    def __call__(self, command: str, **arguments: Any) -> Any:
        self.tell(command, **arguments)
        while True:
            answer = self._read()
            if "error" in answer:
                raise RuntimeError(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
            self._events.append(answer)

    def tell(self, command: str, **arguments: Any) -> None:
        """Send a command."""
        self._events: list[dict[str, Any]] = []
        message = {"execute": command, "arguments": arguments} if arguments else {"execute": command}
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def completed(self) -> None:
        """Wait until the migration is completed."""
        while True:
            for event in self._events:
                if event["event"] == "MIGRATION" and event["data"]["status"] == "completed":
                    return
                if event["event"] == "MIGRATION" and event["data"]["status"] == "failed":
                    raise RuntimeError("the migration failed")
            self._events = [self._read()]

    def _read(self) -> dict[str, Any]:
        line = self._file.readline()
        if not line:
            raise RuntimeError("QEMU closed its monitor")
        answer: dict[str, Any] = json.loads(line)
        return answer


def channel(kind: str, path: str) -> dict[str, Any]:
    """One entry of ``channels``."""
    return {"channel-type": kind, "addr": {"transport": "socket", "type": "unix", "path": path}}


def spawn(argv: list[str], directory: str) -> int:
    """Start a QEMU in a session of its own that writes to DIRECTORY/output; its PID."""
    output = (os.POSIX_SPAWN_OPEN, 1, f"{directory}/output", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    actions = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), output, (os.POSIX_SPAWN_DUP2, 1, 2)]
    return os.posix_spawn(argv[0], argv, os.environ, file_actions=actions, setsid=True)


def wait_for(path: str) -> None:
    """Wait until a socket is there. It may not listen yet: bind() makes the file, listen() follows."""
    while not os.path.exists(path):
        time.sleep(POLL)


def insist(action: Callable[[], Any], refusals: type[Exception]) -> Any:
    """Do something again for as long as it is refused because nobody listens yet."""
    while True:
        try:
            return action()
        except refusals as error:
            if "Connection refused" not in str(error):
                raise
            time.sleep(POLL)


def prepare(monitor: Monitor) -> None:
    """return-path: ``completed`` means that the other side loaded everything. events: tells it without polling."""
    on = [{"capability": name, "state": True} for name in ("return-path", "events")]
    monitor("migrate-set-capabilities", capabilities=on)


def transfer(job: dict[str, Any]) -> int:
    """cpr-transfer: the old QEMU hands over to one that was started beside it."""
    directory = job["directory"]
    os.mkdir(directory, 0o700)
    cpr, main = channel("cpr", f"{directory}/cpr.sock"), channel("main", f"{directory}/main.sock")
    pid = spawn([*job["argv"], "-incoming", "defer", "-incoming", json.dumps(cpr)], directory)
    old = Monitor(job["qmp"])
    old("migrate-set-parameters", mode="cpr-transfer")
    prepare(old)
    wait_for(f"{directory}/cpr.sock")
    insist(lambda: old("migrate", channels=[main, cpr]), RuntimeError)
    wait_for(f"{directory}/qmp.sock")
    new = insist(lambda: Monitor(f"{directory}/qmp.sock"), ConnectionRefusedError)
    prepare(new)
    new("migrate-incoming", channels=[main])  # here the guest pauses
    old.completed()
    new.completed()
    new("cont")
    os.kill(job["pid"], 9)
    return pid


def checkpoint(job: dict[str, Any]) -> int:
    """cpr-reboot: through a file, into a QEMU that was started beforehand."""
    directory = job["directory"]
    os.mkdir(directory, 0o700)
    state = f"file:{directory}/state"
    pid = spawn([*job["argv"], "-incoming", "defer"], directory)
    old = Monitor(job["qmp"])
    wait_for(f"{directory}/qmp.sock")
    new = insist(lambda: Monitor(f"{directory}/qmp.sock"), ConnectionRefusedError)
    for monitor in (old, new):
        _keep_memory(monitor)
    old("migrate", uri=state)  # here the guest pauses
    old.completed()
    new("migrate-incoming", uri=state)
    new.completed()
    new("cont")
    os.kill(job["pid"], 9)
    return pid


def replace(job: dict[str, Any]) -> int:
    """cpr-exec: the old QEMU becomes the new one, in its process."""
    directory = job["directory"]
    os.mkdir(directory, 0o700)
    state = f"file:{directory}/state"
    old = Monitor(job["qmp"])
    command = [*job["argv"], "-incoming", state]
    old("migrate-set-parameters", **{"mode": "cpr-exec", "cpr-exec-command": command})
    old.tell("migrate", uri=state)  # here the guest pauses; the answer can be cut off
    wait_for(f"{directory}/qmp.sock")
    new = insist(lambda: Monitor(f"{directory}/qmp.sock"), ConnectionRefusedError)
    while new("query-migrate").get("status") != "completed":
        time.sleep(POLL)
    new("cont")
    return int(job["pid"])


def save(job: dict[str, Any]) -> int:
    """cpr-reboot to a file, and the end of QEMU; no new one yet."""
    directory = job["directory"]
    os.mkdir(directory, 0o700)
    old = Monitor(job["qmp"])
    _keep_memory(old)
    state = os.path.join(os.path.dirname(directory), "state")
    old("migrate", uri=f"file:{state}")  # here the guest pauses
    old.completed()
    descriptor = os.open(state, os.O_RDONLY)
    os.fsync(descriptor)
    old("quit")
    while _lives(job["pid"]):
        time.sleep(POLL)
    return 0


def restore(job: dict[str, Any]) -> int:
    """A QEMU that loads the file."""
    directory = job["directory"]
    os.mkdir(directory, 0o700)
    state = os.path.join(os.path.dirname(directory), "state")
    pid = spawn([*job["argv"], "-incoming", "defer"], directory)
    wait_for(f"{directory}/qmp.sock")
    new = insist(lambda: Monitor(f"{directory}/qmp.sock"), ConnectionRefusedError)
    _keep_memory(new)
    new("migrate-incoming", uri=f"file:{state}")
    new.completed()
    new("cont")
    return pid


def _keep_memory(monitor: Monitor) -> None:
    monitor("migrate-set-parameters", mode="cpr-reboot")
    on = [{"capability": name, "state": True} for name in ("x-ignore-shared", "events")]
    monitor("migrate-set-capabilities", capabilities=on)


def _lives(pid: int) -> bool:
    """A zombie does not: nobody may be there to reap it."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


METHODS = {"save": save, "restore": restore, "transfer": transfer, "checkpoint": checkpoint, "exec": replace}


def update(job: dict[str, Any]) -> int:
    """One guest; the new QEMU's PID."""
    return METHODS[job["method"]](job)


def update_all(jobs: list[dict[str, Any]], parallel: int) -> list[int]:
    """All guests, so many at once."""
    if len(jobs) == 1:
        return [update(jobs[0])]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(parallel) as pool:
        return list(pool.map(update, jobs))


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        work = json.load(file)
    print(json.dumps(update_all(work["jobs"], work["parallel"])))
