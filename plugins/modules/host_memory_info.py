#!/usr/bin/python
# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_memory_info
short_description: Tell what memory a host has, who holds it, and what QEMU may do there
version_added: 1.0.0
description:
  - Tells everything about the memory of a host that is to be known before a guest comes to it. These are NUMA nodes, pools of huge pages,
    mounts that RAM files can lie in, persistent memory, access to KVM and userfaultfd, limits, the installed QEMUs with what they can do,
    and what each running QEMU holds.
  - Everything is read from the kernel, from ndctl and from the QEMU binaries, never from configuration. Only which user QEMU runs as, and which
    guests are defined, is read from the runtime's configuration.
  - What cannot be read keeps nothing else from being told. It is named in RV(left_out), and warned of. Without root, that is mostly the
    memory of other users' QEMUs.
author:
  - hostmem.qemu authors (@hostmem)
options:
  gather_subset:
    description:
      - The parts that are told, all by default. Their names are those of the return values.
      - V(qemus) runs each QEMU for about half a second, without a machine. V(processes) lets the kernel walk the page tables of all
        QEMUs, some 20 ms for each GiB in small pages. All other parts take some milliseconds.
    type: list
    elements: str
    choices: [memory, numa_nodes, huge_pages, mounts, pmem, userfaultfd, kvm, kernel, limits, qemus, processes]
    default: [memory, numa_nodes, huge_pages, mounts, pmem, userfaultfd, kvm, kernel, limits, qemus, processes]
  config:
    description:
      - Configuration of the runtime, which says as which user QEMU runs, and where definitions and sockets are.
      - On a host without it, RV(userfaultfd.usable) and RV(kvm.usable) are empty, and guests of this collection are taken for others.
    type: path
    default: /etc/hostmem/config.json
extends_documentation_fragment:
  - hostmem.qemu.attributes
  - hostmem.qemu.attributes.info_module
  - hostmem.qemu.attributes.platform
  - hostmem.qemu.attributes.actiongroup_hostmem
  - hostmem.qemu.unused
notes:
  - To find out whether files of a mount with DAX are really mapped directly, a file without a name is made in it, which is gone at once.
seealso:
  - module: hostmem.qemu.guest_info
  - module: hostmem.qemu.hugepages
  - module: hostmem.qemu.hugetlbfs_mount
  - module: hostmem.qemu.pmem_namespace
  - module: hostmem.qemu.dax_mount
"""

EXAMPLES = r"""
- name: Ask for everything
  hostmem.qemu.host_memory_info:
  register: host

- name: Refuse to go on where 64 pages of 2 MiB on node 1 are missing
  ansible.builtin.assert:
    that: (pools.nodes | selectattr('node', '==', 1) | first).free >= 64
  vars:
    pools: "{{ host.huge_pages.pools | selectattr('page_size', '==', 2097152) | first }}"

- name: Name the QEMUs that hold huge pages of 2 MiB, whoever started them
  ansible.builtin.debug:
    msg: "{{ item.0.manager }} {{ item.0.name }} (process {{ item.0.pid }}): {{ item.1.present }} bytes in {{ item.1.kind }}"
  loop: "{{ host.processes | selectattr('memory', 'defined') | subelements('memory') }}"
  loop_control:
    label: "{{ item.0.pid }}"
  when: item.1.page_size == 2097152

- name: See whether post-copy can work
  hostmem.qemu.host_memory_info:
    gather_subset: [userfaultfd]
  register: faults
  failed_when: not (faults.userfaultfd.unprivileged or (faults.userfaultfd.usable | default(false) and faults.userfaultfd.unit_allows in [none, true]))
"""

RETURN = r"""
memory:
  description: Memory of the whole host, in bytes.
  returned: when O(gather_subset) has V(memory)
  type: dict
  contains:
    total:
      description: All that the kernel has.
      returned: always
      type: int
      sample: 6309969920
    free:
      description: What nothing lies in.
      returned: always
      type: int
      sample: 4026531840
    available:
      description: What can be had without swapping, by the kernel's estimate. Free huge pages are not in it.
      returned: always
      type: int
      sample: 5488246784
    shared:
      description: What lies in files of tmpfs and in memfds.
      returned: always
      type: int
      sample: 268435456
    swap_total:
      description: Size of the swap space.
      returned: always
      type: int
      sample: 0
    swap_free:
      description: What of it is free.
      returned: always
      type: int
      sample: 0
