# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The contenders: each moves all its guests into a new QEMU, by its own means, as a process that is timed."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from support.host import USER

from .fleet import Fleet
from .timed import Timed, timed

BARE = Path(__file__).with_name("bare.py")


class Contender(Protocol):
    """One way to update."""

    @property
    def fleet(self) -> Fleet:
        """Its guests."""

    def update(self) -> Timed:
        """Move every guest of the fleet into a new QEMU."""


@dataclass
class _Carrier:
    """The QEMU that has a guest now: command line, PID, and the paths of this QEMU alone that are on its command line."""

    argv: list[str]
    pid: int
    qmp: str
    log: str


class Bare:
    """bare.py, run as QEMU's user by the same Python as the runtime, on guests that the runtime started."""

    def __init__(self, fleet: Fleet, parallel: int, method: str = "transfer") -> None:
        self.fleet = fleet
        self._parallel = parallel
        self._method = method
        self._root = fleet.host.root / "bare"
        self._count = 0
        self._root.mkdir(mode=0o755, exist_ok=True)
        # QEMU's user may not be allowed to read where the collection lies.
        self._script = self._root / BARE.name
        shutil.copyfile(BARE, self._script)
        self._carriers = {name: self._started(name) for name in fleet.names}

    def _started(self, name: str) -> _Carrier:
        pid = self.fleet.host.qemu_pids(name)[0]
        argv = [os.fsdecode(word) for word in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]]
        qmp = argv[argv.index("-qmp") + 1].removeprefix("unix:").partition(",")[0]
        directory = self._root / name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700)
        account = pwd.getpwnam(USER)
        os.chown(directory, account.pw_uid, account.pw_gid)
        # As the runtime does for a QEMU that takes a guest over: the memory is there already.
        argv = [word.replace("prealloc=on", "prealloc=off") for word in argv]
        return _Carrier(argv, pid, qmp, argv[argv.index("-D") + 1])

    def update(self) -> Timed:
        return self.run(self._method)

    def run(self, method: str) -> Timed:
        """One run of the script, all guests by this method; afterwards they are in new QEMUs, if in any."""
        self._count += 1
        following = {name: self._next(name) for name in self.fleet.names}
        jobs = [
            {
                "argv": following[name].argv,
                "directory": os.path.dirname(following[name].qmp),
                "qmp": carrier.qmp,
                "pid": carrier.pid,
                "method": method,
            }
            for name, carrier in self._carriers.items()
        ]
        order = self._root / "jobs.json"
        order.write_text(json.dumps({"jobs": jobs, "parallel": self._parallel}))
        result = timed(["/usr/bin/python3", "-IS", str(self._script), str(order)], user=USER)
        for carrier, pid in zip(following.values(), json.loads(result.output), strict=True):
            carrier.pid = pid
        new = {carrier.pid for carrier in following.values()}
        _wait_gone([carrier.pid for carrier in self._carriers.values() if carrier.pid not in new])
        self._carriers = following
        return result

    def _next(self, name: str) -> _Carrier:
        now = self._carriers[name]
        directory = self._root / name / str(self._count)
        qmp, log = f"{directory}/qmp.sock", f"{directory}/log"
        return _Carrier([word.replace(now.qmp, qmp).replace(now.log, log) for word in now.argv], 0, qmp, log)


class Runtime:
    """``hostmem update --force NAME...``, one process, started by root."""

    def __init__(self, fleet: Fleet, method: str = "transfer") -> None:
        self.fleet = fleet
        self._method = method

    def update(self) -> Timed:
        return self.run("update", "--force", "--method", self._method)

    def run(self, *words: str) -> Timed:
        """One verb for all guests."""
        result = timed(self.fleet.host.command(*words, *self.fleet.names))
        answers = json.loads(result.output)["results"]
        if len(answers) != len(self.fleet.names) or not all(answer["ok"] and answer["changed"] for answer in answers):
            raise RuntimeError(result.output)
        return result


def _wait_gone(pids: list[int]) -> None:
    """What the kernel still has to free is not part of the next measurement."""
    while any(_alive(pid) for pid in pids):
        time.sleep(0.005)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
