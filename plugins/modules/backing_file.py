#!/usr/bin/python
# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: backing_file
short_description: Manage the files that guest RAM lives in
version_added: 1.0.0
description:
  - Creates, checks and removes the files in which QEMU keeps the RAM of a guest,
    named C(qemu_back_mem.OFFSET+SIZE.ID) with offset and size in hexadecimal.
  - The files have mode V(0600), in a directory with mode V(0700), both of QEMU's user and group. Their size is rounded up to the
    page size of the file system.
  - "Whether the file system has the space, or the pool the free huge pages, is checked before, all files taken together; what
    the memory of other guests may still grow by counts as taken. A tmpfs that is too small kills a guest without a message when
    it touches the memory."
  - "A file that any process maps is the memory of a guest: it is neither removed nor changed in length nor emptied."
  - The runtime makes the files of the guests that it starts by itself. This module is for whoever needs them without,
    before or after that.
author:
  - hostmem.qemu authors (@hostmem)
options:
  state:
    description:
      - V(present) makes the files, or checks those that are there.
      - V(absent) removes them, and their directory with the last file in it. On file systems that outlive the host's memory the
        content is overwritten first.
    type: str
    choices: [present, absent]
    default: present
  definition:
    description:
      - A guest, as P(hostmem.qemu.definition#filter) describes it. The files of its memory blocks are managed;
        a block of memory without a named file (memfd, or mode V(temp)) has none.
      - Exactly one of O(definition) and O(size) is needed.
    type: dict
  size:
    description:
      - Size of a single block, in bytes or with a unit of 1024 (V(256M), V(4G)).
    type: str
  directory:
    description:
      - Directory of a single block. It is made if it is missing, and belongs to RAM files alone.
    type: path
  offset:
    description:
      - Offset of a single block in QEMU's RAM space, in bytes. With QEMU's usual layout, V(0) for the first block.
    type: int
    default: 0
  id:
    description:
      - Name of a single block, the C(id) of QEMU's memory backend.
    type: str
    default: ram0
  filesystem:
    description:
      - The file system that must be under the directory of a single block.
      - V(dax) is one that is mounted with C(dax) or C(dax=always).
    type: str
    choices: [any, tmpfs, hugetlbfs, dax]
    default: any
  page_size:
    description:
      - Page size that the hugetlbfs under the directory of a single block must have, such as V(2M). Required with O(filesystem=hugetlbfs).
    type: str
  mode:
    description:
      - V(create) makes a missing file of a single block.
      - V(open) demands that there is one with exactly this offset, size and name. If there is not, the error lists the near misses.
    type: str
    choices: [create, open]
    default: create
  content:
    description:
      - What happens to the content of a file that is there already.
      - V(keep) leaves it. A file of another length than its name says is an error then.
      - V(zero) drops it, so that the file reads as zeros, as for a start of the guest from cold. It does not apply to blocks with
        mode V(open), whose content is what they are opened for.
    type: str
    choices: [keep, zero]
    default: keep
  owner:
    description:
      - Owner of files and directory, QEMU's user.
      - Without it, the user in O(config), or V(hostmem) if there is no such file.
    type: str
  group:
    description:
      - Group of files and directory.
      - Without it, the group in O(config), or V(hostmem) if there is no such file.
    type: str
  config:
    description:
      - Configuration of the runtime, which says who QEMU's user is.
    type: path
    default: /etc/hostmem/config.json
extends_documentation_fragment:
  - hostmem.qemu.attributes
  - hostmem.qemu.attributes.platform
  - hostmem.qemu.attributes.actiongroup_hostmem
  - hostmem.qemu.unused
  - hostmem.qemu.attributes.full
requirements:
  - root on the host (C(become))
seealso:
  - module: hostmem.qemu.guest
  - plugin: hostmem.qemu.layout
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Make the RAM files of a guest before it is started by hand
  hostmem.qemu.backing_file:
    definition: "{{ web1 }}"
    content: zero

- name: Make one file of 4 GiB in a tmpfs
  hostmem.qemu.backing_file:
    directory: /dev/shm/hostmem/web1
    size: 4G
    filesystem: tmpfs

- name: Make sure that the memory a guest left is still there
  hostmem.qemu.backing_file:
    directory: /mnt/pmem0/hostmem/web1
    size: 4G
    filesystem: dax
    mode: open

- name: Remove the RAM files of a guest
  hostmem.qemu.backing_file:
    definition: "{{ web1 }}"
    state: absent
"""

RETURN = r"""
files:
  description: The files, in the order of their blocks. In check mode, as they would be.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: Path of the file.
      returned: always
      type: str
      sample: /dev/shm/hostmem/web1/qemu_back_mem.0+10000000.ram0
    state:
      description: Whether it is there.
      returned: always
      type: str
      sample: present
    id:
      description: Name of the memory block.
      returned: always
      type: str
      sample: ram0
    offset:
      description: Offset of the block in QEMU's RAM space, in bytes.
      returned: always
      type: int
      sample: 0
    size:
      description: Length of the file, in bytes; 0 for a missing one.
      returned: always
      type: int
      sample: 268435456
    allocated:
      description: What the file really occupies, in bytes.
      returned: always
      type: int
      sample: 0
    mapped_by:
      description: Processes that map the file.
      returned: always
      type: list
      elements: int
      sample: []
diff:
  description: Files and directories before and after, by their paths.
  returned: success
  type: dict
  contains:
    before:
      description: What there was.
      returned: always
      type: dict
      sample: {"/dev/shm/hostmem/web1": {"state": "absent"}}
    after:
      description: What there is.
      returned: always
      type: dict
      sample: {"/dev/shm/hostmem/web1": {"state": "directory", "mode": "0700", "owner": "hostmem", "group": "hostmem"}}
error:
  description: What was wrong, as text for people in C(msg) and in parts here.
  returned: failure
  type: dict
  contains:
    message:
      description: What was wrong, and where.
      returned: always
      type: str
      sample: "Memory block ram0: not enough space in /dev/shm for 4G."
    cause:
      description: Why it is so.
      returned: when known
      type: str
      sample: 4G are needed, 1G are free, of which 256M belong to other guests' memory that is not touched yet.
    cure:
      description: What to do about it.
      returned: when known
      type: str
      sample: Enlarge the pool or mount, or stop guests.
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.hostmem.qemu.plugins.module_utils._failures import failures_of
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.backing_files import (
    FilePlan,
    Plan,
    apply_absent,
    apply_present,
    plan_absent,
    plan_present,
)
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.backing_state import FileState, file_state
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.config import DEFAULT_PATH, load_config
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.definition import parse_definition
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.device_names import resolved
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.errors import HostmemError
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.layout import PlacedBlock, layout
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.single_block import parse_single_block
from ansible_collections.hostmem.qemu.plugins.module_utils._host.users import User, find_user

SINGLE = ("size", "directory", "offset", "id", "filesystem", "page_size", "mode")


def blocks(params: dict[str, Any]) -> list[PlacedBlock]:
    """The blocks whose files are managed.

    :raises HostmemError: the parameters are wrong.
    """
    if params["definition"] is not None:
        placed_blocks = layout(resolved(parse_definition(params["definition"])))
        return [placed for placed in placed_blocks if placed.block.backing != "memfd"]
    placed = parse_single_block({key: params[key] for key in SINGLE})
    if placed.block.mode == "open" and params["content"] == "zero":
        raise HostmemError(
            "mode: open demands the content of the file, which content: zero would drop.",
            cure="Set content to keep, or mode to create.",
        )
    return [placed]


def owner(params: dict[str, Any]) -> User:
    """QEMU's user.

    :raises HostmemError: there is no such user or group.
    """
    name, group = params["owner"], params["group"]
    if (name is None or group is None) and os.path.exists(params["config"]):
        configured = load_config(params["config"]).user
        name, group = name or configured.name, group or configured.group
    name, group = name or "hostmem", group or "hostmem"
    try:
        return find_user(name, group)
    except KeyError as error:
        raise HostmemError(
            f"There is no user {name} or no group {group} on this host.",
            cure="Run the role hostmem.qemu.hypervisor, or name others in owner and group.",
        ) from error


def carry_out(params: dict[str, Any], check: bool) -> Plan:
    """Plan, and unless ``check`` make it so.

    :raises HostmemError: something is refused; nothing was changed.
    """
    wanted = blocks(params)
    if params["state"] == "absent":
        plan = plan_absent(wanted)
        if not check:
            apply_absent(plan)
        return plan
    user = owner(params)
    plan = plan_present(wanted, user, fresh=params["content"] == "zero")
    if not check:
        apply_present(plan, user)
    return plan


def described(plan: FilePlan, state: FileState) -> dict[str, Any]:
    """One file for the result."""
    return {
        "path": plan.placed.path,
        "state": "present" if state.exists else "absent",
        "id": plan.placed.block.id,
        "offset": plan.placed.offset,
        "size": state.size,
        "allocated": state.allocated,
        "mapped_by": list(state.mapped_by),
    }


def files(plan: Plan, check: bool) -> list[dict[str, Any]]:
    """The files as they are, or would be."""
    return [described(item, item.predicted if check else file_state(item.placed.path)) for item in plan.files]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "definition": {"type": "dict"},
            "size": {"type": "str"},
            "directory": {"type": "path"},
            "offset": {"type": "int", "default": 0},
            "id": {"type": "str", "default": "ram0"},
            "filesystem": {"type": "str", "choices": ["any", "tmpfs", "hugetlbfs", "dax"], "default": "any"},
            "page_size": {"type": "str"},
            "mode": {"type": "str", "choices": ["create", "open"], "default": "create"},
            "content": {"type": "str", "choices": ["keep", "zero"], "default": "keep"},
            "owner": {"type": "str"},
            "group": {"type": "str"},
            "config": {"type": "path", "default": DEFAULT_PATH},
            "runtime": {"type": "path"},
        },
        mutually_exclusive=[("definition", "size"), ("definition", "directory"), ("definition", "page_size")],
        required_one_of=[("definition", "size")],
        required_together=[("size", "directory")],
        supports_check_mode=True,
    )
    with failures_of(module, "The RAM files"):
        plan = carry_out(module.params, module.check_mode)
        found = files(plan, module.check_mode)
    module.exit_json(changed=plan.changed, files=found, diff=plan.diff())


if __name__ == "__main__":
    main()