numa_nodes:
  description: The NUMA nodes.
  returned: when O(gather_subset) has V(numa_nodes)
  type: list
  elements: dict
  contains:
    node:
      description: Number of the node.
      returned: always
      type: int
      sample: 0
    cpus:
      description: Its CPUs; none for a node that is memory only.
      returned: always
      type: list
      elements: int
      sample: [0, 1]
    distances:
      description: How far each node is from this one, as the firmware says. V(10) is the node itself.
      returned: always
      type: list
      elements: int
      sample: [10, 20]
    memory:
      description: Its memory in bytes. Empty for a node that has none.
      returned: always
      type: dict
      contains:
        total:
          description: All of it.
          returned: always
          type: int
          sample: 3154984960
        free:
          description: What nothing lies in.
          returned: always
          type: int
          sample: 2013265920
        available:
          description: What can be had without swapping, an estimate like C(MemAvailable).
          returned: always
          type: int
          sample: 2744123392
huge_pages:
  description: Pools of huge pages.
  returned: when O(gather_subset) has V(huge_pages)
  type: dict
  contains:
    default_page_size:
      description: Size of pages that C(vm.nr_hugepages) speaks of, in bytes. Empty where the kernel has no huge pages.
      returned: always
      type: int
      sample: 2097152
    pools:
      description: The pool of each page size, in pages.
      returned: always
      type: list
      elements: dict
      contains:
        page_size:
          description: Size of the pages, in bytes.
          returned: always
          type: int
          sample: 2097152
        nr:
          description: Pages, surplus pages among them.
          returned: always
          type: int
          sample: 128
        free:
          description: Pages that nothing lies in.
          returned: always
          type: int
          sample: 96
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
        nodes:
          description: The pool on each node that has memory, in pages.
          returned: always
          type: list
          elements: dict
          sample: [{"node": 0, "nr": 128, "free": 96, "used": 32, "surplus": 0}]
mounts:
  description: Mounts of tmpfs and hugetlbfs, and those with DAX, as they are now, in the order of the kernel.
  returned: when O(gather_subset) has V(mounts)
  type: list
  elements: dict
  contains:
    point:
      description: Where it is mounted.
      returned: always
      type: str
      sample: /dev/hugepages
    type:
      description: Type of the file system.
      returned: always
      type: str
      sample: hugetlbfs
    source:
      description: The device, or the name that was given for one.
      returned: always
      type: str
      sample: hugetlbfs
    root:
      description: The directory of the file system that is mounted.
      returned: always
      type: str
      sample: /
    options:
      description: Options of the mount.
      returned: always
      type: list
      elements: str
      sample: [rw, relatime]
    super_options:
      description: Options of the file system in it, the same for all its mounts.
      returned: always
      type: list
      elements: str
      sample: [rw, pagesize=2M]
    hidden:
      description: Whether another mount lies on it. Its space is not told then. Empty where its directory is not ours to look at.
      returned: always
      type: bool
      sample: false
    page_size:
      description: Size of the pages that its files lie in, in bytes.
      returned: when RV(mounts[].hidden) is V(false)
      type: int
      sample: 2097152
    size:
      description: Bytes that its files can have together. Empty where only memory, or the pool, is the limit.
      returned: when RV(mounts[].hidden) is V(false)
      type: int
      sample: 268435456
    free:
      description: Bytes of that which no file has. There need not be as much memory.
      returned: when RV(mounts[].hidden) is V(false)
      type: int
      sample: 134217728
    available:
      description: The same for users other than root.
      returned: when RV(mounts[].hidden) is V(false)
      type: int
      sample: 134217728
    dax:
      description: V(always), V(inode) or V(never), as the kernel shows it after the mount. Empty where it shows nothing, which means V(inode)
        on a device with DAX.
      returned: for what does not lie in memory
      type: str
      sample: always
    device_dax:
      description: Whether the device could carry DAX.
      returned: for what does not lie in memory
      type: bool
      sample: true
    file_dax:
      description: Whether a new file at the mount point really is mapped directly (STATX_ATTR_DAX). Empty where none can be made.
      returned: for what does not lie in memory
      type: bool
      sample: true
