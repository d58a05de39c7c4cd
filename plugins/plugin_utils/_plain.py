# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Ansible gives to a filter, as plain Python values, and the engine's errors as a filter's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, TypeVar

from ansible.errors import AnsibleFilterError

from ..module_utils._guest.definition import Definition, parse_definition
from ..module_utils._guest.errors import DefinitionError, HostmemError
from ..module_utils._guest.fields import Fields

Result = TypeVar("Result")


def plain(value: Any) -> Any:
    """The same value without Ansible's tags and laziness: dict, list, str, bool, int, float or None.

    Ansible's containers and texts are subclasses of Python's that the engine, JSON and YAML need not know of.
    """
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (str, bool, int, float)):
        return _plain_scalar(value)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [plain(item) for item in value]
    return value


def _plain_scalar(value: Any) -> Any:
    for kind in (bool, int, float):
        if isinstance(value, kind):
            return kind(value)
    return str(value)


def definition_of(value: Any) -> Definition:
    """The checked definition a filter is given.

    :raises DefinitionError: with every problem.
    """
    return parse_definition(plain(value))


def part_of(value: Any, parse: Callable[..., Result], what: str, *more: Any) -> Result:
    """A checked part of a definition: a disk, a network interface, a console.

    :raises DefinitionError: with every problem.
    """
    problems: list[str] = []
    part = parse(Fields(plain(value), "", problems), *more)
    if problems:
        raise DefinitionError(problems, what)
    return part


def as_filter(function: Callable[..., Result]) -> Callable[..., Result]:
    """The function with its expected errors worded for a template's author."""

    @wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> Result:
        try:
            return function(*arguments, **options)
        except DefinitionError as error:
            raise AnsibleFilterError(error.message) from error
        except (HostmemError, ValueError) as error:
            raise AnsibleFilterError(str(error)) from error

    return wrapped
