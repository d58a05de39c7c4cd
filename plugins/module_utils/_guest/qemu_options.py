# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""QEMU's ``key=value,key=value`` option syntax (qemu-options, util/qemu-option.c): commas in values are doubled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Union

Value = Union[str, int, bool]


def format_value(value: Value) -> str:
    """One value as QEMU reads it: on/off for booleans, commas doubled."""
    if isinstance(value, bool):
        return "on" if value else "off"
    text = str(value)
    if "\n" in text or "\0" in text:
        raise ValueError(f"{text!r} has a line break or NUL, which no QEMU option may contain")
    return text.replace(",", ",,")


def format_options(options: Mapping[str, Any], first: str = "") -> str:
    """``{"id": "ram0", "share": True}`` with first ``memory-backend-file`` -> ``memory-backend-file,id=ram0,share=on``.

    Keys keep their order; None leaves a key out; a list repeats it.
    """
    parts = [format_value(first)] if first else []
    for key, value in options.items():
        if value is None:
            continue
        for item in value if isinstance(value, (list, tuple)) else [value]:
            parts.append(f"{key}={format_value(item)}")
    return ",".join(parts)


def is_on(value: str | None) -> bool:
    """What QEMU takes for a true boolean (qapi_bool_parse())."""
    return value in ("on", "yes", "true", "y")


def split_options(text: str) -> list[str]:
    """Split at single commas and undouble the others."""
    parts = [""]
    position = 0
    while position < len(text):
        char = text[position]
        if char == "," and text[position + 1 : position + 2] == ",":
            parts[-1] += ","
            position += 1
        elif char == ",":
            parts.append("")
        else:
            parts[-1] += char
        position += 1
    return parts


def parse_options(text: str, implied: str = "") -> dict[str, str]:
    """The options as a dictionary; ``implied`` names the key of a first part without ``=``.

    A JSON object (which QEMU accepts for -object, -device, -netdev, -blockdev) is read too, its booleans as on/off.
    Of a repeated key the last one counts, except that repeated values are all kept, joined by commas.
    """
    if text.startswith("{"):
        return {key: _plain(value) for key, value in json.loads(text).items()}
    result: dict[str, str] = {}
    for index, part in enumerate(split_options(text)):
        key, equals, value = part.partition("=")
        if not equals:
            key, value = (implied, part) if index == 0 and implied else (part, "on")
        result[key] = f"{result[key]},{value}" if key in result else value
    return result


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return ",".join(_plain(item) for item in value)
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else str(value)
