#!/usr/bin/python
# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: guest_migration
short_description: Move a running guest to another host
version_added: 1.0.0
description:
  - Moves a guest that runs on the task's host to O(destination), with its memory, over TCP. Its disks are not copied; both hosts must have them.
  - On both hosts the work is done by a transient unit of systemd (C(hostmem-move@NAME:JOB.service)), and its result is kept in the guest's state
    directory. A controller that is killed, or loses its connection, breaks nothing; the same task again picks the move up where it is.
  - While it waits it says about every O(poll) seconds how far the move is, one line at a time.
  - What would make the move fail is found before anything is sent, and refused with cause and cure.
  - Guests of systemd units do not move yet; hosts have to be prepared with O(hostmem.qemu.hypervisor#role:main:hypervisor_manager=direct).
author:
  - hostmem.qemu authors (@hostmem)
options:
  name:
    description:
      - Name of the guest. It must be defined alike on both hosts (see M(hostmem.qemu.guest)).
    type: str
    required: true
  state:
    description:
      - V(moved) lets the guest run on O(destination). A guest that runs there already is left alone, and a move there that is under way is waited for.
      - V(cancelled) calls off a move that is under way; the guest goes on on the task's host. In post-copy that is refused once the guest was told to
        run at O(destination).
      - V(recovered) finishes, or takes back, a move that was cut off, on both hosts at once. Without one nothing is done.
    type: str
    choices: [moved, cancelled, recovered]
    default: moved
  destination:
    description:
      - The other host, as the inventory names it. It is reached by its own connection variables, with the C(become) of the task.
    type: str
    required: true
  address:
    description:
      - Address of O(destination) over which the guest goes, and the only one at which it is waited for. With TLS it must be in that host's certificate.
      - Without it, C(ansible_host) of O(destination), or its name.
    type: str
  port:
    description:
      - TCP port at which the runtime of O(destination) waits. QEMU takes another one for the memory.
      - With V(0) the kernel of O(destination) chooses.
    type: int
    default: 0
  method:
    description:
      - V(precopy) sends the memory while the guest runs here, again and again what it writes meanwhile, and pauses it for the rest. Until the
        guest runs at O(destination) it can go on here.
      - V(postcopy) lets the guest go on there at once; its memory follows. That comes to an end whatever the guest writes, but from the switch
        on the guest needs both hosts, and there is no way back.
    type: str
    choices: [precopy, postcopy]
    default: precopy
  max_pause:
    description:
      - Seconds that the guest may be paused before it goes on here.
      - Without it, what the guest's definition says.
    type: float
  timeout:
    description:
      - Seconds within which the guest has to be ready for its pause, else it goes on here.
    type: float
    default: 3600.0
  plain:
    description:
      - Sends the guest's memory in clear, without TLS.
    type: bool
    default: false
  source_name:
    description:
      - A name in the certificate of the task's host; O(destination) takes the guest from nobody else.
      - Without it, C(inventory_hostname), for which the role P(hostmem.qemu.hypervisor#role) makes certificates. Not used with O(plain=true).
    type: str
  poll:
    description:
      - Seconds between two looks at how far it is.
    type: float
    default: 2.0
  reconnect:
    description:
      - Seconds for which a host that cannot be reached meanwhile is tried again. The move goes on without its controller.
    type: float
    default: 300.0
  _step:
    description: What is to be done on one host. Set by the action plugin, not by users.
    type: str
    choices: [look, check, begin, cancel]
  _words:
    description: What it is to be done with. Set by the action plugin, not by users.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - hostmem.qemu.runtime
  - hostmem.qemu.attributes
  - hostmem.qemu.attributes.platform
  - hostmem.qemu.attributes.actiongroup_hostmem
attributes:
  action:
    description: Indicates this has a corresponding action plugin so some parts of the options can be executed on the controller.
    support: full
  check_mode:
    support: partial
    details:
      - With O(state=moved) everything is examined as before a move. For that a QEMU is started at O(destination), in which no guest runs, and is ended
        again; nothing of it is left.
      - With O(state=recovered) it is only told whether something was cut off, not what becomes of it.
  diff_mode:
    support: full
  idempotent:
    support: full
seealso:
  - module: hostmem.qemu.guest
  - module: hostmem.qemu.guest_info
  - module: hostmem.qemu.move_credentials
  - name: Moving guests between hosts
    description: What is checked, and what becomes of a guest when something fails.
    link: https://github.com/ansible-collections/hostmem.qemu/blob/main/docs/moving.md
"""

EXAMPLES = r"""
- name: Move a guest, with a way back until it runs there
  hostmem.qemu.guest_migration:
    name: web1
    destination: hv2.example.com
  register: move

- name: Show for how long it stood still
  ansible.builtin.debug:
    msg: "{{ move.move.pause_ms }} ms"
  when: move is changed

- name: Move a guest that writes faster than the network is
  hostmem.qemu.guest_migration:
    name: db1
    destination: hv2.example.com
    address: 10.10.0.2
    method: postcopy

- name: Call a move off
  hostmem.qemu.guest_migration:
    name: web1
    destination: hv2.example.com
    state: cancelled

- name: Finish, or take back, what was cut off
  hostmem.qemu.guest_migration:
    name: web1
    destination: hv2.example.com
    state: recovered
"""

RETURN = r"""
runs_on:
  description: Hosts on which a QEMU carries the guest afterwards. Never more than one, unless a move is under way still; none when it is off, or lost.
  returned: when both hosts could be asked
  type: list
  elements: str
  sample: [hv2.example.com]
move:
  description: What the source says of it.
  returned: when there was something to move, to cancel or to recover on the task's host
  type: dict
  contains: &result
    guest:
      description: Name of the guest.
      returned: always
      type: str
      sample: web1
    ok:
      description: Whether the work came to its end.
      returned: always
      type: bool
      sample: true
    changed:
      description: Whether the guest was moved, or something was recovered.
      returned: always
      type: bool
      sample: true
    how:
      description: What was done, V(moved) on the source, V(arrived) at the destination.
      returned: when the guest was moved
      type: str
      sample: moved
    method:
      description: How it was moved.
      returned: when the guest was moved, on the source
      type: str
      sample: precopy
    pause_ms:
      description: Milliseconds from the stop of the guest on the source to the answer that it runs at the destination, by the source's clock.
        Empty for a guest that was paused before.
      returned: when the guest was moved, on the source
      type: float
      sample: 35.2
    seconds:
      description: Seconds for all of it.
      returned: when the guest was moved
      type: float
      sample: 41.3
    qemu:
      description: Versions of QEMU on both hosts (source), or path, version and package of the one that carries the guest (destination).
      returned: when the guest was moved
      type: dict
      sample: {"from": "10.0.13", "to": "11.1.3"}
    outcome:
      description: What was done about a move that was cut off.
      returned: with O(state=recovered)
      type: str
      sample: "took the move back: the guest goes on here"
    error:
      description: Why the work did not come to its end.
      returned: when not RV(move.ok)
      type: dict
      contains:
        message:
          description: What was wrong.
          returned: always
          type: str
          sample: Guest web1 does not run here.
        cause:
          description: Why it is so.
          returned: when known
          type: str
          sample: "TLS handshake failed: The TLS connection was non-properly terminated."
        cure:
          description: What to do about it.
          returned: when known
          type: str
          sample: See what hostmem receive says on the destination, then move the guest again.
        code:
          description: Name of the error, where programs have to tell it from others.
          returned: for some errors
          type: str
          sample: busy
arrival:
  description: What the destination says of it, with the same keys.
  returned: when there was something to do at O(destination)
  type: dict
  contains: *result
diff:
  description: Where the guest ran, and where it runs. In check mode, would run.
  returned: when both hosts could be asked
  type: dict
  sample: {"before": {"web1": "hv1.example.com"}, "after": {"web1": "hv2.example.com"}}
error:
  description: What was wrong, in parts.
  returned: failure
  type: dict
  sample: {"message": "The runtime is not on this host.", "cure": "Run the role hostmem.qemu.hypervisor on this host."}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.hostmem.qemu.plugins.module_utils._runtime import Runtime, runtime_options

# The runtime's verb for a step of the action plugin's.
VERBS = {"look": "outcome", "check": "migrate", "begin": "begin", "cancel": "cancel"}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["moved", "cancelled", "recovered"], "default": "moved"},
            "destination": {"type": "str", "required": True},
            "address": {"type": "str"},
            "port": {"type": "int", "default": 0},
            "method": {"type": "str", "choices": ["precopy", "postcopy"], "default": "precopy"},
            "max_pause": {"type": "float"},
            "timeout": {"type": "float", "default": 3600.0},
            "plain": {"type": "bool", "default": False},
            "source_name": {"type": "str"},
            "poll": {"type": "float", "default": 2.0},
            "reconnect": {"type": "float", "default": 300.0},
            "_step": {"type": "str", "choices": list(VERBS)},
            "_words": {"type": "list", "elements": "str", "default": []},
            **runtime_options(),
        },
        supports_check_mode=True,
    )
    params = module.params
    for option in ("timeout", "max_pause", "poll"):
        if params[option] is not None and params[option] <= 0:
            module.fail_json(msg=f"{option} must be more than 0 seconds.")
    if params["_step"] is None:
        module.fail_json(
            msg="The two hosts of a move are led by the action plugin hostmem.qemu.guest_migration, which was not run."
        )
    results = Runtime(module).run(VERBS[params["_step"]], params["_words"], [params["name"]])
    module.exit_json(changed=results[0]["changed"], told=results[0])


if __name__ == "__main__":
    main()
