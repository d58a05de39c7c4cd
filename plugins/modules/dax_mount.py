#!/usr/bin/python
# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dax_mount
short_description: Manage mounts whose files are mapped straight from persistent memory
version_added: 1.0.0
description:
  - Makes an ext4 or xfs on a block device of persistent memory, and mounts it with DAX, now and at each boot.
  - "Success means that DAX is truly on, shown on a file without a name that is gone again: the mount's options as the kernel shows them, statx's
    attribute for DAX, and a mapping with C(MAP_SYNC). The mount options alone are no proof: xfs mounts with C(dax=always) and turns DAX off without an
    error where it cannot be had. Such a mount is an error, and taken back."
  - File systems are made with blocks of the size of a page, and laid out by 2 MiB, so that guests' memory is mapped by 2 MiB at once.
  - No file system is made over data unless the device is named in O(destroy_data). Data are signatures of file systems, partition tables and
    others, and without one any byte that is not zero. All of the device is read before it counts as empty, which takes minutes for a terabyte, and
    in check mode too. One that cannot be read counts as holding data.
  - Changes that a remount cannot make, such as that of O(dax), are made by a fresh mount when nobody uses the mount, and refused, with the users named,
    when somebody does.
  - While nothing is mounted there, the mount point is a directory that nothing can be made in (mode 000, immutable). A guest that starts too early
    would otherwise get an empty RAM file on the root disk, hidden by the mount later.
author:
  - hostmem.qemu authors (@hostmem)
options:
  state:
    description:
      - V(present) mounts.
      - V(absent) unmounts, and removes the unit of this module and the mount point. The file system and its files stay on the device.
        What fstab or somebody else's unit mounts there is left alone, which is an error.
    type: str
    choices: [present, absent]
    default: present
  path:
    description:
      - Mount point. It is made if it is missing. A directory with something in it is not mounted over.
    type: path
    required: true
  device:
    description:
      - Block device, such as V(/dev/pmem0), or a link to it below /dev/disk. The unit names the file system by its UUID, as the numbers of such devices
        may change from boot to boot.
      - Exactly one of O(device) and O(namespace) is needed with O(state=present).
    type: path
  namespace:
    description:
      - Namespace of persistent memory, by the name that M(hostmem.qemu.pmem_namespace) gave it, instead of O(device).
    type: str
  fstype:
    description:
      - File system. ext4 refuses a mount with C(dax=always) where DAX cannot be had.
    type: str
    choices: [ext4, xfs]
    default: ext4
  dax:
    description:
      - V(always) is DAX for all files.
      - V(inode) is DAX for files that have the flag for it, or were made in a directory that has it (C(xfs_io -c 'chattr +x')).
      - V(never) is none, on any block device.
    type: str
    choices: [always, inode, never]
    default: always
  options:
    description:
      - Further mount options, without those for DAX. They are compared with what the kernel shows of the mount. One that it never shows is
        applied by the next mount.
    type: list
    elements: str
    default: []
  persistent:
    description:
      - Whether it is mounted at each boot, by a systemd mount unit of this module. If not, such a unit is removed.
      - Where fstab or somebody else's unit says exactly the same already, there is none. If it says something else, that is an error. Neither is ever
        changed.
    type: bool
    default: true
  device_timeout:
    description:
      - Seconds that the mount waits for the device at boot, 90 by default in systemd. The host boots on meanwhile; guests wait for their mounts.
    type: int
    default: 300
  reflink:
    description:
      - Whether files in a new xfs can share blocks. With DAX that needs Linux 6.1 and a whole device, no partition. Memory in shared
        blocks is mapped by 4 KiB once it is written to.
    type: bool
    default: false
  destroy_data:
    description:
      - >-
        The device whose data may be lost, as in O(device) or O(namespace). A file system is made on it if what is there is another one or cannot
        have DAX. One that fits is always kept. M(hostmem.qemu.pmem_namespace) clears nothing, so that a namespace that it has made anew over data
        needs this here, too.
    type: str
