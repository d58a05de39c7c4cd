# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runtime's configuration on a host: who manages the guests, as which user, and where things lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .._host.cures import unreadable
from .._host.files import read_json
from .._host.users import User, find_user
from .errors import HostmemError

DEFAULT_PATH = "/etc/hostmem/config.json"
MANAGERS = ("systemd", "direct")


@dataclass(frozen=True)
class Config:
    """``parallel`` is the number of live updates that run at once on this host."""

    path: str
    manager: str
    user: User
    parallel: int
    definitions: str
    run: str
    log: str
    state: str
    tls: str = "/etc/hostmem/tls"


def load_config(path: str = DEFAULT_PATH) -> Config:
    """Read the configuration.

    :raises HostmemError: missing or wrong.
    """
    try:
        data = read_json(path)
    except (OSError, ValueError) as error:
        raise unreadable(path, error, "Run the role hostmem.qemu.hypervisor, which writes it anew.") from error
    if not isinstance(data, dict):
        raise HostmemError(f"{path} is missing.", cure="Prepare the host with the role hostmem.qemu.hypervisor.")
    return _config(path, data)


def _config(path: str, data: dict[str, Any]) -> Config:
    manager = data.get("manager", "systemd")
    if manager not in MANAGERS:
        raise HostmemError(
            f"{path}: manager is {manager!r}, not one of {', '.join(MANAGERS)}.",
            cure="Run the role hostmem.qemu.hypervisor, which writes it anew; hypervisor_manager chooses.",
        )
    name, group = data.get("user", "hostmem"), data.get("group", "hostmem")
    try:
        user = find_user(name, group)
    except KeyError as error:
        raise HostmemError(
            f"{path}: user {name} or group {group} does not exist.", cure="Run the role hostmem.qemu.hypervisor."
        ) from error
    return Config(
        path=path,
        manager=manager,
        user=user,
        parallel=int(data.get("parallel", 2)),
        definitions=data.get("definitions", "/etc/hostmem/guests"),
        run=data.get("run", "/run/hostmem"),
        log=data.get("log", "/var/log/hostmem"),
        state=data.get("state", "/var/lib/hostmem"),
        tls=data.get("tls", "/etc/hostmem/tls"),
    )
