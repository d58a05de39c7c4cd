# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The contender that is the controller: a playbook with this host as the managed one."""

from __future__ import annotations

import json
import os
from pathlib import Path

from .fleet import Fleet
from .timed import Timed, timed

PLAYBOOK = Path(__file__).with_name("live_update.yml")


class Playbook:
    """``ansible-playbook`` from its start to its end, on localhost and without SSH."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        host = fleet.host
        variables = {
            "guests": fleet.names,
            "runtime": str(host.tree / "bin" / "hostmem"),
            "config": str(host.config),
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        self._variables = host.root / "playbook.json"
        self._variables.write_text(json.dumps(variables))

    def update(self) -> Timed:
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "0"}
        words = ["ansible-playbook", "-i", "localhost,", "-e", f"@{self._variables}", str(PLAYBOOK)]
        result = timed(words, environment=environment)
        # Ansible's last word on a host is its recap.
        if "changed=1 " not in result.output:
            raise RuntimeError(result.output)
        return result
