# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A slow network between two hosts that can be cut, or fall silent: TCP connections go through this process."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

_PIECE = 16 << 10
_BUFFER = 128 << 10


class SlowWire:
    """Forwards connections to the port that stands in a file when they come. ``rate`` in bytes per second of all together."""

    def __init__(self, address: str, target: Path, rate: float) -> None:
        self._address = address
        self._target = target
        self._rate = rate
        self._turn = threading.Lock()
        self._ends: list[socket.socket] = []
        self._silent = threading.Event()
        self.connections = 0
        self._listener = socket.create_server((address, 0))
        # What is on its way is lost by a cut: buffers of the kernel's own choice would hold seconds of it.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _peer = self._listener.accept()
                far = socket.create_connection((self._address, int(self._target.read_text())))
                far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
                self.connections += 1
                self._ends += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._forward, args=(one, other), daemon=True).start()

    def _forward(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(_PIECE):
                while self._silent.is_set():
                    time.sleep(0.01)
                with self._turn:
                    time.sleep(len(data) / self._rate)
                other.sendall(data)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """End all connections there are; both sides are told."""
        ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def fall_silent(self) -> None:
        """Nothing goes over any more, and nobody is told."""
        self._silent.set()

    def speak(self) -> None:
        """It does again; what was connected before stays cut off."""
        self._ends = []
        self._silent.clear()

    def hasten(self, rate: float) -> None:
        self._rate = rate

    def close(self) -> None:
        self._silent.clear()
        self._listener.close()
        self.cut()


@contextlib.contextmanager
def slow_wire(address: str, target: Path, rate: float) -> Iterator[SlowWire]:
    """One for a test."""
    wire = SlowWire(address, target, rate)
    try:
        yield wire
    finally:
        wire.close()
