# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which guests of this host, running or not, count on a namespace: by their definition, a checkpoint, or the record of what they were given.

The files are read as they are: one that this release would not take as a definition names a namespace all the same.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .._host.files import read_json, read_plain
from .._host.pmem import Namespace

_CHECKPOINTS = ("checkpoint", "checkpoint.spent")
_DEVICES = ".devices.json"
_UNREADABLE = (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError)


@dataclass(frozen=True)
class GuestFiles:
    """Where definitions and states lie."""

    definitions: str = "/etc/hostmem/guests"
    state: str = "/var/lib/hostmem"


def guest_files(path: str) -> GuestFiles:
    """By the runtime's configuration, or where they lie without one: a host that is taken back half may have none any more.

    :raises OSError: it cannot be read.
    :raises ValueError: it is no configuration.
    """
    data = read_json(path)
    if data is None:
        return GuestFiles()
    if not isinstance(data, dict):
        raise ValueError(f"{path} is no configuration")
    return GuestFiles(
        str(data.get("definitions", GuestFiles.definitions)),
        str(data.get("state", GuestFiles.state)),
    )


def guests_on(namespace: Namespace, files: GuestFiles) -> dict[str, str]:
    """By guest, what says that its memory is, or may be, on the namespace: a sentence each.

    :raises OSError: the directories cannot be read.
    """
    found: dict[str, str] = {}
    for guest, path, read in _records(files):
        try:
            if _speaks_of(read(path), namespace):
                found.setdefault(guest, f"{path} places memory of guest {guest} on it")
        except FileNotFoundError:
            continue
        except _UNREADABLE as error:
            found.setdefault(guest, f"{path} may place memory of guest {guest} on it, and cannot be read ({error})")
    return found


def _records(files: GuestFiles) -> Iterator[tuple[str, str, Callable[[str], Any]]]:
    for name in _names_in(files.definitions):
        if name.endswith(".json"):
            yield name[: -len(".json")], f"{files.definitions}/{name}", read_json
    for name in _names_in(files.state):
        if name.endswith(_DEVICES):
            yield name[: -len(_DEVICES)], f"{files.state}/{name}", read_json
        for checkpoint in _CHECKPOINTS:
            directory = f"{files.state}/{name}/{checkpoint}"
            if os.path.isdir(directory):
                yield name, f"{directory}/manifest", _manifest


def _names_in(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []


def _manifest(path: str) -> Any:
    """Its digest is not looked at: a damaged one counts as long as it can be read, and it does when not."""
    try:
        return json.loads(read_plain(path).partition(b"\n")[2])
    except FileNotFoundError as error:
        raise ValueError("it is missing") from error


def _speaks_of(data: Any, namespace: Namespace, key: str = "") -> bool:
    if isinstance(data, dict):
        return any(
            _speaks_of(name, namespace) or _speaks_of(value, namespace, str(name)) for name, value in data.items()
        )
    if isinstance(data, list):
        return any(_speaks_of(item, namespace, key) for item in data)
    return isinstance(data, str) and _means(data, namespace, key)


def _means(text: str, namespace: Namespace, key: str) -> bool:
    """By its UUID, by its name where a namespace is named, or by its device: also in an argument of QEMU's, or by a link such as udev's."""
    if namespace.uuid and namespace.uuid.lower() in text.lower():
        return True
    if key == "namespace" and namespace.name and text == namespace.name:
        return True
    if not namespace.device:
        return False
    path = f"/dev/{namespace.device}"
    if re.search(rf"{re.escape(path)}(?![0-9A-Za-z.])", text):
        return True
    return text.startswith("/dev/") and os.path.realpath(text) == path
