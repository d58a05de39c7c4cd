# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Structured records for systemd-journald, by its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""

from __future__ import annotations

import socket
import struct

_SOCKET = "/run/systemd/journal/socket"


def log_record(message: str, priority: int = 6, **fields: object) -> None:
    """Send one record; priorities as in syslog(3). Fields become HOSTMEM_NAME. Nothing happens without journald."""
    record = {"MESSAGE": message, "PRIORITY": str(priority), "SYSLOG_IDENTIFIER": "hostmem"}
    record.update({f"HOSTMEM_{key.upper()}": str(value) for key, value in fields.items() if value is not None})
    data = b"".join(_field(key, value.encode()) for key, value in record.items())
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(data, _SOCKET)
    except OSError:
        pass  # no journald here (containers, the demo): the JSON result carries the same facts


def _field(key: str, value: bytes) -> bytes:
    return key.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