pmem:
  description: Persistent memory.
  returned: when O(gather_subset) has V(pmem)
  type: dict
  contains:
    source:
      description: Who was asked for regions and namespaces. V(ndctl), or V(sysfs) where that is not installed, or where there are none.
      returned: always
      type: str
      sample: ndctl
    regions:
      description: Regions with their namespaces; sizes and addresses in bytes. Addresses are told to root only.
      returned: always
      type: list
      elements: dict
      sample:
        - dev: region2
          size: 536870912
          align: 16777216
          available: 134217728
          largest_available: 134217728
          start: 4294967296
          numa_node: 1
          persistence_domain: unknown
          labels: true
          dimms: [nmem0]
          labels_possible: true
          ways: 1
          enabled: true
          namespaces:
            - dev: namespace2.0
              region: region2
              mode: fsdax
              name: ram0
              size: 394264576
              raw_size: 402653184
              align: 2097152
              map: dev
              sector_size: 512
              device: pmem2
              enabled: true
              numa_node: 1
              uuid: f7d71f85-2443-48fa-9869-2733ae64f52c
              start: 4294967296
    dax_devices:
      description: Device-DAX devices; sizes in bytes. C(driver) is V(device_dax) for a character device, V(kmem) for one that is ordinary memory, or empty.
      returned: always
      type: list
      elements: dict
      sample: [{"name": "dax1.0", "size": 329252864, "align": 2097152, "node": 0, "target_node": 0, "driver": "device_dax"}]
userfaultfd:
  description: Access to userfaultfd, which post-copy migration needs on the host that a guest comes to.
  returned: when O(gather_subset) has V(userfaultfd)
  type: dict
  contains:
    path: &path_of_device
      description: The device.
      returned: always
      type: str
      sample: /dev/kvm
    present: &present_of_device
      description: Whether there is one.
      returned: always
      type: bool
      sample: true
    owner: &owner_of_device
      description: Its owner.
      returned: when present
      type: str
      sample: root
    group: &group_of_device
      description: Its group.
      returned: when present
      type: str
      sample: root
    mode: &mode_of_device
      description: Its mode.
      returned: when present
      type: str
      sample: "0600"
    user: &user_of_device
      description: QEMU's user, from O(config).
      returned: when that is known
      type: str
      sample: hostmem
    usable: &usable_of_device
      description: Whether QEMU's user can use it. It was opened, as that user with all its groups. Empty where that could not be tried.
      returned: when present
      type: bool
      sample: false
    problem: &problem_of_device
      description: What the kernel said; empty when it is usable.
      returned: when it was tried
      type: str
      sample: Permission denied
    unit_allows: &unit_allows_of_device
      description: Whether the unit of guests, C(hostmem-guest@.service), lets its processes open it. Empty where guests are no units.
      returned: when present
      type: bool
      sample: true
    unprivileged:
      description: C(vm.unprivileged_userfaultfd), with which the device is not needed. Empty where the kernel has no such setting.
      returned: always
      type: bool
      sample: false
kvm:
  description: Access to KVM.
  returned: when O(gather_subset) has V(kvm)
  type: dict
  contains:
    path: *path_of_device
    present: *present_of_device
    owner: *owner_of_device
    group: *group_of_device
    mode: *mode_of_device
    user: *user_of_device
    usable: *usable_of_device
    problem: *problem_of_device
    unit_allows: *unit_allows_of_device
    api_version:
      description: What the kernel's KVM says of itself (KVM_GET_API_VERSION), 12 wherever QEMU runs.
      returned: when it could be opened
      type: int
      sample: 12
    nested:
      description: Whether guests may have KVM themselves. Empty where no module tells.
      returned: always
      type: bool
      sample: false
