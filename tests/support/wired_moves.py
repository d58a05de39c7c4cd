# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The QEMUs of two hosts connected by a slow wire, which keeps a guest between them."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

from support.engine import wait_until
from support.moves import ADDRESS, TwoHosts
from support.slow_wire import SlowWire, slow_wire

RATE = 1e6
# The guest stands still until what is on its way has gone over.
PATIENT = ["--max-pause", "30"]


@contextlib.contextmanager
def wired(hosts: TwoHosts) -> Iterator[SlowWire]:
    """The QEMUs of the two hosts connected by a slow wire, over which a pre-copy does not come to an end in the pause of the guest's definition;
    the runtimes talk to each other as ever."""
    hosts.patience = []
    place = hosts.target.root / "fake-port"
    place.write_text("0")
    place.chmod(0o666)
    ports = (
        'return {"port": self._progress.migration_port, ',
        '                return {"port": port}\n',
    )
    with slow_wire(ADDRESS, place, RATE) as wire, contextlib.ExitStack() as stack:
        for piece in ports:
            name = "self._progress.migration_port" if "_progress" in piece else "port"
            told = f'(open({str(place)!r}, "w").write(str({name})), {wire.port})[1]'
            stack.enter_context(
                hosts.target.patched("_guest/arrival.py", piece, piece.replace(f": {name}", f": {told}"))
            )
        yield wire


def begun_postcopy(hosts: TwoHosts) -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
    """The verb that waits on the target, and the one that sends, when the guest runs on the target and a part of its memory is still on the source."""

    def runs_there() -> bool:
        return any(state.new == "running" for state in hosts.target.run_states(hosts.name))

    receiving = hosts.wait_for_guest()
    sending = hosts.source.begin(*hosts.words("postcopy", *PATIENT))
    wait_until(lambda: runs_there() or sending.poll() is not None, "no post-copy began")
    assert sending.poll() is None, sending.communicate()
    return receiving, sending
