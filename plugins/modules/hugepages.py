#!/usr/bin/python
# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hugepages
short_description: Manage the pools of huge pages of a host's NUMA nodes
version_added: 1.0.0
description:
  - Makes the pools of huge pages of one size have a number of pages on each NUMA node, now and at each boot.
  - What the kernel really granted is read back. The kernel itself says nothing when it grants less than was asked for.
  - "Only the pools of the nodes that are named are touched: a write to C(vm.nr_hugepages) would spread the difference over all nodes."
  - A node is never asked for so much that it runs out of memory (O(reserve)). What is refused for that reason is refused before, with numbers.
  - Pages in use are never taken. The kernel would make them surplus pages without a word when a pool is shrunk below them, and so
    would it take pages that are reserved for mappings. A process that is bound to a node is promised pages of that node, which the kernel
    does not count.
  - When a node grants less than was asked for even after the last of O(tries), the pages that this run got are given back, and the module
    fails. With O(shortfall=warn), and where a reboot will give the rest, they are kept.
  - Configuration of others is never changed. What of it sets the same pool at boot is reported with file and line.
author:
  - hostmem.qemu authors (@hostmem)
options:
  state:
    description:
      - V(present) makes the pools be as described.
      - V(absent) gives the pages back that this module got since the host's boot, or that its configuration got at boot, and removes that
        configuration. Pages that were there before stay. Without O(node) and O(nodes) this is done on all nodes, and the limit of
        O(surplus) pages that was there before is brought back.
    type: str
    choices: [present, absent]
    default: present
  page_size:
    description:
      - Size of the pages, any that the kernel has pools for. On x86-64 V(2M), and V(1G) where the processor has them.
    type: str
    default: 2M
  node:
    description:
      - NUMA node that O(count) is for. It can be left out on a host that has but one with memory.
    type: int
  count:
    description:
      - Number of pages on O(node).
      - With O(policy=needed) these are added to what the guests need.
    type: int
  nodes:
    description:
      - Numbers of pages of several NUMA nodes, instead of O(node) and O(count). Other nodes are left alone.
      - With O(policy=needed) these nodes are where the memory of guests without C(host_nodes) is expected, spread evenly.
    type: list
    elements: dict
    suboptions:
      node:
        description: Number of the NUMA node.
        type: int
        required: true
      count:
        description: Number of pages.
        type: int
        default: 0
  policy:
    description:
      - V(exact) gives the pools just so many pages. More are given back as far as nobody uses them.
      - V(at_least) leaves alone what is more.
      - V(needed) is V(exact) with what all guests need that are defined on the host (O(config)), each on the nodes of
        its C(host_nodes), plus what O(count) or O(nodes) say.
      - A boot knows exact numbers only. Where others set the same pool at boot, V(at_least) and V(needed) are refused unless O(persist=none),
        as one of the two numbers would be the whole pool; with V(exact), that is a warning.
    type: str
    choices: [exact, at_least, needed]
    default: exact
  surplus:
    description:
      - Number of pages that mappings may take beyond the pool, from whatever node has memory (C(nr_overcommit_hugepages)).
      - It is a limit for the whole host. Without this option it is left as it is.
    type: int
  reserve:
    description:
      - Memory of each node that stays available for everything else, in bytes, with a unit of 1024 (V(2G)), or as a share of the node's
        memory (V(10%)).
      - By default 5 percent, or 256 MiB where that is more, but not beyond 10 percent.
    type: str
  tries:
    description:
      - How often a node is asked that does not grant all pages at once.
    type: int
    default: 3
  compact:
    description:
      - Whether the kernel compacts the memory of a node that did not grant all pages, before it is asked again. That can take seconds.
    type: bool
    default: true
  shortfall:
    description:
      - What happens when the pools cannot be as described, because a node has too little memory, it is too fragmented, or pages that were to
        go are in use.
      - V(error) fails. Everything that can be known before is refused before anything is changed.
      - V(warn) goes as far as it goes, and warns with the numbers.
    type: str
    choices: [error, warn]
    default: error
  persist:
    description:
      - How the pools come back at each boot.
      - V(tmpfiles) writes lines for systemd-tmpfiles into C(/etc/tmpfiles.d/hostmem-hugepages.conf).
      - V(boot) keeps boot parameters. It does so in C(/etc/default/grub.d/hostmem-hugepages.cfg) with C(update-grub), by C(grubby), or at the end of
        C(/etc/kernel/cmdline) with C(kernel-install), whichever the host has. Pages that cannot be had now come at the next boot
        (RV(reboot_required)).
      - V(auto) is V(boot) for pages that the kernel can hardly find at run time, those beyond 4 MiB on x86-64, else V(tmpfiles).
      - V(none) is for now only. What an earlier run configured for these nodes is removed.
      - A boot that grants less says nothing of it. Where systemd runs, C(hostmem-hugepages.service) compares the pools with what was asked for
        at each boot, and fails with the numbers (C(systemctl --failed), C(journalctl -u hostmem-hugepages)). It comes and goes with that
        configuration.
    type: str
    choices: [auto, tmpfiles, boot, none]
    default: auto
  config:
    description:
      - Configuration of the runtime, which says where the definitions of guests are.
    type: path
    default: /etc/hostmem/config.json
