# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter hostmem.qemu.argv."""

from __future__ import annotations

DOCUMENTATION = r"""
name: argv
short_description: Render QEMU's arguments for a guest
version_added: 1.0.0
author: hostmem.qemu authors (@hostmem)
description:
  - Renders the arguments of QEMU from a guest's definition with Jinja2 templates. They are a list, never a shell string.
  - "The same definition and templates give the same list. It is parsed again and held against the definition, so that a
    template of your own cannot break what the definition says."
  - In the arguments, C(@generation@) and C(@log@) stand for directories that the runtime fills in whenever it starts a QEMU.
options:
  _input:
    description: The guest, as for P(hostmem.qemu.definition#filter).
    type: dict
    required: true
  templates:
    description:
      - Directories of templates that replace those of the collection of the same name
        (C(qemu.argv.j2) and what it includes, under C(roles/guest/templates) of the collection).
      - The templates write one argument a line.
    type: list
    elements: path
    default: []
seealso:
  - module: hostmem.qemu.guest
  - plugin: hostmem.qemu.definition
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Define a guest
  hostmem.qemu.guest:
    name: "{{ web1.name }}"
    definition: "{{ web1 }}"
    argv: "{{ web1 | hostmem.qemu.argv }}"

- name: Define a guest with templates of your own
  hostmem.qemu.guest:
    name: "{{ web1.name }}"
    definition: "{{ web1 }}"
    argv: "{{ web1 | hostmem.qemu.argv(templates=[playbook_dir ~ '/templates/qemu']) }}"
"""

RETURN = r"""
_value:
  description: The arguments, without the program itself and without those that the runtime adds.
  type: list
  elements: str
  sample: ["-nodefaults", "-machine", "pc-q35-10.0,accel=kvm,memory-backend=ram0,aux-ram-share=on"]
"""

from collections.abc import Callable, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from jinja2 import TemplateError

from ..plugin_utils._plain import as_filter, definition_of, plain
from ..plugin_utils._render import render_argv


def argv(value: Any, templates: Sequence[str] = ()) -> list[str]:
    """See DOCUMENTATION."""
    directories = plain(templates)
    if isinstance(directories, str) or not all(isinstance(item, str) for item in directories):
        raise AnsibleFilterError("templates must be a list of directories")
    try:
        return render_argv(definition_of(value), directories)
    except TemplateError as error:
        name, line = getattr(error, "name", None), getattr(error, "lineno", None)
        raise AnsibleFilterError(
            f"A template of QEMU's arguments is wrong{f' ({name}, line {line})' if name else ''}: {error}"
        ) from error


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"argv": as_filter(argv)}