kernel:
  description: The kernel's ways with memory.
  returned: when O(gather_subset) has V(kernel)
  type: dict
  contains:
    release:
      description: Its version.
      returned: always
      type: str
      sample: 6.12.107+deb13-cloud-amd64
    transparent_huge_pages:
      description: What is chosen for them, and their size in bytes. Empty where the kernel has none.
      returned: always
      type: dict
      sample: {"enabled": "madvise", "defrag": "madvise", "shmem_enabled": "never", "page_size": 2097152}
    ksm:
      description: Whether the kernel merges equal pages, and how many mappings of pages share how many.
      returned: always
      type: dict
      sample: {"running": false, "pages_shared": 0, "pages_sharing": 0}
    overcommit:
      description: C(vm.overcommit_memory) and C(vm.overcommit_ratio), and in bytes the limit, which holds with V(2) only, and what is promised.
      returned: always
      type: dict
      sample: {"memory": 0, "ratio": 50, "limit": 12629864448, "committed": 1206903603}
limits:
  description: Limits in bytes. An empty one means that there is none.
  returned: when O(gather_subset) has V(limits)
  type: dict
  contains:
    memlock:
      description: Memory that a process of this session may lock.
      returned: always
      type: dict
      sample: {"soft": 8388608, "hard": 8388608}
    unit:
      description: What systemd sets for the unit of guests, C(hostmem-guest@.service). Empty where there is no such unit.
      returned: always
      type: dict
      sample:
        slice: machine.slice
        memlock: {"soft": null, "hard": null}
        memory_max: null
        memory_high: null
        memory_swap_max: null
        device_policy: closed
        device_allow: [{"path": /dev/kvm, "access": rw}]
        private_devices: false
    cgroups:
      description: Limits of the control groups that guests run in, libvirt's too, and of those above.
      returned: always
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
        limits:
          description: What it limits, V(memory), V(memory, throttled), V(swap), V(memory and swap), V(huge pages) or V(reserved huge pages).
          returned: always
          type: str
          sample: reserved huge pages
        page_size:
          description: Size of the huge pages.
          returned: for huge pages
          type: int
          sample: 2097152
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
qemus:
  description: The QEMUs that guests are defined with, and those in C(/usr/bin) and C(/usr/libexec), each file once.
  returned: when O(gather_subset) has V(qemus)
  type: list
  elements: dict
  contains:
    path:
      description: Path of the binary.
      returned: always
      type: str
      sample: /usr/bin/qemu-system-x86_64
    also:
      description: Other paths to the same file.
      returned: always
      type: list
      elements: str
      sample: [/usr/bin/qemu-system-amd64]
    guests:
      description: Guests that are defined with it.
      returned: always
      type: list
      elements: str
      sample: [web1]
    present:
      description: Whether it is there.
      returned: always
      type: bool
      sample: true
    version:
      description: Its version. This and what follows is asked of those that guests are defined with, or that emulate the host's own architecture.
      returned: when it answered
      type: str
      sample: 11.1.3
    package:
      description: The packager's text.
      returned: when it answered
      type: str
      sample: Debian 1:11.1.3+ds-1
    machines:
      description: Number of machine types, of deprecated ones among them, and those with short names, which the newest of each kind have.
      returned: when it answered
      type: dict
      sample: {"count": 41, "deprecated": 18, "newest": {"pc": "pc-i440fx-11.1", "q35": "pc-q35-11.1"}}
    migration_modes:
      description: Values of the migration parameter C(mode).
      returned: when it answered
      type: list
      elements: str
      sample: [normal, cpr-reboot, cpr-transfer, cpr-exec]
    migration_capabilities:
      description: Capabilities of migration that it knows.
      returned: when it answered
      type: list
      elements: str
      sample: [multifd, postcopy-ram, x-ignore-shared]
    aux_ram_share:
      description: Whether machines have C(aux-ram-share), without which only guests without other RAM than their own survive a live update.
      returned: when it answered
      type: bool
      sample: true