extends_documentation_fragment:
  - hostmem.qemu.attributes
  - hostmem.qemu.attributes.platform
  - hostmem.qemu.attributes.actiongroup_hostmem
  - hostmem.qemu.foreseen
  - hostmem.qemu.unused
attributes:
  check_mode:
    support: full
    details:
      - Whether the memory of a node is in pieces large enough cannot be told without asking for them. Check mode expects that it is.
  diff_mode:
    support: full
  idempotent:
    support: full
requirements:
  - root on the host (C(become))
  - systemd with O(persist=tmpfiles)
  - Linux 5.16 for boot parameters on hosts with several NUMA nodes
seealso:
  - module: hostmem.qemu.hugetlbfs_mount
"""

EXAMPLES = r"""
- name: Have 4 GiB in pages of 2 MiB on each of two nodes
  hostmem.qemu.hugepages:
    page_size: 2M
    nodes:
      - {node: 0, count: 2048}
      - {node: 1, count: 2048}

- name: Have 16 pages of 1 GiB, by boot parameters
  hostmem.qemu.hugepages:
    page_size: 1G
    node: 1
    count: 16
  register: gigantic

- name: Reboot for those that could not be had
  ansible.builtin.reboot:
  when: gigantic.reboot_required

- name: Have what the guests of this host need, and 64 pages for a guest of somebody else
  hostmem.qemu.hugepages:
    policy: needed
    nodes:
      - {node: 0, count: 64}
      - {node: 1}

- name: Give everything back
  hostmem.qemu.hugepages:
    page_size: 2M
    state: absent
"""

RETURN = r"""
page_size:
  description: Size of the pages, in bytes.
  returned: success
  type: int
  sample: 2097152
nodes:
  description: The pools of the nodes, in pages. In check mode, as they would be.
  returned: success
  type: list
  elements: dict
  contains:
    node:
      description: Number of the NUMA node.
      returned: always
      type: int
      sample: 0
    wanted:
      description: Pages that the pool was to have.
      returned: always
      type: int
      sample: 2048
    granted:
      description: Pages that the pool has got; below 0 for those that were given back.
      returned: always
      type: int
      sample: 2048
    before:
      description: The pool before.
      returned: always
      type: dict
      contains: &pool_of_a_node
        nr:
          description: Pages, surplus pages among them.
          returned: always
          type: int
          sample: 0
        free:
          description: Pages that nothing lies in. The host's reserved ones are among the free ones of its nodes.
          returned: always
          type: int
          sample: 0
        used:
          description: Pages that something lies in.
          returned: always
          type: int
          sample: 0
        surplus:
          description: Pages beyond the pool, which go away when they are not used any more.
          returned: always
          type: int
          sample: 0
    after:
      description: The pool afterwards.
      returned: always
      type: dict
      contains: *pool_of_a_node
pool:
  description: The pool of the whole host, in pages.
  returned: success
  type: dict
  contains:
    before:
      description: The pool before.
      returned: always
      type: dict
      contains: &pool
        nr:
          description: Pages, surplus pages among them.
          returned: always
          type: int
          sample: 0
        free:
          description: Pages that nothing lies in.
          returned: always
          type: int
          sample: 0
        reserved:
          description: Free pages that are promised to mappings. The kernel counts them for the whole host only.
          returned: always
          type: int
          sample: 0
        surplus:
          description: Pages beyond the pool.
          returned: always
          type: int
          sample: 0
        overcommit:
          description: Limit of the surplus pages.
          returned: always
          type: int
          sample: 0
    after:
      description: The pool afterwards.
      returned: always
      type: dict
      contains: *pool
persist:
  description: How the pools come back at each boot, O(persist=auto) resolved.
  returned: success
  type: str
  sample: tmpfiles
reboot_required:
  description: Whether pages are missing that only a reboot can give.
  returned: success
  type: bool
  sample: false
conflicts:
  description: Lines of others that set the same pool at boot.
  returned: success
  type: list
  elements: dict
  contains:
    file:
      description: Path of the file.
      returned: always
      type: str
      sample: /etc/sysctl.d/10-huge.conf
    line:
      description: Number of the line.
      returned: always
      type: int
      sample: 3
    text:
      description: The line.
      returned: always
      type: str
      sample: vm.nr_hugepages = 512
cgroup_limits:
  description: Limits that control groups put on the huge pages of the guests' units, such as the slice that they are in.
  returned: success
  type: list
  elements: dict
  contains:
    cgroup:
      description: The group.
      returned: always
      type: str
      sample: /machine.slice
    file:
      description: The file with the limit.
      returned: always
      type: str
      sample: /sys/fs/cgroup/machine.slice/hugetlb.2MB.rsvd.max
    limit:
      description: The limit, in bytes.
      returned: always
      type: int
      sample: 1073741824
    usage:
      description: What counts against it, in bytes.
      returned: always
      type: int
      sample: 0
