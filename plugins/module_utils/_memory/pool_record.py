# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of the pools is ours since the host's boot, so that no more is given back than was taken. It is gone with the pools at the next boot."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .._host.errors import HostmemError
from .._host.files import read_json, remove_file, write_json

PATH = "/run/hostmem-hugepages.json"
# A directory that is always there: a lock file would be left behind.
_LOCK = "/sys/kernel/mm"


@dataclass
class PoolRecord:
    """For one page size: ``pages`` of ours by node, and the limit of surplus pages (``overcommit``) that was there before ours."""

    pages: dict[int, int] = field(default_factory=dict)
    overcommit: int | None = None

    def add(self, node: int, known: int, pages: int) -> None:
        """Note pages that were got (or given back, below 0).

        :param known: pages of the node that were ours already when nothing is noted of it.
        """
        self.pages[node] = max(0, self.pages.get(node, known) + pages)


def load_record(page_size: int, path: str = PATH) -> PoolRecord:
    """What was noted of a page size.

    :raises HostmemError: the file cannot be read.
    """
    data = _load(path).get(str(page_size), {})
    return PoolRecord({int(node): int(pages) for node, pages in data.get("pages", {}).items()}, data.get("overcommit"))


def store_record(page_size: int, record: PoolRecord, path: str = PATH) -> None:
    """Note it; a record without anything is forgotten."""
    data = _load(path)
    entry: dict[str, Any] = {"pages": {str(node): pages for node, pages in sorted(record.pages.items())}}
    if record.overcommit is not None:
        entry["overcommit"] = record.overcommit
    if record.pages or record.overcommit is not None:
        data[str(page_size)] = entry
    else:
        data.pop(str(page_size), None)
    if data:
        write_json(path, data)
    else:
        remove_file(path)


def _load(path: str) -> dict[str, Any]:
    try:
        data = read_json(path)
    except (OSError, ValueError) as error:
        raise HostmemError(f"{path} cannot be read: {error}", cure="Remove it.") from error
    return data if isinstance(data, dict) else {}


@contextlib.contextmanager
def pools_locked(path: str = _LOCK) -> Iterator[None]:
    """One change of the pools at a time: each begins with what it reads."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
