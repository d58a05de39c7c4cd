# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A VM host that has booted, kept with its memory, so that a test starts where a boot ends.

Each name has a template of its own: two hosts with the same boot id and host name would be one in the eyes of many programs.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import time
from pathlib import Path

from support.qmp import QmpSession
from support.vm_host import QEMU, VMS, VmHost

# mapped-ram: each page has its place in the file, so that loading it is one read and zero pages take no place.
CAPABILITIES = [{"capability": "mapped-ram", "state": True}]
# What a host is once and for all: its name, a GRUB configuration of its own making. Then its disk is made to hold all of that.
SETTLE = """
set -e
echo {name} >/etc/hostname; hostname {name}
echo '127.0.0.1 localhost {name}' >/etc/hosts
update-grub 2>/dev/null
systemctl is-system-running --wait || systemctl --failed
python3 -c 'import json, subprocess, zipfile, tempfile, ssl'
sync
"""


class Template:
    """The files of one name's template."""

    def __init__(self, name: str, system: Path) -> None:
        self.host = VmHost(name)
        self._system = system
        self.directory = system / f"{name}-{_sources()}"
        self.disk = self.directory / "disk.qcow2"
        self._state = self.directory / "state"

    def make(self) -> None:
        """Boot the host once and save it, unless that has been done."""
        with (VMS / f"{self.host.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.directory.is_dir():
                return
            self.host.make_directory(self._system / "disk.qcow2")
            try:
                self.host.launch()
                self.host.wait()
                self.host.run(SETTLE.format(name=self.host.name))
                self._save()
            finally:
                self.host.stop()

    def _save(self) -> None:
        new = self.directory.with_name(f".{self.directory.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        with self.host.qmp() as qmp:
            qmp("stop")
            qmp("migrate-set-capabilities", capabilities=CAPABILITIES)
            qmp("migrate-set-parameters", max_bandwidth=10**11)
            qmp("migrate", uri=f"file:{new / 'state'}")
            _wait_for_state(qmp)
            qmp("quit")
        while self.host.pid:
            time.sleep(0.05)
        self.host.disk.rename(new / "disk.qcow2")
        new.rename(self.directory)

    def start(self, peer: str | None, *, cold: bool) -> None:
        """Start the host: cold from its disk, else in the state that was saved. Its NVDIMM is as the template left it."""
        self.host.make_directory(self.disk)
        self.host.launch(peer, incoming=not cold)
        if cold:
            return
        with self.host.qmp() as qmp:
            qmp("migrate-set-capabilities", capabilities=CAPABILITIES)
            qmp("migrate-incoming", uri=f"file:{self._state}")
            _wait_for_state(qmp)
            qmp("cont")
        # The saved clock stands where it was.
        self.host.run(f"date -s @{time.time():.2f} >/dev/null")


def _wait_for_state(qmp: QmpSession) -> None:
    while True:
        migration = qmp("query-migrate")
        if migration.get("status") == "completed":
            return
        if migration.get("status") == "failed":
            raise RuntimeError(f"the state was not transferred: {migration.get('error-desc')}")
        time.sleep(0.05)


def _sources() -> str:
    """A word for all that decides what a template is, beside the system on its disk."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for path in (here / "vm_host.py", here / "vm_template.py", QEMU.parents[1] / ".complete"):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def build_system() -> Path:
    """The directory of the system that build-vms makes; made if there is none."""
    build = Path(__file__).with_name("build-vms")
    output = subprocess.run([build], stdout=subprocess.PIPE, text=True, check=True).stdout
    return Path(output.splitlines()[-1])
