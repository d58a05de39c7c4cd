# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The contender that is the controller: a playbook with this host as the managed one."""

from __future__ import annotations

import json
import os

from .fleet import Fleet
from .timed import Timed, timed

PLAYBOOK = "hostmem.qemu.live_update"


class Playbook:
    """``ansible-playbook`` from its start to its end, with this host as an inventory of one, without SSH."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        host = fleet.host
        variables = {
            "hostmem_names": fleet.names,
            "hostmem_force": True,
            "hostmem_runtime": str(host.tree / "bin" / "hostmem"),
            "hostmem_config": str(host.config),
        }
        settings = {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3"}
        inventory = {"hypervisors": {"hosts": {"localhost": settings}}}
        for name, content in (("inventory.yml", inventory), ("variables.yml", variables)):
            (host.root / name).write_text(json.dumps(content))  # JSON is YAML

    def update(self) -> Timed:
        root = self.fleet.host.root
        words = ["ansible-playbook", "-i", str(root / "inventory.yml"), "-e", f"@{root / 'variables.yml'}", PLAYBOOK]
        result = timed(words, environment={**os.environ, "ANSIBLE_NOCOLOR": "1"})
        if result.output.count(", paused ") != len(self.fleet.names):
            raise RuntimeError(result.output)
        return result
