# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter hostmem.qemu.definition."""

from __future__ import annotations

DOCUMENTATION = r"""
name: definition
short_description: Check and complete the definition of a guest
version_added: 1.0.0
author: hostmem.qemu authors (@hostmem)
description:
  - Checks the definition of a guest and fills in every default. If it is not acceptable, the error lists all keys that are wrong,
    each with the reason.
  - "All sizes are in bytes, or texts with a unit of 1024 (V(256M), V(4G))."
options:
  _input:
    description: The guest.
    type: dict
    required: true
    suboptions:
      name:
        description: Name of the guest, 1 to 32 of C(a-z), C(0-9), C(_) and C(-), beginning with a letter or digit.
        type: str
        required: true
      machine:
        description: A versioned machine type, such as V(pc-q35-10.0). An alias means another machine in the next QEMU and is refused.
        type: str
        required: true
      memory:
        description: The memory of the guest.
        type: dict
        required: true
        suboptions:
          blocks:
            description: At least one block. Several blocks are the NUMA nodes of the guest.
            type: list
            elements: dict
            required: true
            suboptions:
              size:
                description: Size of the block, a multiple of its page size.
                type: raw
                required: true
              id:
                description: Name of the block.
                type: str
                default: ram0
              backing:
                description:
                  - What the memory lies in. V(memfd) has no file name.
                  - V(file) is whatever file system there is under O(_input.memory.blocks[].directory).
                  - V(dax) is persistent memory, by way of a file system or a device.
                type: str
                choices: [memfd, tmpfs, file, hugetlbfs, dax]
                default: memfd
              directory:
                description:
                  - Directory of the file. Required with V(file) and V(dax); not with V(memfd) or a device.
                  - The default is C(/dev/shm/hostmem/NAME) for V(tmpfs) and C(/dev/hugepages/hostmem/NAME) for V(hugetlbfs).
                type: path
              device:
                description: A device-DAX device such as V(/dev/dax0.0) in the place of a directory, with V(dax). It becomes QEMU's user's.
                type: path
              namespace:
                description:
                  - Name or UUID of the namespace of a device-DAX device, in the place of O(_input.memory.blocks[].device), whose number can
                    change at a boot.
                  - Which device it is, the host tells at each start of the guest.
                type: str
              offset:
                description: Where in the device the block begins.
                type: raw
              align:
                description: Alignment of the mapping. The default is QEMU's, and V(2M) with a device.
                type: raw
              pmem:
                description: >-
                  Whether QEMU maps with MAP_SYNC, which only a shared mapping of a file or device on DAX can be. The default is V(true) with
                  V(dax) and V(shared).
                type: bool
              read_only:
                description: Whether the file is never written, and may be anybody's. It needs V(open) and V(private).
                type: bool
                default: false
              page_size:
                description: Size of huge pages. Required with V(hugetlbfs), possible with V(memfd).
                type: raw
              mode:
                description:
                  - V(create) makes the named file or takes over an existing one, whose old content a cold start never sees.
                  - V(open) demands an existing file of exactly this offset, size and name.
                  - V(temp) is a file without a name, for one run only.
                type: str
                choices: [create, open, temp]
                default: create
              mmap:
                description: V(private) keeps what the guest writes out of the file. It is refused where it would cost the memory twice.
                type: str
                choices: [shared, private]
                default: shared
              filesystem:
                description: The file system that must be there. The default is that of V(tmpfs) and V(hugetlbfs), and otherwise V(any).
                type: str
                choices: [any, tmpfs, hugetlbfs, dax]
              prealloc:
                description: Whether all pages are allocated before a start from cold, on the block's NUMA nodes.
                type: bool
                default: false
              prealloc_threads:
                description: Threads that do this. The default is the number of CPUs of the block's NUMA nodes, at most 16.
                type: int
              reserve:
                description: Whether swap is taken into account for a private mapping.
                type: bool
                default: true
              seal:
                description: Whether the size of a memfd can never change.
                type: bool
                default: true
              merge:
                description: Whether the kernel may merge equal pages (KSM).
                type: bool
                default: true
              dump:
                description: Whether QEMU's core dumps have the memory.
                type: bool
                default: true
              numa_node:
                description: NUMA node of the guest that the block belongs to.
                type: int
              host_nodes:
                description: NUMA nodes of the host, for O(_input.memory.blocks[].policy).
                type: list
                elements: int
              policy:
                description: NUMA policy of the host.
                type: str
                choices: [default, bind, interleave, preferred]
                default: default
      qemu:
        description: QEMU's program on the host.
        type: path
        default: /usr/bin/qemu-system-x86_64
      accel:
        description: The accelerator.
        type: str
        choices: [kvm, tcg]
        default: kvm
      cpu:
        description: The processors of the guest.
        type: dict
        suboptions:
          model:
            description: CPU model with its features. The default is V(host) with V(kvm), and V(qemu64) with V(tcg).
            type: str
          count:
            description: Number of vCPUs.
            type: int
            default: 1
      nvdimms:
        description: Persistent memory that the guest sees as such, in files that last as disks do.
        type: list
        elements: dict
        suboptions:
          id:
            description: Name of the NVDIMM.
            type: str
            required: true
          path:
            description: Its file, which is made when it is missing, or a device-DAX device. Required without O(_input.nvdimms[].namespace).
            type: path
          namespace:
            description: Name or UUID of the namespace of a device-DAX device, in the place of O(_input.nvdimms[].path).
            type: str
          size:
            description: Size of the file, a multiple of 2M.
            type: raw
            required: true
          label_size:
            description: How much of it holds the guest's labels, V(0) or from V(128K) on.
            type: raw
            default: 0
          pmem:
            description: Whether QEMU maps with MAP_SYNC, so that what the guest has flushed survives a power cut of the host.
            type: bool
            default: false
          read_only:
            description: Whether the guest cannot change it.
            type: bool
            default: false
      disks:
        description: Disks of the guest.
        type: list
        elements: dict
        suboptions:
          id:
            description: Name of the disk.
            type: str
            required: true
          path:
            description: Image file or block device on the host.
            type: path
            required: true
          format:
            description: Format of the image.
            type: str
            choices: [qcow2, raw]
            required: true
          interface:
            description: How the guest sees the disk.
            type: str
            choices: [virtio, scsi, sata]
            default: virtio
          read_only:
            description: Whether the guest may only read it.
            type: bool
            default: false
          cache:
            description: V(none) passes by the page cache of the host.
            type: str
            choices: [writeback, none]
            default: writeback
          aio:
            description: How QEMU reads and writes. V(native) needs O(_input.disks[].cache=none).
            type: str
            choices: [threads, native, io_uring]
            default: threads
          discard:
            description: Whether what the guest discards is given back.
            type: bool
            default: false
          boot_index:
            description: Place in the boot order.
            type: int
          shared:
            description: Whether it is the very same file or device on each host that has the guest, so that the guest can move between them.
            type: bool
            default: false
      nics:
        description: Network interfaces of the guest.
        type: list
        elements: dict
        suboptions:
          id:
            description: Name of the interface.
            type: str
            required: true
          mac:
            description: MAC address.
            type: str
            required: true
          type:
            description: V(tap) is an interface of the host, which the runtime makes; V(user) is QEMU's own network.
            type: str
            choices: [tap, user]
            default: tap
          bridge:
            description: Bridge of the host that the tap joins.
            type: str
          tap:
            description: Base name of the interfaces on the host. The default is made from the guest's name.
            type: str
          model:
            description: QEMU's device.
            type: str
            default: virtio-net-pci
          queues:
            description: Number of queue pairs.
            type: int
            default: 1
      consoles:
        description: Consoles of the guest.
        type: list
        elements: dict
        suboptions:
          id:
            description: Name of the console.
            type: str
            required: true
          type:
            description: A serial port or a virtio console.
            type: str
            choices: [serial, virtio]
            default: serial
          to:
            description: Where it leads, a log that is appended to, or a socket in the directory of the running generation.
            type: str
            choices: [log, socket]
            default: log
      guest_agent:
        description: Whether there is a channel for the QEMU guest agent.
        type: bool
        default: false
      vnc:
        description: Whether there is a VNC socket.
        type: bool
        default: false
      video:
        description: The graphics card.
        type: str
        choices: [none, std, virtio]
        default: none
      kernel:
        description: A kernel that QEMU boots itself.
        type: dict
        suboptions:
          image:
            description: The kernel.
            type: path
            required: true
          initrd:
            description: The initial RAM disk.
            type: path
          cmdline:
            description: The command line of the kernel.
            type: str
      arguments:
        description: Further arguments of QEMU. Those that the runtime or the definition gives are refused.
        type: list
        elements: str
      max_pause:
        description: Seconds that a live update may pause the guest before it is called off.
        type: float
        default: 2.0
      on_host_shutdown:
        description:
          - What becomes of the running guest when its host goes down (reboot, kexec, soft-reboot, power-off, halt).
          - V(save) keeps it as it is; it goes on when the host is back. All of its memory must lie in files that a reboot keeps, shared, with
            V(dax) or V(file).
        type: str
        choices: [poweroff, save]
        default: poweroff
      on_power_cut:
        description:
          - What the next start does after the host went down under the guest, without powering it down or saving it.
          - V(start) starts it anew, as after a power cut of its own; V(refuse) leaves that to people.
          - The default is V(refuse) with O(_input.on_host_shutdown=save), and otherwise V(start).
        type: str
        choices: [start, refuse]
seealso:
  - module: hostmem.qemu.guest
  - plugin: hostmem.qemu.argv
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Refuse a wrong definition before anything else is done
  ansible.builtin.set_fact:
    complete: "{{ web1 | hostmem.qemu.definition }}"
  vars:
    web1:
      name: web1
      machine: pc-q35-10.0
      memory:
        blocks:
          - size: 256M
            backing: tmpfs
"""

RETURN = r"""
_value:
  description: The definition with every default filled in. Sizes are in bytes; what has no value is left out.
  type: dict
  sample: {"schema": 1, "name": "web1", "machine": "pc-q35-10.0", "accel": "kvm", "max_pause": 2.0}
"""

from collections.abc import Callable
from typing import Any

from ..plugin_utils._plain import as_filter, definition_of


def definition(value: Any) -> dict[str, Any]:
    """See DOCUMENTATION."""
    return definition_of(value).as_dict()


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"definition": as_filter(definition)}
