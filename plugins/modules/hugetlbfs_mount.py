#!/usr/bin/python
# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hugetlbfs_mount
short_description: Manage mounts of hugetlbfs
version_added: 1.0.0
description:
  - Mounts hugetlbfs with a page size and limits, now and at each boot. There can be several mounts side by side, all taking their pages from the
    pools that M(hostmem.qemu.hugepages) manages.
  - What the kernel shows of a mount is compared with what is wanted, in its own units. It rounds limits down to whole pages, and turns
    percentages into bytes when the mount is made.
  - The kernel ignores new limits and another page size in a remount, without an error. The mount is therefore made anew when nobody uses it, and
    that is refused, with the users named, when somebody does. Owner and mode are changed at any time, and a mount that is read-only is made
    writable, which is what a remount can do.
  - Nothing but hugetlbfs is ever mounted or unmounted.
author:
  - hostmem.qemu authors (@hostmem)
options:
  state:
    description:
      - V(present) mounts.
      - V(absent) unmounts, removes the unit of this module, and the mount point if it is empty. What fstab or somebody else's unit mounts there
        is left alone, which is an error.
    type: str
    choices: [present, absent]
    default: present
  path:
    description:
      - Mount point. It is made if it is missing. A directory with something in it is not mounted over.
    type: path
    required: true
  page_size:
    description:
      - Size of the pages, any that the kernel has pools for.
    type: str
    default: 2M
  size:
    description:
      - What the files in the mount can take together, in bytes, with a unit of 1024 (V(4G)), or as a share of the pool as it is when the
        mount is made (V(50%)). Unlimited unless set.
      - A mount in use keeps what its percentage came to when the pool is changed later, with a warning.
    type: str
  min_size:
    description:
      - What is reserved in the pool for this mount, in the same forms. Nothing unless set.
    type: str
  nr_inodes:
    description:
      - Number of files and directories that there can be, the root directory among them. Unlimited unless set.
    type: int
  uid:
    description:
      - Owner of the root directory, by name or number.
    type: str
    default: "0"
  gid:
    description:
      - Group of the root directory, by name or number.
    type: str
    default: "0"
  mode:
    description:
      - Permissions of the root directory, in octal.
    type: str
    default: "0755"
  persistent:
    description:
      - Whether the mount comes back at each boot, by a systemd mount unit of this module. C(/etc/fstab) is never changed.
      - Where C(/etc/fstab) or another unit configures the same mount already, no unit is made. Where they configure another one at
        that place, this is refused with file and line. A line with C(ro), with C(noauto) or with words that nobody knows is another one.
      - With V(false) a unit that an earlier run made is removed.
    type: bool
    default: true
  discard_files:
    description:
      - Whether files in a mount that has to go or to be made anew may be lost. They hold the memory of guests that were stopped, or were left by
        programs that are gone.
    type: bool
    default: false
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
  - systemd with O(persistent=true)
seealso:
  - module: hostmem.qemu.hugepages
"""

EXAMPLES = r"""
- name: Mount pages of 2 MiB for guests
  hostmem.qemu.hugetlbfs_mount:
    path: /srv/huge-2M
    page_size: 2M
    size: 8G
    gid: hostmem
    mode: "0770"

- name: Mount pages of 1 GiB, two of which are kept for this mount
  hostmem.qemu.hugetlbfs_mount:
    path: /srv/huge-1G
    page_size: 1G
    min_size: 2G

- name: Unmount again
  hostmem.qemu.hugetlbfs_mount:
    path: /srv/huge-2M
    state: absent
