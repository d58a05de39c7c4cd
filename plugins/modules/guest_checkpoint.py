#!/usr/bin/python
# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: guest_checkpoint
short_description: Save running guests, restore them, or give saved ones up
version_added: 1.0.0
description:
  - Saves guests through QEMU's C(cpr-reboot). A saved guest is off; its memory stays in its files, and the state of its devices lies in
    C(/var/lib/hostmem/NAME/checkpoint) beside a manifest. However large the memory is, what is written is some hundred KiB.
  - Restores saved guests where they were, once. What does not fit the manifest any more is refused; the guest is still saved then.
  - "A saved guest is not started anew by anything: O(state=absent) gives it up first, and its memory with it."
author:
  - hostmem.qemu authors (@hostmem)
options:
  names:
    description:
      - Names of the guests. One that is not defined on the host is an error.
    type: list
    elements: str
    required: true
  state:
    description:
      - V(saved) saves those that run. One that neither runs nor is saved is an error.
      - V(restored) restores those that are saved, and leaves those alone that run. One that neither runs nor is saved is an error.
      - V(absent) gives saved ones up; they are stopped then, and can be started anew. A guest that runs is left alone.
    type: str
    choices: [saved, restored, absent]
    default: saved
  full:
    description:
      - With O(state=saved), copies memory that ends with QEMU (V(memfd), private mappings) into the state, which takes space and time. Such
        guests are refused otherwise, with both numbers.
    type: bool
    default: false
  older:
    description:
      - With O(state=restored), restores also in a QEMU that is older than the one that saved the guest.
    type: bool
    default: false
extends_documentation_fragment:
  - hostmem.qemu.runtime
  - hostmem.qemu.attributes
  - hostmem.qemu.attributes.platform
  - hostmem.qemu.attributes.actiongroup_hostmem
attributes:
  check_mode:
    support: full
    details:
      - Everything is examined as before a save or restore; also in check mode the module fails if something is in the way.
      - With O(state=restored) the whole state is read and held against its digest, which takes longer with a larger one.
  diff_mode:
    support: full
  idempotent:
    support: full
seealso:
  - module: hostmem.qemu.guest
  - module: hostmem.qemu.guest_info
  - module: hostmem.qemu.live_update
"""

EXAMPLES = r"""
- name: Save two guests before the host is worked on
  hostmem.qemu.guest_checkpoint:
    names: [web1, web2]

- name: Let them go on
  hostmem.qemu.guest_checkpoint:
    names: [web1, web2]
    state: restored
  register: back

- name: Show how long they slept
  ansible.builtin.debug:
    msg: "{{ item.guest }}: {{ item.asleep_seconds | default(0) }} s"
  loop: "{{ back.checkpoints }}"
  loop_control:
    label: "{{ item.guest }}"

- name: Tell what it would cost to save a guest whose memory is a memfd
  hostmem.qemu.guest_checkpoint:
    names: [cache1]
    full: true
  check_mode: true
  register: cost

- name: Give a saved guest up, so that it can be started anew
  hostmem.qemu.guest_checkpoint:
    names: [web1]
    state: absent