diff:
  description: Numbers in the kernel's files, and texts of our own files, by their paths.
  returned: success
  type: dict
  contains:
    before:
      description: What there was.
      returned: always
      type: dict
      sample: {"/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages": 0}
    after:
      description: What there is.
      returned: always
      type: dict
      sample: {"/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages": 2048}
foreseen:
  description: What there would be afterwards, O(foreseen) included, for O(foreseen) of the tasks that follow.
  returned: in check mode
  type: dict
  sample: {"groups": ["hostmem"], "pools": [{"page_size": 2097152, "pool": {"nr": 64, "free": 64, "reserved": 0, "surplus": 0, "overcommit": 0}, "nodes": []}]}
error:
  description: What was wrong, as text for people in C(msg) and in parts here.
  returned: failure
  type: dict
  contains:
    message:
      description: What was wrong, and where.
      returned: always
      type: str
      sample: Node 1 gave 1449 huge pages of 2M instead of 5000 (it had 0 before, and has 70 MiB free now).
    cause:
      description: Why it is so.
      returned: when known
      type: str
      sample: "Its free memory is not in pieces large enough: what cannot be moved lies in between."
    cure:
      description: What to do about it.
      returned: when known
      type: str
      sample: "Ask for the pages at boot (persist: boot), end what uses the memory, or ask for fewer."
"""

from collections.abc import Callable
from typing import Any, TypeVar

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.hostmem.qemu.plugins.module_utils._failures import failures_of
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.config import DEFAULT_PATH
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.sizes import parse_size
from ansible_collections.hostmem.qemu.plugins.module_utils._host.errors import Refused
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.arguments import wrong_argument
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.foreseen import foreseen_in
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.pool_configuration import (
    PoolRequest,
    ensure_pools,
    requested_counts,
)
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.reserve import parse_reserve

T = TypeVar("T")


def check_numbers(params: dict[str, Any]) -> None:
    """:raises Refused: one is less than it can be."""
    listed = [("count", item["count"]) for item in params["nodes"] or []]
    for name, number in [("count", params["count"]), ("surplus", params["surplus"]), *listed]:
        if number is not None and number < 0:
            raise wrong_argument(name, f"{number} is below 0")
    if params["tries"] < 1:
        raise wrong_argument("tries", f"{params['tries']} is below 1")


def read(name: str, reader: Callable[[Any], T], text: str | None) -> T:
    """The value of an argument.

    :raises Refused: it is not what the argument takes.
    """
    try:
        return reader(text)
    except ValueError as error:
        raise wrong_argument(name, str(error)) from error


def request(params: dict[str, Any]) -> PoolRequest:
    """What the parameters ask for.

    :raises HostmemError: they are wrong.
    """
    present = params["state"] == "present"
    check_numbers(params)
    if present and params["policy"] != "needed" and params["count"] is None and params["nodes"] is None:
        raise Refused(f"policy: {params['policy']} needs count or nodes.", cure="Give one, or set policy to needed.")
    if params["node"] is not None and params["count"] is None:
        params["count"] = 0
    page_size = read("page_size", parse_size, params["page_size"])
    reserve = read("reserve", parse_reserve, params["reserve"])
    listed = [(item["node"], item["count"]) for item in params["nodes"] or []]
    return PoolRequest(
        page_size=page_size,
        counts=requested_counts(params["node"], params["count"], listed),
        present=present,
        policy=params["policy"],
        surplus=params["surplus"],
        reserve=reserve,
        tries=params["tries"],
        compaction=params["compact"],
        lenient=params["shortfall"] == "warn",
        persist=params["persist"],
        config=params["config"],
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "page_size": {"type": "str", "default": "2M"},
            "node": {"type": "int"},
            "count": {"type": "int"},
            "nodes": {
                "type": "list",
                "elements": "dict",
                "options": {"node": {"type": "int", "required": True}, "count": {"type": "int", "default": 0}},
            },
            "policy": {"type": "str", "choices": ["exact", "at_least", "needed"], "default": "exact"},
            "surplus": {"type": "int"},
            "reserve": {"type": "str"},
            "tries": {"type": "int", "default": 3},
            "compact": {"type": "bool", "default": True},
            "shortfall": {"type": "str", "choices": ["error", "warn"], "default": "error"},
            "persist": {"type": "str", "choices": ["auto", "tmpfiles", "boot", "none"], "default": "auto"},
            "config": {"type": "path", "default": DEFAULT_PATH},
            "runtime": {"type": "path"},
            "foreseen": {"type": "dict"},
        },
        mutually_exclusive=[("nodes", "node"), ("nodes", "count")],
        supports_check_mode=True,
    )
    with failures_of(module, "The huge pages"):
        foreseen = foreseen_in(module.params["foreseen"] if module.check_mode else None)
        result = ensure_pools(request(module.params), module.check_mode, foreseen)
    for text in result.pop("warnings"):
        module.warn(text)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
