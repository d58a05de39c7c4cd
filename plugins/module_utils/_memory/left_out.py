# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a report does not say, and why: one thing that cannot be read keeps nobody from the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .._host.errors import HostmemError


class LeftOut:
    """Subjects with the reasons, each pair once."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], None] = {}

    def add(self, subject: str, reason: str) -> None:
        """``subject`` is what the report lacks, such as ``pmem``."""
        self._found[subject, reason] = None

    @contextmanager
    def around(self, subject: str) -> Iterator[None]:
        """Whatever is raised within becomes a reason."""
        try:
            yield
        except PermissionError as error:
            where = f"{error.filename}: " if error.filename else ""
            self.add(subject, f"{where}{error.strerror or error}; set become to true")
        except (OSError, ValueError, LookupError, HostmemError, RuntimeError) as error:
            self.add(subject, str(error) or type(error).__name__)

    def as_list(self) -> list[dict[str, str]]:
        return [{"subject": subject, "reason": reason} for subject, reason in self._found]
