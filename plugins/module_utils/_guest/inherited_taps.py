# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The taps that a running QEMU has open, for the QEMU that replaces it in the same process (execve(2)) and inherits them."""

from __future__ import annotations

import os

from .._host.processes import command_line
from .arguments import tap_placeholder
from .command_line import parse_command_line
from .definition import Definition
from .errors import Refused
from .nics import tap_name
from .qemu_options import parse_options


def inherited_taps(definition: Definition, pid: int, slot: int) -> dict[str, str]:
    """The descriptors of each NIC's tap, as the running QEMU was given them, by their placeholders.

    QEMU keeps descriptors of ``fds=`` under their numbers, and open over execve (net/tap.c).

    :raises Refused: one is not what it was.
    """
    wanted = {f"net-{nic.id}": nic for nic in definition.nics if nic.type == "tap"}
    found = {}
    for option in parse_command_line(command_line(pid)[1:]):
        options = parse_options(option.value, "type") if option.name == "netdev" else {}
        nic = wanted.pop(options.get("id", ""), None)
        if nic is None:
            continue
        for descriptor in options.get("fds", "").split(":"):
            _insist(pid, descriptor, tap_name(nic, slot), definition.name)
        found[tap_placeholder(nic.id)] = options["fds"]
    if wanted:
        raise Refused(
            f"The running QEMU of guest {definition.name} shows no {', '.join(sorted(wanted))}.",
            cause="Its command line has no network back end of that name.",
            cure="Update it by another method, or restart it.",
        )
    return found


def _insist(pid: int, descriptor: str, tap: str, guest: str) -> None:
    """The descriptor must be the tap's, and survive execve: both are in /proc/PID/fdinfo (proc(5); ``iff``: drivers/net/tun.c)."""
    facts = _descriptor_facts(pid, descriptor)
    if facts.get("iff") != tap or int(facts.get("flags", "0"), 8) & os.O_CLOEXEC:
        raise Refused(
            f"Descriptor {descriptor} of the QEMU of guest {guest} is not its tap {tap} any more.",
            cause="The QEMU that replaces it would have no network.",
            cure="Use another method, which opens the guest's other tap.",
        )


def _descriptor_facts(pid: int, descriptor: str) -> dict[str, str]:
    try:
        with open(f"/proc/{pid}/fdinfo/{descriptor}", encoding="ascii") as file:
            pairs = (line.partition(":") for line in file)
            return {key: value.strip() for key, _colon, value in pairs}
    except OSError:
        return {}
