# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether two definitions are the same, one of them perhaps kept by an earlier release, which knew fewer keys. Pure: no I/O."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

from .definition import Definition, parse_definition
from .errors import DefinitionError


def is_same(kept: Any, definition: Definition) -> bool:
    """Whether what ``Definition.as_dict`` gave once, in this release or an earlier one, is this definition."""
    try:
        return parse_definition(kept).as_written == definition.as_written
    except DefinitionError:  # nothing that this release could define
        return False


def distinct(value: Any) -> Any:
    """What makes a dataclass this one and no other, JSON-able: its fields, without those that have their defaults.

    So a field that a later release adds changes nothing, as long as the default in its class is what guests had before there was one.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: distinct(getattr(value, field.name))
            for field in fields(value)
            if getattr(value, field.name) != _default(field)
        }
    if isinstance(value, (list, tuple)):
        return [distinct(item) for item in value]
    return value


def _default(field: Field[Any]) -> Any:
    """MISSING, which equals nothing else, for a field that must be given."""
    return field.default if field.default_factory is MISSING else field.default_factory()