extends_documentation_fragment:
  - hostmem.qemu.attributes
  - hostmem.qemu.attributes.platform
  - hostmem.qemu.attributes.actiongroup_hostmem
  - hostmem.qemu.foreseen
  - hostmem.qemu.unused
  - hostmem.qemu.unused.config
  - hostmem.qemu.attributes.full
requirements:
  - root on the host (C(become))
  - Linux 5.8
  - mkfs.ext4 (e2fsprogs) or mkfs.xfs (xfsprogs)
  - wipefs (util-linux)
  - systemd, with O(persistent=true)
seealso:
  - module: hostmem.qemu.pmem_namespace
  - module: hostmem.qemu.hugetlbfs_mount
"""

EXAMPLES = r"""
- name: Mount persistent memory for guests
  hostmem.qemu.dax_mount:
    path: /mnt/ram
    namespace: ram

- name: Use xfs, whatever was on the device
  hostmem.qemu.dax_mount:
    path: /mnt/pmem1
    device: /dev/pmem1
    fstype: xfs
    options: [noatime]
    destroy_data: /dev/pmem1

- name: Take the mount back; its files stay
  hostmem.qemu.dax_mount:
    path: /mnt/pmem0
    state: absent
"""

RETURN = r"""
mount:
  description: The mount as it is, or in check mode would be.
  returned: success
  type: dict
  contains:
    path:
      description: Mount point.
      returned: always
      type: str
      sample: /mnt/pmem0
    state:
      description: V(mounted) or V(absent).
      returned: always
      type: str
      sample: mounted
    device:
      description: Path of the device; V(null) in check mode for a namespace that is still to be made.
      returned: with O(state=present)
      type: str
      sample: /dev/pmem0
    namespace:
      description: Namespace of persistent memory that the device shows.
      returned: with O(state=present)
      type: str
      sample: namespace0.0
    align:
      description: Alignment of the namespace, in bytes.
      returned: with O(state=present)
      type: int
      sample: 2097152
    fstype:
      description: File system.
      returned: with O(state=present)
      type: str
      sample: ext4
    uuid:
      description: UUID of the file system; V(null) in check mode for a namespace that is still to be made.
      returned: with O(state=present)
      type: str
      sample: 6b0298ce-0fc6-4852-894d-0b82e03b7ab2
    block_size:
      description: Size of its blocks in bytes, V(null) for one that would be made.
      returned: with O(state=present)
      type: int
      sample: 4096
    dax:
      description: V(always), V(inode) or V(never).
      returned: with O(state=present)
      type: str
      sample: always
    options:
      description: Options of the mount as the kernel shows them now, V(null) where nothing is mounted.
      returned: with O(state=present)
      type: list
      elements: str
      sample: ["rw", "relatime", "rw", "dax=always", "stripe=512"]
    dax_files:
      description: Whether a file there was found to be mapped directly. V(null) where none could be tried, in check mode.
      returned: with O(state=present)
      type: bool
      sample: true
    map_sync:
      description: Whether a file there was mapped with C(MAP_SYNC).
      returned: with O(state=present)
      type: bool
      sample: true
    huge_page_share:
      description: Part of a file, 0 to 1, that is mapped by 2 MiB as the file system lays it out by itself.
      returned: with O(state=present)
      type: float
      sample: 1.0
    huge_page_share_aligned:
      description: The same of a file as this collection makes RAM files.
      returned: with O(state=present)
      type: float
      sample: 1.0
    guard:
      description: What keeps the mount point empty while nothing is mounted there, V(immutable), V(mode) where the file system below knows no such
        flag, or V(null) in check mode.
      returned: with O(state=present)
      type: str
      sample: immutable
    unit:
      description: Unit that mounts it at each boot.
      returned: with O(state=present)
      type: str
      sample: mnt-pmem0.mount
    configured_by:
      description: File and line of somebody else's configuration that says the same.
      returned: with O(state=present)
      type: str
      sample: null
