# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an installed QEMU is and can do, asked of one without a machine (docs/interop/qmp-spec.rst): version, machine types, ways of migration.

Modules ask it, too, which have no more than Python's own library on the host; hence no qemu.qmp here.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from typing import IO, Any

from .._host.programs import dialogue
from .errors import HostmemError

_TIMEOUT = 30.0


@dataclass(frozen=True)
class QemuAbilities:
    """``package`` is the packager's text in its version. ``machines`` are the names of all types,
    ``newest_machines`` are the machine types by QEMU's own short names, such as ``q35``.

    ``migration_modes`` are those of the migration parameter ``mode``; none in a QEMU before 8.2.
    """

    path: str
    device: int
    inode: int
    version: tuple[int, int, int]
    package: str
    newest_machines: dict[str, str]
    machines: list[str]
    deprecated_machines: int
    migration_modes: list[str]
    migration_capabilities: list[str]
    aux_ram_share: bool

    @property
    def version_text(self) -> str:
        return ".".join(str(part) for part in self.version)

    def as_dict(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "version": self.version_text,
            "package": self.package,
            "machines": {
                "count": len(self.machines),
                "deprecated": self.deprecated_machines,
                "newest": self.newest_machines,
            },
            "migration_modes": self.migration_modes,
            "migration_capabilities": self.migration_capabilities,
            "aux_ram_share": self.aux_ram_share,
        }


def abilities(path: str) -> QemuAbilities:
    """Ask a QEMU binary; it takes half a second.

    :raises HostmemError: missing, not executable, no QEMU, or it does not answer within 30 s.
    """
    # No machine needs an accelerator, but QEMU wants one; a program may lack the one or the other.
    words = [path, "-S", "-machine", "none,accel=tcg:kvm:qtest", "-nodefaults", "-no-user-config", "-display", "none"]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints:
        try:
            found = os.stat(path)
            with dialogue([*words, "-qmp", "stdio"], _TIMEOUT, complaints) as (asking, answers):
                session = _Session(asking, answers)
                told = _abilities(path, found, session)
                session.ask("quit")  # where the program is a script, killing it would leave QEMU behind
                return told
        except (OSError, ValueError, LookupError) as error:
            complaints.seek(0)
            raise HostmemError(
                f"{path} does not tell what it can do.",
                cause=str(error) or type(error).__name__,
                cure="Check that it is a QEMU system emulator, or reinstall the package that provides it.",
                qemu=complaints.read().strip()[-2000:],
            ) from error


class _Session:
    """QMP, one JSON a line; events are left out."""

    def __init__(self, asking: IO[str], answers: IO[str]) -> None:
        self._asking = asking
        self._answers = answers
        self.greeting = self._next()["QMP"]
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: Any) -> Any:
        """:raises LookupError: QEMU refused it."""
        self._asking.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._asking.flush()
        answer = self._next()
        while "event" in answer:
            answer = self._next()
        if "return" not in answer:
            raise LookupError(f"{command}: {answer.get('error', {}).get('desc', answer)}")
        return answer["return"]

    def _next(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line:
            raise OSError("it ended, or did not answer in time")
        found = json.loads(line)
        if not isinstance(found, dict):
            raise ValueError(f"this is no QMP: {line[:80]}")
        return found


def _abilities(path: str, found: os.stat_result, session: _Session) -> QemuAbilities:
    version = session.greeting["version"]
    number = version["qemu"]
    machines = session.ask("query-machines")
    properties = session.ask("qom-list-properties", typename="none-machine")
    return QemuAbilities(
        path=path,
        device=found.st_dev,
        inode=found.st_ino,
        version=(number["major"], number["minor"], number["micro"]),
        package=version["package"].strip(" ()"),
        newest_machines=newest_machines(machines),
        machines=[str(item["name"]) for item in machines],
        deprecated_machines=sum(bool(item.get("deprecated")) for item in machines),
        migration_modes=enumerated(session.ask("query-qmp-schema"), "migrate-set-parameters", "mode"),
        migration_capabilities=sorted(item["capability"] for item in session.ask("query-migrate-capabilities")),
        aux_ram_share=any(item["name"] == "aux-ram-share" for item in properties),
    )


def newest_machines(machines: list[dict[str, Any]]) -> dict[str, str]:
    """Machine types by their aliases. Of versioned ones, QEMU and distributions give these to the newest of each kind."""
    return {str(item["alias"]): str(item["name"]) for item in machines if item.get("alias")}


def enumerated(schema: list[dict[str, Any]], command: str, member: str) -> list[str]:
    """The values that a member of a command's arguments may have (query-qmp-schema); none when QEMU has no such command or member."""
    kinds = {item["name"]: item for item in schema}
    arguments = kinds.get(kinds.get(command, {}).get("arg-type", ""), {})
    for item in arguments.get("members", []):
        if item["name"] == member:
            return [str(value) for value in kinds[item["type"]].get("values", [])]
    return []
