# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One TCP connection to a guest's echo server that must never break.

Numbered, checksummed messages go out at a steady rate and each must come back
whole and in order. There is no second connection: once this one is lost, the
stream is dead. This file runs alone on any Python >= 3.9, so that a test may copy
it into a container: ``stream.py HOST --output FILE`` runs until SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

ECHO_PORT = 7
DEFAULT_INTERVAL_MS = 2.0
CONNECT_SECONDS = 30.0
# For the echoes still under way when the stream is stopped: after a guest stood still, TCP sends again only after up to as long.
DRAIN_SECONDS = 60.0
_HEADER = struct.Struct("<QQ")  # number, CLOCK_MONOTONIC in ns when sent
_CHECKSUM = struct.Struct("<I")
_PADDING = bytes(range(44))
MESSAGE_BYTES = _HEADER.size + len(_PADDING) + _CHECKSUM.size


def message(number: int, sent_ns: int) -> bytes:
    """The bytes of message ``number``."""
    body = _HEADER.pack(number, sent_ns) + _PADDING
    return body + _CHECKSUM.pack(zlib.crc32(body))


class Stream:
    """The client's side: what was sent, what came back and how late.

    ``sent`` and ``messages`` count messages sent and echoed; ``errors`` those echoed
    otherwise than sent. ``longest_ms`` is the longest round trip, a message still
    without an echo included; ``longest_silence_ms`` the longest time between two
    echoes while one was due.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        self.sent = self.messages = self.errors = 0
        self.longest_ns = self.longest_silence_ns = 0
        self.reason: str | None = None  # why the connection ended; None: it lives
        self._out = b""
        self._in = b""
        self._pending: list[int] = []  # when the messages without an echo were sent
        self._waiting_since = 0  # last echo, or first send after it

    def send(self) -> None:
        """Queue the next message, unless the connection is so far behind that the last is still queued."""
        now = time.monotonic_ns()
        if not self._out:
            self.sent += 1
            self._out = message(self.sent, now)
            if not self._pending:
                self._waiting_since = now
            self._pending.append(now)
        self._flush()

    def _flush(self) -> None:
        try:
            self._out = self._out[self.connection.send(self._out) :]
        except BlockingIOError:
            return
        except OSError as error:
            self.reason = f"send: {error}"

    def receive(self) -> None:
        """Take in what has arrived."""
        try:
            data = self.connection.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self.reason = f"receive: {error}"
            return
        if not data:
            self.reason = "closed by the server"
            return
        self._in += data
        while len(self._in) >= MESSAGE_BYTES:
            self._check(self._in[:MESSAGE_BYTES])
            self._in = self._in[MESSAGE_BYTES:]

    def _check(self, echo: bytes) -> None:
        now = time.monotonic_ns()
        if not self._pending:
            self.errors += 1
            return
        sent = self._pending.pop(0)
        self.messages += 1
        if echo != message(self.messages, sent):
            self.errors += 1
        self._note_times(now, sent)
        self._waiting_since = now

    def _note_times(self, now: int, sent: int) -> None:
        self.longest_ns = max(self.longest_ns, now - sent)
        # the next message may have gone out long after the last echo: then it was not due before
        self.longest_silence_ns = max(self.longest_silence_ns, now - max(self._waiting_since, sent))

    def step(self, timeout: float) -> None:
        """Move data for at most ``timeout`` seconds."""
        writers = [self.connection] if self._out else []
        readable, writable, _exceptional = select.select([self.connection], writers, [], max(timeout, 0.0))
        if writable:
            self._flush()
        if readable:
            self.receive()

    def run(self, stop: Stop, interval: float, drain: float) -> None:
        """Send every ``interval`` seconds until ``stop``; then wait up to ``drain`` seconds for the last echoes."""
        due = time.monotonic()
        while self.reason is None and not stop:
            now = time.monotonic()
            if now >= due:
                self.send()
                due = max(due + interval, now)
            else:
                self.step(due - now)
            if due <= now:
                self.step(0.0)
        end = time.monotonic() + drain
        while self.reason is None and self._pending and time.monotonic() < end:
            self.step(end - time.monotonic())

    def result(self) -> dict[str, Any]:
        """What the process prints."""
        if self._pending:
            self._note_times(time.monotonic_ns(), self._pending[0])
        return {
            "alive": self.reason is None and not self._pending,
            "reason": self.reason,
            "sent": self.sent,
            "messages": self.messages,
            "errors": self.errors,
            "longest_ms": self.longest_ns / 1e6,
            "longest_silence_ms": self.longest_silence_ns / 1e6,
        }


class Stop:
    """Becomes true on SIGTERM or SIGINT, or when the parent is gone (unless it is not to be watched)."""

    def __init__(self, *, watch_parent: bool) -> None:
        self._signalled = False
        self._parent = os.getppid() if watch_parent else None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signal)

    def _signal(self, _number: int, _frame: object) -> None:
        self._signalled = True

    def __bool__(self) -> bool:
        return self._signalled or self._parent not in (None, os.getppid())


def connect(host: str, port: int, seconds: float) -> socket.socket:
    """The one connection; the server gets ``seconds`` to come up. Raises OSError after that."""
    end = time.monotonic() + seconds
    while True:
        try:
            return socket.create_connection((host, port), timeout=2.0)
        except OSError:
            if time.monotonic() >= end:
                raise
            time.sleep(0.1)


class StreamClient:
    """A stream in a process of its own."""

    def __init__(self, host: str, port: int = ECHO_PORT, *, drain: float = DRAIN_SECONDS) -> None:
        self._command = [sys.executable, str(Path(__file__).resolve()), host, "--announce"]
        self._command += ["--port", str(port), "--drain", str(drain)]
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> StreamClient:
        """Connect and begin to send. Raises RuntimeError with the reason when it cannot."""
        process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if process.stdout is None or process.stdout.readline() != "connected\n":
            _output, errors = process.communicate()
            raise RuntimeError(errors)
        self._process = process
        return self

    def stop(self) -> dict[str, Any]:
        """End the stream and return its result."""
        if self._process is None:
            message_text = "this stream is not running"
            raise RuntimeError(message_text)
        process, self._process = self._process, None
        process.terminate()
        output, errors = process.communicate(timeout=DRAIN_SECONDS + 60)
        if not output:
            raise RuntimeError(errors)
        result: dict[str, Any] = json.loads(output)
        return result

    def __enter__(self) -> StreamClient:
        return self.start()

    def __exit__(self, *_exception: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _write(result: dict[str, Any], output: str | None) -> None:
    text = json.dumps(result) + "\n"
    if output is None:
        sys.stdout.write(text)
        return
    # renamed into place: who finds the file finds all of it
    partial = Path(output + ".new")
    partial.write_text(text)
    partial.replace(output)


def main() -> int:
    """Keep one echo connection busy until SIGTERM, then say how it fared. Exit code 1: it died or erred."""
    parser = argparse.ArgumentParser(prog="stream", description=main.__doc__)
    parser.add_argument("host", metavar="HOST")
    parser.add_argument("--port", type=int, default=ECHO_PORT)
    parser.add_argument("--interval", type=float, default=DEFAULT_INTERVAL_MS, help="ms between messages")
    parser.add_argument("--drain", type=float, default=DRAIN_SECONDS, help="seconds to wait for the last echoes")
    parser.add_argument("--connect", type=float, default=CONNECT_SECONDS, help="seconds to wait for the server")
    parser.add_argument("--output", metavar="FILE", help="where the result goes; default: standard output")
    parser.add_argument("--announce", action="store_true", help="print 'connected', and end with the parent")
    options = parser.parse_args()
    stop = Stop(watch_parent=options.announce)
    stream = Stream(connect(options.host, options.port, options.connect))
    if options.announce:
        print("connected", flush=True)
    stream.run(stop, options.interval / 1e3, options.drain)
    result = stream.result()
    _write(result, options.output)
    return 0 if result["alive"] and not result["errors"] else 1


if __name__ == "__main__":
    sys.exit(main())