processes:
  description: Every QEMU that runs on the host, in containers too, with the kernel's account of its memory, by PID.
  returned: when O(gather_subset) has V(processes)
  type: list
  elements: dict
  contains:
    pid:
      description: Its process.
      returned: always
      type: int
      sample: 4711
    name:
      description: The guest's name; what C(-name) says for guests of others, empty where it says nothing.
      returned: always
      type: str
      sample: web1
    manager:
      description: V(hostmem), V(libvirt), or V(other).
      returned: always
      type: str
      sample: hostmem
    generation:
      description: Number of this QEMU among those that carried the guest. While a live update is under way, a guest has two.
      returned: when RV(processes[].manager=hostmem)
      type: int
      sample: 3
    user:
      description: The user that it runs as.
      returned: always
      type: str
      sample: hostmem
    qemu:
      description: The file that it runs. C(deleted) is true when it was replaced or removed since the start. C(installed_as) is the path of
        the same file among RV(qemus), C(version) and C(package) are what that said; all three are empty where there is none.
      returned: always
      type: dict
      sample:
        path: /usr/bin/qemu-system-x86_64
        deleted: false
        installed_as: /usr/bin/qemu-system-x86_64
        version: 11.1.3
        package: Debian 1:11.1.3+ds-1
    rss:
      description: Memory that it has mapped and that is there, in bytes. Huge pages of a pool and DAX are not counted by the kernel.
      returned: always
      type: int
      sample: 402653184
    pss:
      description: The same with shared pages divided among the processes that map them.
      returned: when RV(processes[].rss) is below 4 GiB, as the kernel needs time for it
      type: int
      sample: 301989888
    memlock:
      description: Memory that it may lock, in bytes. An empty limit means that there is none.
      returned: when it can be read
      type: dict
      sample: {"soft": null, "hard": null}
    memory:
      description: Sums of its mappings, by kind and page size. What belongs to its program and its libraries is left out.
      returned: when it can be read
      type: list
      elements: dict
      contains:
        kind:
          description:
            - V(hugetlbfs), V(tmpfs), V(memfd), V(dax), V(file) for files in other file systems, or V(anonymous).
            - Huge pages can be in V(hugetlbfs), V(memfd) and V(anonymous).
            - V(anonymous) has RAM without a file in it, and QEMU's own memory. An emulating QEMU (TCG) maps up to 1 GiB for code that it may translate.
          returned: always
          type: str
          sample: hugetlbfs
        page_size:
          description: Size of the pages that it is mapped by, in bytes. For V(dax) it is always the small one, as the kernel does not tell.
          returned: always
          type: int
          sample: 2097152
        mapped:
          description: Bytes that are mapped, whether touched or not.
          returned: always
          type: int
          sample: 67108864
        present:
          description: Bytes that this process has in its page tables. Empty for V(dax), which the kernel does not count, and where the kernel knows no NUMA.
          returned: always
          type: int
          sample: 67108864
        nodes:
          description: On which NUMA nodes these lie.
          returned: always
          type: list
          elements: dict
          sample: [{"node": 0, "present": 67108864}]
left_out:
  description: What could not be told, and why.
  returned: always
  type: list
  elements: dict
  contains:
    subject:
      description: What is missing.
      returned: always
      type: str
      sample: "qemus: /opt/qemu/bin/qemu-system-x86_64"
    reason:
      description: Why.
      returned: always
      type: str
      sample: "/opt/qemu/bin/qemu-system-x86_64 does not tell what it can do."
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.config import DEFAULT_PATH
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.information import SUBSETS, host_memory


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "gather_subset": {"type": "list", "elements": "str", "choices": list(SUBSETS), "default": list(SUBSETS)},
            "config": {"type": "path", "default": DEFAULT_PATH},
            "runtime": {"type": "path"},
        },
        supports_check_mode=True,
    )
    report = host_memory(module.params["config"], module.params["gather_subset"])
    for entry in report["left_out"]:
        module.warn(f"{entry['subject']}: {entry['reason']}")
    module.exit_json(changed=False, **report)


if __name__ == "__main__":
    main()
