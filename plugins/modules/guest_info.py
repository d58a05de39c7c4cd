#!/usr/bin/python
# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: guest_info
short_description: Tell what is known of guests
version_added: 1.0.0
description:
  - Tells of guests which QEMU carries them and whether it is outdated, where their memory lies,
    and what would keep a live update from them.
  - "Everything is asked of the running QEMU and of the kernel, not of records. Reading what blocks a live update sets a
    migration parameter of QEMU for a moment, under the guest's lock, and puts it back."
author:
  - hostmem.qemu authors (@hostmem)
options:
  names:
    description:
      - Names of the guests. A name that is not defined on the host is an error.
      - Without it, all guests that are defined on the host.
    type: list
    elements: str
extends_documentation_fragment:
  - hostmem.qemu.runtime
  - hostmem.qemu.attributes
  - hostmem.qemu.attributes.info_module
  - hostmem.qemu.attributes.platform
  - hostmem.qemu.attributes.actiongroup_hostmem
seealso:
  - module: hostmem.qemu.guest
  - module: hostmem.qemu.guest_checkpoint
  - module: hostmem.qemu.live_update
"""

EXAMPLES = r"""
- name: Ask about all guests of the host
  hostmem.qemu.guest_info:
  register: here

- name: Name those that run in an outdated QEMU
  ansible.builtin.debug:
    msg: "{{ here.guests | selectattr('outdated', 'defined') | selectattr('outdated') | map(attribute='guest') }}"

- name: Refuse to go on while something blocks a live update of a guest
  hostmem.qemu.guest_info:
    names: [web1]
  register: web1
  failed_when: web1.guests[0].live_update_blockers | default([]) | length > 0