"""

RETURN = r"""
checkpoints:
  description: What happened to each guest, in the order of O(names). Also returned when some guests failed.
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
      description: Whether the guest is as wanted. In check mode, whether nothing is in the way.
      returned: always
      type: bool
      sample: true
    changed:
      description: Whether the guest was saved, restored or given up.
      returned: always
      type: bool
      sample: true
    how:
      description: What was done, V(saved), V(saved already), V(restored).
      returned: when the guest was, or is, saved, or was restored
      type: str
      sample: saved
    saved:
      description: The checkpoint.
      returned: with O(state=saved), but not in check mode for a guest that runs
      type: dict
      contains: &checkpoint
        at:
          description: When the guest was saved, in UTC.
          returned: always
          type: str
          sample: "2026-01-01T12:00:00Z"
        generation:
          description: Number of the QEMU that saved it.
          returned: always
          type: int
          sample: 3
        qemu:
          description: Version and package of that QEMU.
          returned: always
          type: dict
          sample: {"version": "11.1.3", "package": "Debian 1:11.1.3+ds-1"}
        state_bytes:
          description: Size of the state.
          returned: always
          type: int
          sample: 291908
        copied_bytes:
          description: Memory in the state.
          returned: always
          type: int
          sample: 0
        in_place_bytes:
          description: Memory that stayed in its files.
          returned: always
          type: int
          sample: 4294967296
        was_running:
          description: Whether the guest goes on when it is restored; one that was paused stays so.
          returned: always
          type: bool
          sample: true
    would:
      description: What is known beforehand of the checkpoint that a save would make.
      returned: with O(state=saved), in check mode, for a guest that runs
      type: dict
      contains:
        generation:
          description: Number of the QEMU that would save it.
          returned: always
          type: int
          sample: 3
        qemu:
          description: Version and package of that QEMU.
          returned: always
          type: dict
          sample: {"version": "11.1.3", "package": "Debian 1:11.1.3+ds-1"}
        copied_bytes:
          description: Memory that would go into the state.
          returned: always
          type: int
          sample: 0
        in_place_bytes:
          description: Memory that would stay in its files.
          returned: always
          type: int
          sample: 4294967296
        was_running:
          description: Whether the guest would go on when it is restored; one that is paused would stay so.
          returned: always
          type: bool
          sample: true
        seconds:
          description: For about how long the guest would stand still while memory is copied.
          returned: always
          type: float
          sample: 0.0
    seconds:
      description: Seconds that the save took.
      returned: when the guest was saved
      type: float
      sample: 0.12
    asleep_seconds:
      description: Seconds between the save and the restore, by the host's clock. The guest's own clock stood still for so long.
      returned: when the guest was restored
      type: float
      sample: 93.2
    running:
      description: Whether a QEMU carries the guest already, as it was not saved.
      returned: with O(state=restored), for a guest that was not saved
      type: bool
      sample: true
    generation:
      description: Number of the QEMU that carries the guest, counted through live updates and starts.
      returned: with O(state=restored), when the guest runs
      type: int
      sample: 4
    pid:
      description: Process of the QEMU that carries the guest.
      returned: with O(state=restored), when the guest runs
      type: int
      sample: 4711
    qemu:
      description: Path, version and package of the QEMU that carries the guest.
      returned: when the guest was restored
      type: dict
      sample: {"path": "/usr/bin/qemu-system-x86_64", "version": "11.1.3", "package": "Debian 1:11.1.3+ds-1"}
    error:
      description: >-
        Why the guest is not as wanted. One that was to be saved runs on, unless the message tells of what comes after the save, as of the end of
        its unit; one that was to be restored is still saved, unless the message says otherwise. O(state=restored) is right for both: it
        lets those go on that are saved, and leaves those alone that run.
      returned: when not RV(checkpoints[].ok)
      type: dict
      contains:
        message:
          description: What was wrong.
          returned: always
          type: str
          sample: Memory block ram0 of guest cache1 does not outlive its QEMU.
        cause:
          description: Why it is so.
          returned: when known
          type: str
          sample: It is a memfd, which ends with QEMU.
        cure:
          description: What to do about it.
          returned: when known
          type: str
          sample: "Save it in full: 4G would be written, about 20 s in which the guest stands still."
        qemu:
          description: End of QEMU's own output.
          returned: when QEMU was the cause
          type: str
          sample: "qemu-system-x86_64: error while loading state"
        code:
          description: Name of the error, where programs have to tell it from others.
          returned: for some errors
          type: str
          sample: busy
diff:
  description: What became of each guest that changed, by its name.
  returned: always
  type: dict
  contains:
    before:
      description: What each guest was, V(on), running or paused, or V(saved).
      returned: always
      type: dict
      sample: {"web1": "on"}
    after:
      description: What each guest is, V(on), V(saved) or V(stopped). In check mode, would be.
      returned: always
      type: dict
      sample: {"web1": "saved"}
error:
  description: What was wrong as a whole, in parts.
  returned: when nothing could be asked
  type: dict
  sample: {"message": "The runtime is not on this host.", "cure": "Run the role hostmem.qemu.hypervisor on this host."}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.hostmem.qemu.plugins.module_utils._runtime import Runtime, complaints, runtime_options

# The runtime's verb for a state, and what guests that it changes are before and after. One that is on may be paused.
VERBS = {
    "saved": ("save", "on", "saved"),
    "restored": ("restore", "saved", "on"),
    "absent": ("discard", "saved", "stopped"),
}
# The state that an option is for.
OPTIONS = {"full": "saved", "older": "restored"}


def diff(results: list[dict[str, Any]], state: str) -> dict[str, Any]:
    """The guests that were, or would be, changed."""
    _verb, before, after = VERBS[state]
    changed = [item["guest"] for item in results if item["changed"]]
    return {"before": dict.fromkeys(changed, before), "after": dict.fromkeys(changed, after)}


def check_parameters(module: AnsibleModule) -> None:
    """What the argument specification cannot say."""
    for option, state in OPTIONS.items():
        if module.params[option] and module.params["state"] != state:
            module.fail_json(msg=f"{option} has a meaning with state={state} only.")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True},
            "state": {"type": "str", "choices": list(VERBS), "default": "saved"},
            "full": {"type": "bool", "default": False},
            "older": {"type": "bool", "default": False},
            **runtime_options(),
        },
        supports_check_mode=True,
    )
    check_parameters(module)
    state = module.params["state"]
    if not module.params["names"]:
        module.exit_json(changed=False, checkpoints=[], diff=diff([], state))
    options = ["--check"] if module.check_mode else []
    options += [f"--{option}" for option in OPTIONS if module.params[option]]
    results = Runtime(module).run(VERBS[state][0], options, module.params["names"])
    result = {
        "changed": any(item["changed"] for item in results),
        "checkpoints": results,
        "diff": diff(results, state),
    }
    bad = complaints(results)
    if bad:
        module.fail_json(msg=bad, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
