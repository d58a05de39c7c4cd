# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter hostmem.qemu.layout."""

from __future__ import annotations

DOCUMENTATION = r"""
name: layout
short_description: Tell where the memory of a guest lies
version_added: 1.0.0
author: hostmem.qemu authors (@hostmem)
description:
  - Tells for each memory block of a guest its offset in QEMU's RAM space and the path of its file.
  - "The offset is where QEMU places the memory of a guest at its start; the runtime holds it against the real QEMU before the
    guest runs."
options:
  _input:
    description: The guest, as for P(hostmem.qemu.definition#filter).
    type: dict
    required: true
seealso:
  - module: hostmem.qemu.backing_file
  - plugin: hostmem.qemu.definition
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the RAM files of a guest
  ansible.builtin.debug:
    msg: "{{ web1 | hostmem.qemu.layout | map(attribute='path') }}"
"""

RETURN = r"""
_value:
  description: The blocks in order.
  type: list
  elements: dict
  contains:
    id:
      description: Name of the block.
      returned: always
      type: str
      sample: ram0
    offset:
      description: Offset in QEMU's RAM space, in bytes.
      returned: always
      type: int
      sample: 0
    size:
      description: Size in bytes.
      returned: always
      type: int
      sample: 268435456
    file_name:
      description: Name of the file; empty when the block has no named file.
      returned: always
      type: str
      sample: qemu_back_mem.0+10000000.ram0
    path:
      description: Path of the file; empty when the block has no named file.
      returned: always
      type: str
      sample: /dev/shm/hostmem/web1/qemu_back_mem.0+10000000.ram0
    directory:
      description: Directory of the file; empty with memfd.
      returned: always
      type: str
      sample: /dev/shm/hostmem/web1
    backing:
      description: As defined; so are C(page_size), C(numa_node), C(host_nodes), C(policy), C(mmap), C(mode), C(filesystem) and C(prealloc).
      returned: always
      type: str
      sample: tmpfs
"""

from collections.abc import Callable
from typing import Any

from ..module_utils._guest.layout import layout as placed_blocks
from ..plugin_utils._plain import as_filter, definition_of


def layout(value: Any) -> list[dict[str, Any]]:
    """See DOCUMENTATION."""
    return [placed.as_dict() for placed in placed_blocks(definition_of(value))]


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"layout": as_filter(layout)}
