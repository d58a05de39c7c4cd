# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a guest needs to know of the QEMU that is installed: asked once for each file, and remembered."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from .._host.files import read_json, write_json
from .._host.programs import TimeoutExpired, run
from .errors import HostmemError
from .qemu_abilities import abilities

_TIMEOUT = 20.0


@dataclass(frozen=True)
class QemuBinary:
    """An installed QEMU; ``package`` is the packager's text in its version, the same as query-version's.

    ``data_directories`` are where it looks for firmware.
    """

    path: str
    device: int
    inode: int
    version: tuple[int, int, int]
    package: str
    machines: list[str]
    data_directories: list[str]

    @property
    def version_text(self) -> str:
        return ".".join(str(part) for part in self.version)

    def as_dict(self) -> dict[str, str]:
        return {"path": self.path, "version": self.version_text, "package": self.package}


def probe(path: str, cache_directory: str = "") -> QemuBinary:
    """Ask a QEMU binary for version and machine types; cached by the file's identity where a directory is given.

    :raises HostmemError: missing, not executable, or it does not answer in time.
    """
    try:
        found = os.stat(path)
    except OSError as error:
        raise HostmemError(
            f"There is no QEMU at {path}.",
            cause=str(error),
            cure="Install the package that provides it, or correct qemu in the definition.",
        ) from error
    key = f"{found.st_dev}-{found.st_ino}-{found.st_mtime_ns}-{found.st_size}"
    cache = f"{cache_directory}/qemu-{key}.json" if cache_directory else ""
    data = _read_cache(cache)
    if data is None:
        data = _ask(path)
        _write_cache(cache, data)
    return QemuBinary(
        path,
        found.st_dev,
        found.st_ino,
        tuple(data["version"]),
        data["package"],
        list(data["machines"]),
        list(data["data_directories"]),
    )


def _read_cache(cache: str) -> dict[str, Any] | None:
    try:
        data = read_json(cache) if cache else None
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


def _write_cache(cache: str, data: dict[str, Any]) -> None:
    if cache:
        with suppress(OSError):  # a cache that cannot be written only costs time
            write_json(cache, data)


def _ask(path: str) -> dict[str, Any]:
    told = abilities(path)
    # QMP does not tell where it looks for firmware.
    directories = [line.strip() for line in _run(path, "-L", "help").splitlines() if line.startswith("/")]
    return {
        "version": list(told.version),
        "package": told.package,
        "machines": told.machines,
        "data_directories": directories,
    }


def _run(path: str, *words: str) -> str:
    try:
        done = run([path, *words], _TIMEOUT)
    except (OSError, TimeoutExpired) as error:
        raise HostmemError(
            f"{path} {' '.join(words)} cannot be run.", cause=str(error), cure="Reinstall the package that provides it."
        ) from error
    if done.returncode:
        raise HostmemError(
            f"{path} {' '.join(words)} failed.",
            cure="Reinstall the package that provides it.",
            qemu=done.stderr.strip()[-2000:],
        )
    return done.stdout
