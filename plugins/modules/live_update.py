#!/usr/bin/python
# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: live_update
short_description: Move running guests into the installed QEMU
version_added: 1.0.0
description:
  - Replaces the QEMU under running guests by the installed one, through QEMU's live update (C(cpr-transfer), C(cpr-reboot),
    C(cpr-exec)). A guest pauses for some milliseconds; its memory stays where it is, and its devices, disks and connections go on.
  - A guest that runs in the installed QEMU already is left alone, unless O(force).
  - "What would make the update of a guest fail is found while it still runs, and refused with cause and cure. If an update
    fails nevertheless, the guest runs on in its old QEMU."
  - "A pending definition (see M(hostmem.qemu.guest)) is not applied by a live update."
author:
  - hostmem.qemu authors (@hostmem)
options:
  names:
    description:
      - Names of the guests. A guest that does not run is an error.
      - Exactly one of O(names) and O(all) is needed.
    type: list
    elements: str
  all:
    description:
      - All guests defined on the host that run.
    type: bool
    default: false
  force:
    description:
      - Update also guests that run in the installed QEMU already.
      - The module is not idempotent then.
    type: bool
    default: false
  max_pause:
    description:
      - Seconds that a guest may be paused before its update is called off.
      - Without it, what the guest's definition says.
    type: float
  method:
    description:
      - How a guest gets into the installed QEMU.
      - V(transfer) is C(cpr-transfer), for QEMU 10.0 and later, from one to the same or a newer version. The old QEMU hands all
        memory over to the new one; the shortest pause.
      - V(checkpoint) is C(cpr-reboot), for QEMU 8.2 and later, also back to an older version. Memory in shared files stays in its
        place, everything else goes through a file. Guests with memory that is no file (C(memfd)) cannot take it.
      - V(exec) is C(cpr-exec), for QEMU 10.2 and later. QEMU replaces itself in its process, so that its PID stays. All that
        V(transfer) needs is needed, too, and C(sandbox.spawn) in the guest's definition. A second new QEMU stands by meanwhile,
        and goes on with the guest (in another process) if the new program fails.
      - V(auto) takes V(transfer) where it is possible, else V(checkpoint); it never takes V(exec).
    type: str
    choices: [auto, transfer, checkpoint, exec]
    default: auto
  parallel:
    description:
      - Number of live updates at once on the host.
      - Without it, what the runtime's configuration says.
    type: int
extends_documentation_fragment:
  - hostmem.qemu.runtime
  - hostmem.qemu.attributes
  - hostmem.qemu.attributes.platform
  - hostmem.qemu.attributes.actiongroup_hostmem
attributes:
  check_mode:
    support: full
    details:
      - Everything is examined as before a live update; also in check mode the module fails if something blocks one.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - Not with O(force=true).
seealso:
  - module: hostmem.qemu.guest
  - module: hostmem.qemu.guest_info
"""

EXAMPLES = r"""
- name: Move all guests of the host into the QEMU that was just installed
  hostmem.qemu.live_update:
    all: true

- name: Update two guests, none of them paused for more than half a second
  hostmem.qemu.live_update:
    names: [web1, web2]
    max_pause: 0.5
  register: moved

- name: Go back to the older QEMU that was installed again
  hostmem.qemu.live_update:
    all: true
    method: checkpoint

- name: Show how long they were paused
  ansible.builtin.debug:
    msg: "{{ item.guest }}: {{ item.pause_ms | default(0) }} ms"
  loop: "{{ moved.updates }}"
  loop_control:
    label: "{{ item.guest }}"