"""

RETURN = r"""
mount:
  description: The mount. In check mode, as it would be.
  returned: success
  type: dict
  contains:
    path:
      description: Mount point.
      returned: always
      type: str
      sample: /srv/huge-2M
    state:
      description: V(mounted) or V(absent).
      returned: always
      type: str
      sample: mounted
    options:
      description: What the kernel shows of page size and limits.
      returned: always
      type: list
      elements: str
      sample: [pagesize=2M, size=8589934592]
    page_size:
      description: Size of the pages, in bytes.
      returned: always
      type: int
      sample: 2097152
    size:
      description: What the files can take together, in bytes; null for unlimited.
      returned: always
      type: int
      sample: 8589934592
    min_size:
      description: What is reserved, in bytes; null for nothing.
      returned: always
      type: int
      sample: null
    nr_inodes:
      description: Number of files and directories; null for unlimited.
      returned: always
      type: int
      sample: null
    uid:
      description: Owner of the root directory; null in check mode for a user that is still to be made.
      returned: always
      type: int
      sample: 0
    gid:
      description: Group of the root directory; null in check mode for a group that is still to be made.
      returned: always
      type: int
      sample: 997
    mode:
      description: Permissions of the root directory.
      returned: always
      type: str
      sample: "0770"
    unit:
      description: The systemd unit of this module that mounts it at each boot; null without one.
      returned: always
      type: str
      sample: srv-huge\x2d2M.mount
    configured_by:
      description: File and line of others that mount the same at each boot; null unless there are.
      returned: always
      type: str
      sample: null
    files:
      description: The files in the mount.
      returned: always
      type: list
      elements: dict
      contains:
        path:
          description: Path of the file.
          returned: always
          type: str
          sample: /srv/huge-2M/web1/qemu_back_mem.0+100000000.ram0
        size:
          description: Its length, in bytes. What a failed allocation left is not seen in it.
          returned: always
          type: int
          sample: 4294967296
        allocated:
          description: The pages that it holds, in bytes.
          returned: always
          type: int
          sample: 4294967296
        mapped_by:
          description: Processes that map it.
          returned: always
          type: list
          elements: int
          sample: [4711]
    left_over:
      description: Paths of the files that hold pages although no process maps them.
      returned: always
      type: list
      elements: str
      sample: []
diff:
  description: The mount, and the unit's file, by their paths.
  returned: success
  type: dict
  contains:
    before:
      description: What there was; C(ro) is among the options of a mount that is read-only.
      returned: always
      type: dict
      sample: {"/srv/huge-2M": {"state": "absent"}}
    after:
      description: What there is.
      returned: always
      type: dict
      sample: {"/srv/huge-2M": {"state": "mounted", "options": ["pagesize=2M"], "uid": 0, "gid": 0, "mode": "0755"}}
foreseen:
  description: What there would be afterwards, O(foreseen) included, for O(foreseen) of the tasks that follow.
  returned: in check mode
  type: dict
  sample: {"groups": ["hostmem"], "pools": [{"page_size": 2097152, "pool": {"nr": 64, "free": 64, "reserved": 8, "surplus": 0, "overcommit": 0}, "nodes": []}]}
error:
  description: What was wrong, as text for people in C(msg) and in parts here.
  returned: failure
  type: dict
  contains:
    message:
      description: What was wrong, and where.
      returned: always
      type: str
      sample: "/srv/huge-2M cannot be mounted afresh: it is in use."
    cause:
      description: Why it is so.
      returned: when known
      type: str
      sample: "Users: process 4711 (qemu-system-x86_64 -name web1): maps /srv/huge-2M/web1/qemu_back_mem.0+100000000.ram0"
    cure:
      description: What to do about it.
      returned: when known
      type: str
      sample: Stop them first, for guests by hostmem stop.
