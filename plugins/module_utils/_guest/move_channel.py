# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The channel between the two QEMUs of a move: capabilities, the same on both ends, and TLS, which a running QEMU can be given, too."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

from .errors import CommandRefused, HostmemError
from .handover import BANDWIDTH, CAPABILITIES, set_capabilities
from .move_credentials import ADMITTED_ID, QEMU_ID, Credentials
from .qmp import Qmp

# return-path: without it the source cannot know that the guest was loaded. pause-before-switchover: the guest stands still, and nothing is
# decided yet. preempt: pages that are waited for overtake the others.
_ALWAYS = ("events", "return-path", "pause-before-switchover")
_POSTCOPY = ("postcopy-ram", "postcopy-preempt")
_OURS = (*CAPABILITIES, "pause-before-switchover", *_POSTCOPY)
# Parameters that set_pace() changes.
CHANGED = ("max-bandwidth", "downtime-limit")
_LONGEST_DOWNTIME = 300  # ms, QEMU's own


def inet(host: str, port: int) -> list[dict[str, Any]]:
    """Channels of a migration over TCP. keep-alive: the kernel notices that nobody is there any more."""
    address = {"transport": "socket", "type": "inet", "host": host, "port": str(port), "keep-alive": True}
    return [{"channel-type": "main", "addr": address}]


def uri(host: str, port: int) -> str:
    """The same for a command that knows no channels (migrate-recover)."""
    return f"tcp:[{host}]:{port}" if ":" in host else f"tcp:{host}:{port}"


def free_port(address: str) -> int:
    """A TCP port of this host's that nobody has, at least now."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


async def set_up(qmp: Qmp, postcopy: bool, credentials: Credentials | None, endpoint: str, hostname: str = "") -> None:
    """Bring one end to where it can begin.

    :param endpoint: server or client.
    :param hostname: for the client: the name in the server's certificate.
    :raises CommandRefused: QEMU cannot do post-copy with this memory, or on this host.
    """
    await set_capabilities(qmp, _ALWAYS + (_POSTCOPY if postcopy else ()), _OURS)
    if credentials:
        with suppress(CommandRefused):  # of an earlier attempt
            await qmp.execute("object-del", id=QEMU_ID)
        await qmp.send("object-add", credentials.qemu_object(endpoint))
    await qmp.execute("migrate-set-parameters", tls_creds=QEMU_ID if credentials else "", tls_hostname=hostname)


async def admit_only(qmp: Qmp, subject: str) -> None:
    """For the destination: whoever else has a certificate of the authority is not let in by QEMU either (authz-simple)."""
    with suppress(CommandRefused):  # of an earlier attempt
        await qmp.execute("object-del", id=ADMITTED_ID)
    await qmp.send("object-add", {"qom-type": "authz-simple", "id": ADMITTED_ID, "identity": subject})
    await qmp.execute("migrate-set-parameters", tls_authz=ADMITTED_ID)


async def set_pace(qmp: Qmp, longest_pause: float) -> None:
    """For the source: no limit but the network's, and the longest pause in seconds with which QEMU may end a pre-copy."""
    limit = min(_LONGEST_DOWNTIME, round(longest_pause * 500))
    await qmp.execute("migrate-set-parameters", max_bandwidth=BANDWIDTH, downtime_limit=limit)


async def state(qmp: Qmp) -> dict[str, Any]:
    """What both ends must have in common, as QEMU says it. An end with TLS and one without, or with other capabilities, would
    fail late, or corrupt memory (postcopy-preempt on the source alone, QEMU 10.0 and 11.1)."""
    on = [item["capability"] for item in await qmp.execute("query-migrate-capabilities") if item["state"]]
    return {"capabilities": sorted(on), "tls": bool((await qmp.execute("query-migrate-parameters")).get("tls-creds"))}


async def take_down(qmp: Qmp, kept: dict[str, Any]) -> None:
    """As a guest's QEMU is otherwise.

    :param kept: parameters to put back.
    """
    await set_capabilities(qmp, (), _OURS)
    await qmp.execute("migrate-set-parameters", mode="normal", tls_creds="", tls_hostname="", tls_authz="")
    if kept:
        await qmp.send("migrate-set-parameters", kept)
    for added in (QEMU_ID, ADMITTED_ID):
        with suppress(CommandRefused):
            await qmp.execute("object-del", id=added)


async def in_postcopy(qmp: Qmp) -> bool:
    """Whether a post-copy is under way, or paused: the guest may run on the other host."""
    return str((await qmp.migration()).get("status")).startswith("postcopy")


async def listening_port(qmp: Qmp) -> int:
    """The port on which QEMU waits for the source; of several the one it opened last.

    :raises HostmemError: it does not.
    """
    for address in (await qmp.migration()).get("socket-address", []):
        if address.get("type") == "inet":
            return int(address["port"])
    raise HostmemError(
        "QEMU does not listen for the source.", "It shows no port.", "See QEMU's log in the guest's log directory."
    )
