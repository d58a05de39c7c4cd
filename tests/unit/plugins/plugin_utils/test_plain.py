# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible's tagged and lazy values become plain ones, which YAML and JSON write without help."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from ansible_collections.hostmem.qemu.plugins.plugin_utils._plain import plain

VALUE: dict[str, Any] = {"text": "a", "number": 1, "float": 0.5, "flag": True, "none": None, "list": [{"x": ["y"]}]}


def templated() -> Any:
    """The value as a variable whose content is templates."""
    templar = Templar(loader=DataLoader(), variables={"value": {**VALUE, "text": trust_as_template("{{ 'a' }}")}})
    return templar.template(trust_as_template("{{ value }}"))


def test_every_value_is_plain() -> None:
    def types(value: Any) -> set[type]:
        if isinstance(value, dict):
            return {type(value)}.union(*(types(key) | types(item) for key, item in value.items()))
        if isinstance(value, list):
            return {type(value)}.union(*(types(item) for item in value))
        return {type(value)}

    assert plain(templated()) == VALUE
    assert types(plain(templated())) == {dict, list, str, int, float, bool, type(None)}
    assert yaml.safe_load(yaml.safe_dump(plain(templated()))) == VALUE


@pytest.mark.parametrize("value", [True, 3, "x", 0.25, None])
def test_scalars_keep_their_type(value: Any) -> None:
    assert type(plain(value)) is type(value)
