# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter hostmem.qemu.qemu_options."""

from __future__ import annotations

DOCUMENTATION = r"""
name: qemu_options
short_description: Write options the way QEMU reads them
version_added: 1.0.0
author: hostmem.qemu authors (@hostmem)
description:
  - Joins a dictionary to C(key=value,key=value). Commas in values are doubled, booleans are C(on) and C(off).
  - Keys keep their order. A key without a value (null) is left out; a list repeats its key.
positional: first
options:
  _input:
    description: The options.
    type: dict
    required: true
  first:
    description: What comes before the options, such as the name of a driver.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Write a device
  ansible.builtin.debug:
    msg: "{{ {'id': 'rng0', 'max-bytes': 1024} | hostmem.qemu.qemu_options('virtio-rng-pci') }}"

- name: Write a path with a comma
  ansible.builtin.debug:
    msg: "{{ {'path': '/srv/a,b', 'server': true} | hostmem.qemu.qemu_options(first='socket') }}"
"""

RETURN = r"""
_value:
  description: The options as one argument.
  type: str
  sample: virtio-rng-pci,id=rng0,max-bytes=1024
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ..module_utils._guest.qemu_options import format_options
from ..plugin_utils._plain import as_filter, plain


def qemu_options(value: Any, first: str = "") -> str:
    """See DOCUMENTATION."""
    options = plain(value)
    if not isinstance(options, dict):
        raise AnsibleFilterError(f"options must be a dictionary, not {type(options).__name__}")
    return format_options(options, plain(first))


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"qemu_options": as_filter(qemu_options)}