diff:
  description: Mount point, file system and unit before and after, by path.
  returned: success
  type: dict
  contains:
    before:
      description: What there was.
      returned: always
      type: dict
      sample: {"/mnt/pmem0": {"state": "absent"}, "/dev/pmem0": {"file_system": null}}
    after:
      description: What there is.
      returned: always
      type: dict
      sample:
        /dev/pmem0: {"file_system": "ext4"}
        /mnt/pmem0: {"state": "mounted", "type": "ext4", "dax": "always", "options": ["noatime"], "guarded": true}
foreseen:
  description: What there would be afterwards, O(foreseen) included, for O(foreseen) of the tasks that follow.
  returned: in check mode
  type: dict
  sample: {"unmounted": ["/srv/dax"]}
error:
  description: What was wrong, as text for people in C(msg) and in parts here.
  returned: failure
  type: dict
  contains:
    message:
      description: What was wrong, and where.
      returned: always
      type: str
      sample: "Files on /dev/pmem0 cannot be mapped directly: it has no DAX."
    cause:
      description: Why it is so.
      returned: when known
      type: str
      sample: "A raw namespace is a block device without struct pages for its memory: no file on it can be mapped directly."
    cure:
      description: What to do about it.
      returned: when known
      type: str
      sample: Make namespace0.0 an fsdax namespace, or set dax to never.
"""

from dataclasses import replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.hostmem.qemu.plugins.module_utils._failures import failures_of
from ansible_collections.hostmem.qemu.plugins.module_utils._host.mount_configuration import normal
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.dax_mount_changes import apply_mount
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.dax_mount_plans import Plan
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.dax_mount_results import (
    described,
    presumptions,
    warnings,
)
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.dax_mounts import (
    device_of_namespace,
    plan_mount,
    plan_unmount,
)
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.dax_wish import Wish
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.foreseen import Foreseen, foreseen_in


def carry_out(params: dict[str, Any], check: bool, foreseen: Foreseen) -> Plan:
    """Plan, and unless ``check`` make it so.

    :raises HostmemError: something is refused, or failed and was taken back.
    """
    if params["state"] == "absent":
        plan = plan_unmount(normal(params["path"]))
    else:
        device = params["device"] or device_of_namespace(params["namespace"], foreseen)
        told = params["destroy_data"] or ""
        plan = plan_mount(
            Wish(
                point=normal(params["path"]),
                device=device,
                type=params["fstype"],
                dax=params["dax"],
                options=tuple(params["options"]),
                persistent=params["persistent"],
                reflink=params["reflink"],
                destroy=device if told and told == params["namespace"] else told,
                device_timeout=params["device_timeout"],
            ),
            foreseen,
        )
    return plan if check else apply_mount(plan)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "path": {"type": "path", "required": True},
            "device": {"type": "path"},
            "namespace": {"type": "str"},
            "fstype": {"type": "str", "choices": ["ext4", "xfs"], "default": "ext4"},
            "dax": {"type": "str", "choices": ["always", "inode", "never"], "default": "always"},
            "options": {"type": "list", "elements": "str", "default": []},
            "persistent": {"type": "bool", "default": True},
            "device_timeout": {"type": "int", "default": 300},
            "reflink": {"type": "bool", "default": False},
            "destroy_data": {"type": "str"},
            "config": {"type": "path"},
            "runtime": {"type": "path"},
            "foreseen": {"type": "dict"},
        },
        mutually_exclusive=[("device", "namespace")],
        required_if=[("state", "present", ["device", "namespace"], True)],
        supports_check_mode=True,
    )
    with failures_of(module, "The mount"):
        foreseen = foreseen_in(module.params["foreseen"] if module.check_mode else None)
        plan = carry_out(module.params, module.check_mode, foreseen)
        found = described(plan, module.check_mode)
    for text in [*warnings(plan), *presumptions(plan, foreseen)]:
        module.warn(text)
    more = {}
    if module.check_mode:
        gone = {plan.point} if plan.wish is None and plan.present is not None else set()
        points = (set(foreseen.unmounted) - {plan.point}) | gone
        more["foreseen"] = replace(foreseen, unmounted=tuple(sorted(points))).as_dict()
    module.exit_json(changed=plan.changed, mount=found, diff=plan.diff(), **more)


if __name__ == "__main__":
    main()