"""

RETURN = r"""
guests:
  description: What is known of each guest, in the order of O(names) or of the alphabet.
  returned: always
  type: list
  elements: dict
  contains:
    guest:
      description: Name of the guest.
      returned: always
      type: str
      sample: web1
    ok:
      description: Whether the guest could be looked at.
      returned: always
      type: bool
      sample: true
    state:
      description:
        - V(stopped), V(saved) when it is off and saved, V(busy) while another verb works on the guest, V(silent) when its QEMU does not answer,
          or else the run state as QEMU names it, such as V(running) or V(paused).
      returned: when RV(guests[].ok)
      type: str
      sample: running
    definition:
      description: The definition kept on the host, with every default filled in.
      returned: when RV(guests[].ok)
      type: dict
      sample: {"name": "web1", "machine": "pc-q35-10.0"}
    layout:
      description: Where the blocks of the definition lie; as P(hostmem.qemu.layout#filter) returns it.
      returned: when RV(guests[].ok)
      type: list
      elements: dict
      sample: [{"id": "ram0", "offset": 0, "size": 268435456, "path": "/dev/shm/hostmem/web1/qemu_back_mem.0+10000000.ram0"}]
    last_shutdown:
      description:
        - What became of the guest when its host last went down, if its definition wanted it to be saved (C(on_host_shutdown)); empty when that
          never was.
        - V(cut off while it was saved) and V(cut off while it was powered down) tell of a power cut, or of a time limit, in the midst of it.
      returned: when RV(guests[].ok)
      type: dict
      contains:
        at:
          description: When, in UTC.
          returned: always
          type: str
          sample: "2026-01-01T12:00:00Z"
        kind:
          description: How the host went down, as systemd names it.
          returned: always
          type: str
          sample: reboot
        outcome:
          description: V(saved), or how the guest was ended instead.
          returned: always
          type: str
          sample: saved
        error:
          description: Why the guest was not saved, in parts.
          returned: when it was not
          type: dict
          sample: {"message": "The memory of guest web1 was not on its device within 120 s."}
    lost_by_reboot:
      description:
        - What a reboot of the host would take of the guest although it is saved, each with the reason; empty when a guest that is saved comes back.
        - Of a guest that is saved in full, memory that is in its state is not counted.
      returned: when RV(guests[].ok)
      type: list
      elements: str
      sample: ["memory block ram0 lies on tmpfs, which the host's reboot empties"]
    start_refused:
      description: Why the guest would not start, in parts, as its memory is that of a guest which was saved, or was cut off with its host.
      returned: when RV(guests[].state) is V(stopped), and the start would be refused for that
      type: dict
      sample: {"message": "Guest web1 ran when its host went down, and had not been saved.", "cure": "Give up what it was: hostmem discard web1"}
    checkpoint:
      description: What is saved of the guest.
      returned: when RV(guests[].state) is V(saved)
      type: dict
      contains:
        restorable:
          description:
            - Whether it could be restored now, as far as that can be told without reading the state, which may be as large as the guest.
            - That the state is undamaged, M(hostmem.qemu.guest_checkpoint) finds out, in check mode too.
          returned: always
          type: bool
          sample: true
        error:
          description: Why it could not, in parts.
          returned: when it could not
          type: dict
          sample: {"message": "Guest web1 is saved, but does not fit what is here now: another machine type."}
        at:
          description: When the guest was saved, in UTC.
          returned: when it can be read
          type: str
          sample: "2026-01-01T12:00:00Z"
        generation:
          description: Number of the QEMU that saved it.
          returned: when it can be read
          type: int
          sample: 3
        qemu:
          description: Version and package of that QEMU.
          returned: when it can be read
          type: dict
          sample: {"version": "11.1.3", "package": "Debian 1:11.1.3+ds-1"}
        state_bytes:
          description: Size of the state.
          returned: when it can be read
          type: int
          sample: 291908
        copied_bytes:
          description: Memory in the state.
          returned: when it can be read
          type: int
          sample: 0
        in_place_bytes:
          description: Memory that stayed in its files.
          returned: when it can be read
          type: int
          sample: 4294967296
        was_running:
          description: Whether the guest goes on when it is restored.
          returned: when it can be read
          type: bool
          sample: true
    generation:
      description: Number of the QEMU that carries the guest, counted through live updates and starts.
      returned: when the guest runs
      type: int
      sample: 3
    pid:
      description: Process of the QEMU that carries the guest.
      returned: when the guest runs
      type: int
      sample: 4711
    qemu:
      description: The QEMU that carries the guest, and the one that a live update would move it to.
      returned: when QEMU answers
      type: dict
      contains:
        running:
          description: Version and package, as the running QEMU tells them.
          returned: always
          type: dict
          sample: {"version": "10.0.13", "package": "Debian 1:10.0.13+ds-0+deb13u1"}
        installed:
          description: Path, version and package of the installed QEMU.
          returned: always
          type: dict
          sample: {"path": "/usr/bin/qemu-system-x86_64", "version": "11.1.3", "package": "Debian 1:11.1.3+ds-1"}
    outdated:
      description: Whether the guest runs in another QEMU than the installed one.
      returned: when QEMU answers
      type: bool
      sample: true
    outdated_reasons:
      description: What is older, in words.
      returned: when QEMU answers
      type: list
      elements: str
      sample: ["/usr/bin/qemu-system-x86_64 was replaced since the guest's QEMU started"]
    firmware_outdated_until_restart:
      description: >-
        Whether the guest has other firmware in its ROMs than the installed QEMU would load. Live updates and resets of the guest keep it; only a
        stop and a start load the new one. Empty where the host forbids to read QEMU's memory.
      returned: when QEMU answers
      type: bool
      sample: false
    firmware_changed:
      description: The firmware files that are not what the guest has in its ROMs.
      returned: when QEMU answers
      type: list
      elements: str
      sample: []
    ram_blocks:
      description: All blocks of the guest's memory, those of devices and firmware included.
      returned: when QEMU answers
      type: list
      elements: dict
      contains:
        name:
          description: Name of the RAMBlock.
          returned: always
          type: str
          sample: ram0
        offset:
          description: Offset in QEMU's RAM space, in bytes.
          returned: always
          type: int
          sample: 0
        used:
          description: Length in use, in bytes.
          returned: always
          type: int
          sample: 268435456
        total:
          description: Length that the block may grow to, in bytes.
          returned: always
          type: int
          sample: 268435456
        page_size:
          description: Size of its pages, in bytes.
          returned: always
          type: int
          sample: 4096
        file:
          description: The file it lies in, as the kernel shows it; empty for anonymous memory.
          returned: always
          type: str
          sample: /dev/shm/hostmem/web1/qemu_back_mem.0+10000000.ram0
        shared:
          description: Whether what the guest writes reaches the file.
          returned: always
          type: bool
          sample: true
        map_sync:
          description: Whether it is mapped with MAP_SYNC, as persistent memory (C(pmem) in the definition).
          returned: always
          type: bool
          sample: false
    live_update_blockers:
      description: What keeps a live update from the guest; empty when nothing does.
      returned: when QEMU answers
      type: list
      elements: dict
      contains:
        message:
          description: What is in the way.
          returned: always
          type: str
          sample: The backup job job0 is running.
        cause:
          description: Why that blocks.
          returned: when known
          type: str
          sample: A job lives in one QEMU and would be cut off.
        cure:
          description: What to do about it.
          returned: when known
          type: str
          sample: Wait for it, or cancel it (job-cancel).
    definition_pending:
      description: Whether the guest was started with another definition than the one kept now.
      returned: when QEMU answers
      type: bool
      sample: false
    followed_disks:
      description: Images that the guest's disks moved to by snapshots, by the name of the disk.
      returned: when QEMU answers
      type: dict
      sample: {}
    restored:
      description:
        - When the guest had been saved that this QEMU restored (C(saved_at), in UTC), and for how long it was (C(asleep_seconds), by the host's
          clock); empty when this QEMU started the guest anew, or has it by a live update.
      returned: when QEMU answers
      type: dict
      sample: {"saved_at": "2026-01-01T12:00:00Z", "asleep_seconds": 93.2}
    run_directory:
      description: Directory of the running generation, with its sockets.
      returned: when QEMU answers
      type: str
      sample: /run/hostmem/web1/gen-3
    log_directory:
      description: Directory of the guest's logs, of QEMU and of its consoles.
      returned: when QEMU answers
      type: str
      sample: /var/log/hostmem/web1
    error:
      description: Why the guest could not be looked at, or what its silent QEMU was asked in vain.
      returned: when there was an error
      type: dict
      sample: {"message": "There is no guest web1 on this host."}
error:
  description: What was wrong as a whole, in parts.
  returned: when nothing could be asked
  type: dict
  sample: {"message": "The runtime is not on this host.", "cure": "Run the role hostmem.qemu.hypervisor on this host."}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.hostmem.qemu.plugins.module_utils._runtime import Runtime, complaints, runtime_options


def main() -> None:
    module = AnsibleModule(
        argument_spec={"names": {"type": "list", "elements": "str"}, **runtime_options()},
        supports_check_mode=True,
    )
    names = module.params["names"]
    if names is not None and not names:
        module.exit_json(changed=False, guests=[])
    results = Runtime(module).run("info", names=names or [])
    guests = [{key: value for key, value in result.items() if key != "changed"} for result in results]
    bad = complaints(results)
    if bad:
        module.fail_json(msg=bad, guests=guests)
    module.exit_json(changed=False, guests=guests)


if __name__ == "__main__":
    main()
