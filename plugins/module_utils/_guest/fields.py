# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading untrusted mappings field by field, collecting every problem instead of stopping at the first."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .sizes import parse_size

# A disk's block node is called disk-ID, and node names have 31 characters at most (QEMU block.c).
IDENTIFIER = r"[A-Za-z][A-Za-z0-9_.-]{0,25}"
IDENTIFIER_HINT = "must begin with a letter and have only letters, digits, _ . -"


class Fields:
    """The fields of one mapping; what is wrong goes to the shared ``problems`` list as ``key: reason``.

    Every getter returns a usable value even after a problem, so that reading can go on.
    """

    def __init__(self, data: Any, where: str, problems: list[str]) -> None:
        self._where = where
        self.problems = problems
        self._seen: set[str] = set()
        if not isinstance(data, Mapping):
            problems.append(f"{where or 'definition'}: must be a mapping, not {type(data).__name__}")
            data = {}
        self._data = data

    def key(self, name: str) -> str:
        """The full key, for messages."""
        return f"{self._where}.{name}" if self._where else name

    def fail(self, name: str, reason: str) -> None:
        """Record a problem with one field."""
        self.problems.append(f"{self.key(name)}: {reason}")

    def raw(self, name: str) -> Any:
        """The value as given; None when absent."""
        self._seen.add(name)
        return self._data.get(name)

    def refuse(self, name: str, reason: str) -> None:
        """A key that is not to be there, with a reason of its own."""
        if name in self._data:
            self._seen.add(name)
            self.fail(name, reason)

    def text(self, name: str, default: str | None = None, pattern: str = "", hint: str = "") -> str:
        """A string; required when there is no default."""
        value = self.raw(name)
        if value is None:
            if default is None:
                self.fail(name, "is required")
            return default or ""
        if not isinstance(value, str) or (not value and default is None):
            self.fail(name, f"must be a non-empty text, not {value!r}")
            return default or ""
        value = str(value)
        if any(char in value for char in "\n\r\0"):
            self.fail(name, "has a line break or NUL, which no QEMU argument may contain")
        elif pattern and not re.fullmatch(pattern, value):
            self.fail(name, f"{value!r} {hint or 'does not match ' + pattern}")
        return value

    def path(self, name: str, default: str | None = None) -> str:
        """An absolute path without ``..``, ``//`` or a trailing slash."""
        value = self.text(name, default)
        if not value:
            return value
        parts = value.split("/")
        if parts[0] or any(part in ("", ".", "..") for part in parts[1:]):
            self.fail(name, f"{value!r} must be an absolute path without empty, '.' or '..' parts")
        elif "@" in value:
            self.fail(name, f"{value!r} has an '@', which marks the runtime's placeholders")
        return value

    def choice(self, name: str, choices: Sequence[str], default: str | None = None) -> str:
        """One of a few words."""
        value = self.text(name, default)
        if value and value not in choices:
            self.fail(name, f"{value!r} is not one of {', '.join(choices)}")
        return value

    def boolean(self, name: str, default: bool) -> bool:
        """A real boolean: the texts 'yes' and 'on' are refused, as YAML 1.1 and 1.2 disagree on them."""
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.fail(name, f"must be true or false, not {value!r}")
            return default
        return value

    def integer(self, name: str, default: int | None, low: int, high: int) -> int | None:
        """A whole number within bounds."""
        value = self.raw(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.fail(name, f"must be a whole number from {low} to {high}, not {value!r}")
            return default
        return int(value)

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """A number within bounds."""
        value = self.raw(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            self.fail(name, f"must be a number from {low} to {high}, not {value!r}")
            return default
        return float(value)

    def size(self, name: str) -> int | None:
        """A size in bytes; None when absent."""
        value = self.raw(name)
        if value is None:
            return None
        try:
            return parse_size(value)
        except ValueError as error:
            self.fail(name, str(error))
            return None

    def items(self, name: str) -> list[tuple[str, Any]]:
        """A list, as pairs of full key and element."""
        value = self.raw(name)
        if value is None:
            return []
        if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
            self.fail(name, f"must be a list, not {value!r}")
            return []
        return [(f"{self.key(name)}[{index}]", item) for index, item in enumerate(value)]

    def finish(self) -> None:
        """Report the keys nobody asked for."""
        for name in self._data:
            if name not in self._seen:
                known = ", ".join(sorted(self._seen))
                self.fail(str(name), f"is not known here (known: {known})")
