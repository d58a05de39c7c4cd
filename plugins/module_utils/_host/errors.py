# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one error type of everything here: what was wrong, why, and what to do about it."""

from __future__ import annotations

from typing import Any


class HostmemError(Exception):
    """A refusal or failure, worded for the person who has to act on it.

    :param message: what was wrong, and where.
    :param cause: why it is so.
    :param cure: what to do.
    :param qemu: the end of QEMU's own output, when QEMU was the cause.
    """

    code = ""
    """For programs: which error this is, where they have to tell it from others."""

    def __init__(self, message: str, cause: str = "", cure: str = "", qemu: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.cause = cause
        self.cure = cure
        self.qemu = qemu

    def as_dict(self) -> dict[str, Any]:
        """The non-empty parts, as they appear in a verb's JSON."""
        parts = {
            "message": self.message,
            "cause": self.cause,
            "cure": self.cure,
            "qemu": self.qemu,
            "code": self.code,
        }
        return {key: value for key, value in parts.items() if value}

    def __str__(self) -> str:
        text = self.message
        if self.cause:
            text += f" Cause: {self.cause}"
        if self.cure:
            text += f" Cure: {self.cure}"
        if self.qemu:
            text += f" QEMU said: {self.qemu}"
        return text


class Refused(HostmemError):
    """What was asked for is refused; nothing was changed and the guest runs on."""
