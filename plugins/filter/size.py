# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter hostmem.qemu.size."""

from __future__ import annotations

DOCUMENTATION = r"""
name: size
short_description: Read a size, or write it for people
version_added: 1.0.0
author: hostmem.qemu authors (@hostmem)
description:
  - Turns a size such as V(256M) or V(4GiB) into bytes. Units are powers of 1024, as in QEMU.
  - With O(human=true), turns it into the shortest exact text with a unit.
options:
  _input:
    description: A number of bytes, or a text with a unit out of C(K), C(M), C(G) and C(T).
    type: raw
    required: true
  human:
    description: Return a text for people.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Make a disk image as large as the memory
  ansible.builtin.command:
    argv: [truncate, --size, "{{ '4G' | hostmem.qemu.size }}", /srv/image.raw]
    creates: /srv/image.raw

- name: Show a size from guest_info
  ansible.builtin.debug:
    msg: "{{ 268435456 | hostmem.qemu.size(human=true) }}"
"""

RETURN = r"""
_value:
  description: The size in bytes, or as a text with O(human=true).
  type: raw
  sample: 268435456
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ..module_utils._guest.sizes import format_size, parse_size
from ..plugin_utils._plain import as_filter, plain


def size(value: Any, human: bool = False) -> int | str:
    """See DOCUMENTATION."""
    given = plain(value)
    if not isinstance(given, (int, str)):
        raise AnsibleFilterError(f"a size is a number of bytes or a text like 256M, not {given!r}")
    number = parse_size(given)
    return format_size(number) if human else number


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"size": as_filter(size)}
