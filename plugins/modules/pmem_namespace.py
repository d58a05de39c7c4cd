#!/usr/bin/python
# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pmem_namespace
short_description: Manage namespaces of persistent memory for guests' RAM
version_added: 1.0.0
description:
  - "Makes of a region of persistent memory the two kinds of namespaces that guests' RAM can live in: C(fsdax), a block device for a file
    system (see M(hostmem.qemu.dax_mount)), and C(devdax), a character device for one guest."
  - A namespace with data in it is neither destroyed nor changed unless it is named in O(destroy_data). Data are signatures of file systems,
    partition tables and others, and without one any byte that is not zero, as a guest's RAM has no signature. All of the namespace is read before
    it counts as empty, which takes minutes for a terabyte.
    A namespace that is disabled is enabled for a moment to be looked at, and disabled again, in check mode too.
  - A namespace that is mounted, or that a process has open or mapped, is never destroyed or changed.
  - The alignment is always given to C(ndctl), which otherwise keeps that of an earlier namespace.
  - Sizes and regions that cannot be are refused before anything changes, with the next sizes that can.
  - A memory module whose label area is empty gets labels when its region holds no data, so that the region can be divided and namespaces have names.
author:
  - hostmem.qemu authors (@hostmem)
options:
  state:
    description:
      - V(present) makes the namespace, or changes it to be as described.
      - V(absent) destroys it.
    type: str
    choices: [present, absent]
    default: present
  name:
    description:
      - Name of the namespace, stored in its label. The namespace is found again by it.
      - Without it, the only namespace of O(mode) in O(region) is meant. A region without label area cannot store a name.
    type: str
  region:
    description:
      - Region, such as V(region0). It can be left out where there is only one, or where O(name) is found.
    type: str
  mode:
    description:
      - V(fsdax) is a block device whose files can be mapped directly.
      - V(devdax) is a character device that can be mapped directly, without files.
    type: str
    choices: [fsdax, devdax]
    default: fsdax
  size:
    description:
      - What the namespace takes of the region, its page map included, in bytes or with a unit of 1024 (V(64G)). A multiple of the region's own
        alignment, mostly 16 MiB, and of O(align) on each memory module.
      - Unless set, a new namespace gets the largest free stretch, and an existing one keeps its size.
    type: str
  align:
    description:
      - Alignment of the namespace. A V(devdax) is mapped in pages of this size only, and C(align) of QEMU's memory backend must be a multiple of it.
    type: str
    choices: [4K, 2M, 1G]
    default: 2M
  map:
    description:
      - Where the kernel keeps its page map, 64 bytes for each 4 KiB.
      - V(dev) is in the namespace itself, V(mem) in ordinary memory.
    type: str
    choices: [dev, mem]
    default: dev
  destroy_data:
    description:
      - The namespace whose data may be lost, by its name or its device name such as V(namespace0.0).
      - With O(state=present) one in another mode, or with another name, is made anew as described if there is no room for a further one.
      - Nothing is cleared. The bytes stay in the memory, and M(hostmem.qemu.dax_mount) makes a file system over them only if its
        O(hostmem.qemu.dax_mount#module:destroy_data) names the device, too.
    type: str
  keep_data:
    description:
      - With O(state=absent), a namespace that holds data, cannot be read or is in use stays, with a warning, unless it is named in O(destroy_data).
        Otherwise that is an error.
      - So does one that a guest of this host counts on, by its definition or its checkpoint, whether it runs or not.
      - So do several that can be meant, the only one of its O(mode) where neither O(name) nor O(region) is set, and every one where C(ndctl) is not
        installed.
    type: bool
    default: false
  config:
    description:
      - Configuration of the runtime, which says where definitions and checkpoints of guests are, for O(keep_data). It need not be there.
    type: path
    default: /etc/hostmem/config.json
extends_documentation_fragment:
  - hostmem.qemu.attributes
  - hostmem.qemu.attributes.platform
  - hostmem.qemu.attributes.actiongroup_hostmem
  - hostmem.qemu.foreseen
  - hostmem.qemu.unused
  - hostmem.qemu.attributes.full
requirements:
  - root on the host (C(become))
  - ndctl
  - wipefs (util-linux)
seealso:
  - module: hostmem.qemu.dax_mount
notes:
  - In check mode, what the kernel and ndctl decide is not known yet and V(null), such as RV(namespace.blockdev).
"""

EXAMPLES = r"""
- name: Make a namespace for a file system of all the persistent memory on node 1
  hostmem.qemu.pmem_namespace:
    name: ram
    region: region1

- name: Make a device of 64 GiB for one guest beside it
  hostmem.qemu.pmem_namespace:
    name: db1
    region: region0
    mode: devdax
    size: 64G

- name: Replace the raw namespace that the firmware left, with whatever is on it
  hostmem.qemu.pmem_namespace:
    name: ram
    region: region0
    destroy_data: namespace0.0

- name: Destroy a namespace
  hostmem.qemu.pmem_namespace:
    name: db1
    mode: devdax
    state: absent
    destroy_data: db1

- name: Destroy a namespace unless it holds something
  hostmem.qemu.pmem_namespace:
    name: ram
    state: absent
    keep_data: true
"""

RETURN = r"""
namespace:
  description: The namespace as it is, or in check mode would be. V(null) with O(state=absent), unless it was kept (O(keep_data)).
  returned: success
  type: dict
  contains:
    dev:
      description: Device name.
      returned: always
      type: str
      sample: namespace0.0
    region:
      description: Region that it lies in.
      returned: always
      type: str
      sample: region0
    name:
      description: Name in its label.
      returned: always
      type: str
      sample: ram
    mode:
      description: V(fsdax) or V(devdax).
      returned: always
      type: str
      sample: fsdax
    map:
      description: Where its page map is.
      returned: always
      type: str
      sample: dev
    align:
      description: Alignment in bytes.
      returned: always
      type: int
      sample: 2097152
    size:
      description: Bytes that a file system or guest can have.
      returned: always
      type: int
      sample: 526385152
    raw_size:
      description: Bytes that it takes of its region.
      returned: always
      type: int
      sample: 536870912
    blockdev:
      description: Path of the block device of a V(fsdax) namespace.
      returned: always
      type: str
      sample: /dev/pmem0
    chardev:
      description: Path of the character device of a V(devdax) namespace.
      returned: always
      type: str
      sample: null
    numa_node:
      description: NUMA node of the memory, V(null) where the kernel knows none.
      returned: always
      type: int
      sample: 1
    persistence_domain:
      description:
        - What is safe when the power fails. V(cpu_cache) is everything that was stored, V(memory_controller) what was flushed from the caches.
        - V(unknown) where the firmware does not say.
      returned: always
      type: str
      sample: memory_controller
    uuid:
      description: UUID of the namespace's contents; a new one each time it is made.
      returned: always
      type: str
      sample: f7c0b955-da83-4fb1-983c-345921a797f7
kept:
  description: Why the namespace stays.
  returned: when O(keep_data) has kept it
  type: str
  sample: "namespace1.0 holds data and stays: ext4. If that may be lost, set destroy_data to ram."
diff:
  description: The namespace before and after.
  returned: success
  type: dict
  contains:
    before:
      description: What there was.
      returned: always
      type: dict
      sample: {"state": "absent"}
    after:
      description: What there is.
      returned: always
      type: dict
      sample: {"state": "present", "region": "region0", "name": "ram", "mode": "fsdax", "map": "dev", "align": 2097152, "size": 536870912}
foreseen:
  description: What there would be afterwards, O(foreseen) included, for O(foreseen) of the tasks that follow.
  returned: in check mode
  type: dict
  sample: {"packages": ["ndctl"], "regions": []}
error:
  description: What was wrong, as text for people in C(msg) and in parts here.
  returned: failure
  type: dict
  contains:
    message:
      description: What was wrong, and where.
      returned: always
      type: str
      sample: region0 cannot have a namespace of 100M.
    cause:
      description: Why it is so.
      returned: when known
      type: str
      sample: "Sizes of namespaces are multiples of the region's own alignment of 16M."
    cure:
      description: What to do about it.
      returned: when known
      type: str
      sample: "Sizes that fit: 96M, 112M."
"""

from dataclasses import replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.hostmem.qemu.plugins.module_utils._failures import failures_of
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.config import DEFAULT_PATH
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.sizes import parse_size
from ansible_collections.hostmem.qemu.plugins.module_utils._host.pmem import Namespace
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.arguments import wrong_argument
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.foreseen import Foreseen, foreseen_in
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.namespaces import (
    Plan,
    Wish,
    apply,
    described,
    plan_absent,
    plan_absent_without_data,
    plan_present,
    presumptions,
    regions_after,
    regions_seen,
)


def wish(params: dict[str, Any]) -> Wish:
    """What the parameters ask for.

    :raises HostmemError: the size is none.
    """
    try:
        size = parse_size(params["size"]) if params["size"] else None
    except ValueError as error:
        raise wrong_argument("size", str(error)) from error
    return Wish(
        name=params["name"] or "",
        region=params["region"] or "",
        mode=params["mode"],
        align=parse_size(params["align"]),
        map=params["map"],
        size=size,
        destroy=params["destroy_data"] or "",
    )


def carry_out(params: dict[str, Any], check: bool, foreseen: Foreseen) -> tuple[Plan, Namespace | None]:
    """Plan, and unless ``check`` make it so.

    :raises HostmemError: something is refused, or ndctl failed.
    """
    wanted = wish(params)
    if params["state"] == "present":
        plan = plan_present(wanted, foreseen)
    elif params["keep_data"]:
        plan = plan_absent_without_data(wanted, foreseen, params["config"])
    else:
        plan = plan_absent(wanted, foreseen)
    return plan, plan.predicted() if check else apply(plan)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "name": {"type": "str"},
            "region": {"type": "str"},
            "mode": {"type": "str", "choices": ["fsdax", "devdax"], "default": "fsdax"},
            "size": {"type": "str"},
            "align": {"type": "str", "choices": ["4K", "2M", "1G"], "default": "2M"},
            "map": {"type": "str", "choices": ["dev", "mem"], "default": "dev"},
            "destroy_data": {"type": "str"},
            "keep_data": {"type": "bool", "default": False},
            "config": {"type": "path", "default": DEFAULT_PATH},
            "runtime": {"type": "path"},
            "foreseen": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    with failures_of(module, "The namespace"):
        foreseen = foreseen_in(module.params["foreseen"] if module.check_mode else None)
        plan, namespace = carry_out(module.params, module.check_mode, foreseen)
        found = described(namespace, regions_seen(foreseen)) if namespace else None
        more: dict[str, Any] = {}
        if plan.kept:
            module.warn(plan.kept)
            more["kept"] = plan.kept
        if module.check_mode:
            for text in presumptions(plan, foreseen):
                module.warn(text)
            # Without a region nothing was found, or looked for: there is nothing to add.
            after = replace(foreseen, regions=regions_after(plan, regions_seen(foreseen))) if plan.region else foreseen
            more["foreseen"] = after.as_dict()
    module.exit_json(changed=plan.changed, namespace=found, diff=plan.diff(), **more)


if __name__ == "__main__":
    main()
