# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Unit files and drop-ins of ours under /etc/systemd/system, and systemd's view of them (systemd.unit(5), systemctl(1))."""

from __future__ import annotations

import contextlib
import os
import string

from .errors import Refused
from .files import remove_file, write_text
from .own_files import HEADER, read_own
from .program_failures import program_failed
from .programs import required, run

DIRECTORY = "/etc/systemd/system"
# Where systemd looks for units, the first match wins (systemd.unit(5)). What generators make from fstab is not among them.
SEARCHED = (
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    DIRECTORY,
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
_PLAIN = frozenset(string.ascii_letters + string.digits + ":_.")


def systemd_runs() -> bool:
    """True when systemd is the host's process 1 (sd_booted(3))."""
    return os.path.isdir("/run/systemd/system")


def require_systemd(purpose: str, cure: str) -> None:
    """Refuse what only systemd can keep.

    :param purpose: what it is for, as the beginning of the message.
    :raises Refused: this host was not booted by systemd.
    :raises HostmemError: systemctl is not installed; with the package that has it.
    """
    if not systemd_runs():
        raise Refused(
            f"{purpose} needs systemd, which does not run on this host.", "There is no /run/systemd/system.", cure
        )
    required("systemctl")


def systemd_escape_path(path: str) -> str:
    """What ``systemd-escape --path`` makes of an absolute path: the name of its mount unit without the suffix.

    >>> systemd_escape_path("/mnt/huge-2M/")
    'mnt-huge\\\\x2d2M'
    """
    parts = [part for part in path.split("/") if part and part != "."]
    if not parts:
        return "-"
    text = ""
    for byte in "/".join(parts).encode("utf-8", "surrogateescape"):
        char = chr(byte)
        if char == "/":
            text += "-"
        elif char in _PLAIN and not (char == "." and not text):
            text += char
        else:
            text += f"\\x{byte:02x}"
    return text


def unit_path(name: str) -> str:
    """Where our unit, or our drop-in ``UNIT.d/NAME.conf``, lies."""
    return f"{DIRECTORY}/{name}"


def read_unit(name: str) -> str | None:
    """The text of our unit; None when there is no such file.

    :raises Refused: there is a file of that name which is not ours.
    """
    return read_own(unit_path(name))


def write_unit(name: str, text: str) -> bool:
    """Make our unit or drop-in have this text, below the header, and let systemd read it; True when something changed.

    :raises Refused: there is a file of that name which is not ours.
    :raises HostmemError: systemd did not read it.
    """
    whole = with_header(text)
    if read_unit(name) == whole:
        return False
    path = unit_path(name)
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    write_text(path, whole, 0o644)
    daemon_reload()
    return True


def with_header(text: str) -> str:
    """The file's content for a unit's text."""
    return f"{HEADER}\n{text}"


def remove_unit(name: str) -> bool:
    """Disable and remove our unit or drop-in, and the drop-in directory when it is empty then; True when it was there.

    :raises Refused: there is a file of that name which is not ours.
    """
    if read_unit(name) is None:
        return False
    if "/" not in name:
        disable(name)
    remove_file(unit_path(name))
    if "/" in name:
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(unit_path(name)))
    daemon_reload()
    return True


def is_enabled(name: str) -> bool:
    """True when the unit is started at boot."""
    return os.path.isfile(unit_path(name)) and _systemctl("is-enabled", name, fails=True).strip() == "enabled"


def enable(name: str) -> bool:
    """Let the unit be started at boot, not now; True when something changed.

    :raises HostmemError: systemctl failed.
    """
    if is_enabled(name):
        return False
    _systemctl("enable", name)
    return True


def disable(name: str) -> bool:
    """Let the unit not be started at boot any more; True when something changed.

    :raises HostmemError: systemctl failed.
    """
    if not is_enabled(name):
        return False
    _systemctl("disable", name)
    return True


def daemon_reload() -> None:
    """Let systemd read its units; nothing to do where it does not run.

    :raises HostmemError: systemctl failed.
    """
    if systemd_runs():
        _systemctl("daemon-reload")


def _systemctl(*words: str, fails: bool = False) -> str:
    done = run(["systemctl", *words])
    if done.returncode and not fails:
        raise program_failed(f"systemctl {' '.join(words)} failed.", "systemctl", done.stderr)
    return done.stdout
