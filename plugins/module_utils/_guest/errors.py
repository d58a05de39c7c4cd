# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The errors of the engine, all of the one type of ``_host.errors``."""

from __future__ import annotations

from .._host.errors import HostmemError, Refused

__all__ = [
    "Blocked",
    "Busy",
    "CommandRefused",
    "DefinitionError",
    "Ended",
    "HostmemError",
    "NotDefined",
    "Refused",
    "refuse",
]


class DefinitionError(HostmemError):
    """A guest definition (or arguments rendered from it) that cannot be accepted.

    :param problems: one ``key: reason`` a line, all of them, not only the first.
    """

    def __init__(self, problems: list[str], what: str = "guest definition") -> None:
        super().__init__(
            f"The {what} is not acceptable: " + "; ".join(problems),
            cure="Correct what is named: ansible-doc --type filter hostmem.qemu.definition describes each key, hostmem.qemu.argv what arguments"
            " may say.",
        )
        self.problems = problems


class NotDefined(HostmemError):
    """There is no such guest on this host."""

    code = "not_defined"


class Ended(HostmemError):
    """The unprivileged part of a verb was killed; its watchdog repairs what it left."""

    code = "ended"


class CommandRefused(HostmemError):
    """QEMU answered a command with an error: it has not carried it out. Its reason is the cause; what helps, only the caller can know."""


class Busy(HostmemError):
    """Another verb holds the guest's lock."""

    code = "busy"


class Blocked(Refused):
    """One or several reasons against something; ``refusals`` has each by itself."""

    def __init__(self, refusals: list[Refused]) -> None:
        only = refusals[0]
        if len(refusals) == 1:
            super().__init__(only.message, only.cause, only.cure, only.qemu)
        else:
            super().__init__("; ".join(str(item) for item in refusals))
        self.refusals = refusals


def refuse(refusals: list[Refused]) -> None:
    """:raises Blocked: there are any."""
    if refusals:
        raise Blocked(refusals)