"""

import grp
import pwd
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.hostmem.qemu.plugins.module_utils._failures import failures_of
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.sizes import parse_size
from ansible_collections.hostmem.qemu.plugins.module_utils._host.errors import Refused
from ansible_collections.hostmem.qemu.plugins.module_utils._host.mount_configuration import normal
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.arguments import wrong_argument
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.foreseen import Foreseen, foreseen_in
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.hugetlbfs_mounts import (
    MountPlan,
    apply_mount,
    describe_mount,
    plan_mount,
    plan_unmount,
    pools_after,
)
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.hugetlbfs_options import WantedOptions, parse_limit


def number(text: str, what: str, look_up: Callable[[str], int], to_come: Sequence[str]) -> int | str:
    """A user's or group's number; the name itself when it is among those to come.

    :raises Refused: there is none of that name.
    """
    if text.isdigit():
        return int(text)
    try:
        return look_up(text)
    except KeyError as error:
        if text in to_come:
            return text
        raise Refused(f"There is no {what} {text} on this host.", cure="Make it first, or give a number.") from error


def octal(text: str) -> int:
    """Permissions.

    :raises Refused: not octal, or more than the kernel takes (fs/hugetlbfs/inode.c).
    """
    try:
        value = int(text, 8)
    except ValueError as error:
        raise wrong_argument("mode", f"{text!r} is not octal") from error
    if not 0 <= value <= 0o1777:
        raise wrong_argument(
            "mode", f"{text} is {'below 0' if value < 0 else 'more than 1777'}, which hugetlbfs does not take"
        )
    return value


def wanted(params: dict[str, Any], foreseen: Foreseen) -> WantedOptions:
    """What the parameters ask for.

    :raises HostmemError: they are wrong.
    """
    try:
        page_size = parse_size(params["page_size"])
    except ValueError as error:
        raise wrong_argument("page_size", str(error)) from error
    if params["nr_inodes"] is not None and params["nr_inodes"] < 1:
        raise wrong_argument("nr_inodes", f"{params['nr_inodes']} is below 1")
    return WantedOptions(
        page_size=page_size,
        size=parse_limit("size", params["size"]),
        min_size=parse_limit("min_size", params["min_size"]),
        nr_inodes=params["nr_inodes"],
        uid=number(params["uid"], "user", lambda name: pwd.getpwnam(name).pw_uid, foreseen.users),
        gid=number(params["gid"], "group", lambda name: grp.getgrnam(name).gr_gid, foreseen.groups),
        mode=octal(params["mode"]),
    )


def presumptions(plan: MountPlan, foreseen: Foreseen) -> list[str]:
    """What is presumed, in sentences."""
    wish = plan.wanted
    if wish is None:
        return []
    found = [
        f"Presuming that there is the {what} {name} by then, whose number is not known yet."
        for what, name in (("user", wish.uid), ("group", wish.gid))
        if isinstance(name, str)
    ]
    pools = foreseen.pools.presumed(wish.page_size) if plan.fresh and wish.of_pool else ""
    return [*found, pools] if pools else found


def carry_out(params: dict[str, Any], check: bool, foreseen: Foreseen) -> MountPlan:
    """Plan, and unless ``check`` make it so.

    :raises HostmemError: something is refused with nothing changed, or the kernel refused.
    """
    path = normal(params["path"])
    if params["state"] == "absent":
        plan = plan_unmount(path, params["discard_files"])
    else:
        plan = plan_mount(path, wanted(params, foreseen), params["persistent"], params["discard_files"], foreseen.pools)
    if not check and plan.changed:
        apply_mount(plan)
    return plan


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "path": {"type": "path", "required": True},
            "page_size": {"type": "str", "default": "2M"},
            "size": {"type": "str"},
            "min_size": {"type": "str"},
            "nr_inodes": {"type": "int"},
            "uid": {"type": "str", "default": "0"},
            "gid": {"type": "str", "default": "0"},
            "mode": {"type": "str", "default": "0755"},
            "persistent": {"type": "bool", "default": True},
            "discard_files": {"type": "bool", "default": False},
            "config": {"type": "path"},
            "runtime": {"type": "path"},
            "foreseen": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    with failures_of(module, "The mount"):
        foreseen = foreseen_in(module.params["foreseen"] if module.check_mode else None)
        plan = carry_out(module.params, module.check_mode, foreseen)
        changed, sides = plan.changed, plan.diff()
        found = describe_mount(plan, module.check_mode)
        then = replace(foreseen, pools=pools_after(plan, foreseen.pools)).as_dict() if module.check_mode else None
    for text in [plan.warning, *presumptions(plan, foreseen)]:
        if text:
            module.warn(text)
    module.exit_json(changed=changed, mount=found, diff=sides, **({} if then is None else {"foreseen": then}))


if __name__ == "__main__":
    main()