"""

RETURN = r"""
updates:
  description: What happened to each guest, in the order of O(names) or of the alphabet. Also returned when some guests failed.
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
      description: Whether the guest runs in the installed QEMU now. In check mode, whether nothing blocks its update.
      returned: always
      type: bool
      sample: true
    changed:
      description: Whether the guest was moved.
      returned: always
      type: bool
      sample: true
    reason:
      description: Why the guest was moved, or why it was not.
      returned: when RV(updates[].ok)
      type: str
      sample: /usr/bin/qemu-system-x86_64 was replaced since the guest's QEMU started
    method:
      description: How the guest was moved, or would be, V(transfer), V(checkpoint) or V(exec).
      returned: when the guest was moved, or in check mode would be
      type: str
      sample: transfer
    method_reason:
      description: Why by this method. With O(method=auto), why others that come before it are not possible.
      returned: when the guest was moved, or in check mode would be
      type: str
      sample: cpr-transfer is possible, which pauses the guest for the shortest time
    pause_ms:
      description: Milliseconds from the stop of the guest in the old QEMU to its start in the new one. Empty for a guest that was paused before.
      returned: when the guest was moved
      type: float
      sample: 5.5
    total_ms:
      description: Milliseconds for the whole update of this guest, waiting for its turn included.
      returned: when the guest was moved
      type: float
      sample: 116.0
    from:
      description: The QEMU that carried the guest before.
      returned: when the guest was moved
      type: dict
      contains: &qemu
        generation:
          description: Number of the QEMU, counted through live updates and starts.
          returned: always
          type: int
          sample: 0
        version:
          description: Version of QEMU.
          returned: always
          type: str
          sample: 10.0.13
        package:
          description: Package of QEMU as the distribution names it.
          returned: always
          type: str
          sample: Debian 1:10.0.13+ds-0+deb13u1
    to:
      description: The QEMU that carries the guest now.
      returned: when the guest was moved
      type: dict
      contains: *qemu
    generation:
      description: Number of the QEMU that carries the guest, counted through live updates and starts.
      returned: when the guest runs
      type: int
      sample: 1
    pid:
      description: Process of the QEMU that carries the guest now.
      returned: when the guest was moved
      type: int
      sample: 4711
    vcpu_progress:
      description: Whether vCPUs were seen to make progress in the new QEMU. An idle guest makes none. Empty for a guest that was paused before.
      returned: when the guest was moved
      type: bool
      sample: true
    warnings:
      description: >-
        What the guest has lost, empty when it is nothing. Only persistent dirty bitmaps of disks can be lost, when others change the image
        meanwhile. With V(exec) also that the new program failed and the QEMU that stood by has the guest now.
      returned: when the guest was moved
      type: list
      elements: str
      sample: []
    error:
      description: Why the guest was not moved. It runs on in its old QEMU.
      returned: when not RV(updates[].ok)
      type: dict
      contains:
        message:
          description: What was wrong.
          returned: always
          type: str
          sample: Guest web1 does not run.
        cause:
          description: Why it is so.
          returned: when known
          type: str
          sample: A job lives in one QEMU and would be cut off.
        cure:
          description: What to do about it.
          returned: when known
          type: str
          sample: Start it; it then runs in the installed QEMU.
        qemu:
          description: End of QEMU's own output.
          returned: when QEMU was the cause
          type: str
          sample: "qemu-system-x86_64: error while loading shared libraries"
        code:
          description: Name of the error, where programs have to tell it from others.
          returned: for some errors
          type: str
          sample: busy
diff:
  description: The QEMU of each guest, by its name, before and after.
  returned: when something was asked
  type: dict
  contains:
    before:
      description: The QEMU that each guest left.
      returned: always
      type: dict
      sample: {"web1": "QEMU 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1), generation 0"}
    after:
      description: The QEMU that carries each guest. In check mode, that would.
      returned: always
      type: dict
      sample: {"web1": "QEMU 11.1.3 (Debian 1:11.1.3+ds-1), generation 1"}
error:
  description: What was wrong as a whole, in parts.
  returned: when nothing could be asked
  type: dict
  sample: {"message": "The runtime is not on this host.", "cure": "Run the role hostmem.qemu.hypervisor on this host."}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.hostmem.qemu.plugins.module_utils._runtime import Runtime, complaints, runtime_options


def verb_options(params: dict[str, Any], check: bool) -> list[str]:
    """The options of the runtime's verb."""
    options = ["--check"] if check else []
    if params["force"]:
        options.append("--force")
    if params["max_pause"] is not None:
        options += ["--max-pause", str(params["max_pause"])]
    if params["method"] != "auto":
        options += ["--method", params["method"]]
    if params["parallel"] is not None:
        options += ["--parallel", str(params["parallel"])]
    if params["all"]:
        options.append("--all")
    return options


def diff(updates: list[dict[str, Any]]) -> dict[str, Any]:
    """The QEMUs of the guests that were, or would be, moved."""
    moved = [item for item in updates if item["changed"] and "from" in item]
    return {
        "before": {item["guest"]: _qemu(item["from"]) for item in moved},
        "after": {item["guest"]: _qemu(item["to"]) for item in moved},
    }


def _qemu(side: dict[str, Any]) -> str:
    return f"QEMU {side['version']} ({side['package']}), generation {side['generation']}"


def check_parameters(module: AnsibleModule) -> None:
    """What the argument specification cannot say."""
    params = module.params
    if params["max_pause"] is not None and params["max_pause"] <= 0:
        module.fail_json(msg="max_pause must be more than 0 seconds.")
    if params["parallel"] is not None and params["parallel"] < 1:
        module.fail_json(msg="parallel must be at least 1.")
    if bool(params["all"]) == (params["names"] is not None):
        module.fail_json(msg="Exactly one of names and all is needed.")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str"},
            "all": {"type": "bool", "default": False},
            "force": {"type": "bool", "default": False},
            "max_pause": {"type": "float"},
            "method": {"type": "str", "choices": ["auto", "transfer", "checkpoint", "exec"], "default": "auto"},
            "parallel": {"type": "int"},
            **runtime_options(),
        },
        supports_check_mode=True,
    )
    check_parameters(module)
    if module.params["names"] == []:
        module.exit_json(changed=False, updates=[])
    options = verb_options(module.params, module.check_mode)
    updates = Runtime(module).run("update", options, module.params["names"] or [])
    for item in updates:
        for warning in item.get("warnings", []):
            module.warn(f"{item['guest']}: {warning}")
    result = {"changed": any(item["changed"] for item in updates), "updates": updates, "diff": diff(updates)}
    bad = complaints(updates)
    if bad:
        module.fail_json(msg=bad, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
