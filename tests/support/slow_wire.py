# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A slow network between two hosts that can be cut, or fall silent: TCP connections go through this process."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

_PIECE = 16 << 10
_BUFFER = 128 << 10
# Bytes to be read, and not acknowledged by the other end: FIONREAD, SIOCOUTQ (tcp(7)).
_COME, _GO = termios.FIONREAD, termios.TIOCOUTQ


class _Connection:
    """Two sockets, and what lies between them."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.ends = (near, far)
        self.silent = threading.Event()
        self.cut_off = threading.Event()
        self._turn = threading.Lock()
        self._inside = 0

    def add(self, length: int) -> None:
        with self._turn:
            self._inside += length

    def held(self) -> int:
        return self._inside + sum(_in_kernel(end, request) for end in self.ends for request in (_COME, _GO))

    def cut(self) -> None:
        self.cut_off.set()
        for end in self.ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # wakes who reads from it here
            end.close()  # with a reset, when there is something unread


class SlowWire:
    """Forwards connections to the port that stands in a file when they come. ``rate`` in bytes per second of all together."""

    def __init__(self, address: str, target: Path, rate: float) -> None:
        self._address = address
        self._target = target
        self._rate = rate
        self._turn = threading.Lock()
        self._living: list[_Connection] = []
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
                connection = _Connection(near, far)
                self._living.append(connection)
                self.connections += 1
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._forward, args=(connection, one, other), daemon=True).start()

    def _forward(self, connection: _Connection, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(_PIECE):
                connection.add(len(data))
                if connection.silent.is_set():
                    connection.cut_off.wait()
                with self._turn:
                    time.sleep(len(data) / self._rate)
                other.sendall(data)
                connection.add(-len(data))
        connection.cut()

    def held(self) -> int:
        """Bytes that have come, and not gone on: in the kernel, and in this process."""
        return sum(connection.held() for connection in list(self._living))

    def cut(self) -> None:
        """End all connections there are; both sides are told."""
        living, self._living = self._living, []
        for connection in living:
            connection.cut()

    def fall_silent(self) -> None:
        """Nothing goes over the connections that there are any more, and nobody is told; new ones do."""
        for connection in list(self._living):
            connection.silent.set()

    def hasten(self, rate: float) -> None:
        self._rate = rate

    def close(self) -> None:
        self._listener.close()
        self.cut()


def _in_kernel(end: socket.socket, request: int) -> int:
    try:
        answer = fcntl.ioctl(end.fileno(), request, struct.pack("i", 0))
    except (OSError, ValueError):  # it was cut
        return 0
    return int(struct.unpack("i", answer)[0])


@contextlib.contextmanager
def slow_wire(address: str, target: Path, rate: float) -> Iterator[SlowWire]:
    """One for a test."""
    wire = SlowWire(address, target, rate)
    try:
        yield wire
    finally:
        wire.close()
