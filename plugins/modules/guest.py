#!/usr/bin/python
# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: guest
short_description: Define, start, stop and remove a guest
version_added: 1.0.0
description:
  - Keeps the definition of a QEMU guest on a host, and sees to it that the guest runs or does not run.
  - A running guest goes on with the definition it was started with. A new one is pending until its next start from cold,
    and a live update does not apply it.
  - "What is wrong with a definition is refused with every key and reason before anything changes."
author:
  - hostmem.qemu authors (@hostmem)
options:
  name:
    description: Name of the guest.
    type: str
    required: true
  state:
    description:
      - V(present) keeps the definition. Without O(definition), the guest must be defined already.
      - V(absent) removes definition, RAM files, taps, logs and state of the guest. Disk images are never touched.
        It is refused while the guest runs, unless O(power=off), and while it is saved.
    type: str
    choices: [present, absent]
    default: present
  definition:
    description:
      - The guest, as P(hostmem.qemu.definition#filter) describes it. Its RV(ignore:name) must be O(name).
    type: dict
  argv:
    description:
      - QEMU's arguments, rendered from O(definition) by P(hostmem.qemu.argv#filter).
      - They are parsed again on the host and held against the definition.
    type: list
    elements: str
  power:
    description:
      - V(on) starts the guest if it does not run; one that is saved (M(hostmem.qemu.guest_checkpoint)) is restored.
      - V(off) powers it down if it runs, with an ACPI request first.
      - Without it the guest is left as it is.
    type: str
    choices: ['on', 'off']
  stop_timeout:
    description:
      - Seconds between the ACPI request and the end of QEMU, with O(power=off).
      - With V(0) QEMU ends at once, as if power were cut off.
      - On hosts where systemd manages the guests, the unit's own time limit for stopping applies too.
    type: float
    default: 60
extends_documentation_fragment:
  - hostmem.qemu.runtime
  - hostmem.qemu.attributes
  - hostmem.qemu.attributes.platform
  - hostmem.qemu.attributes.actiongroup_hostmem
  - hostmem.qemu.attributes.full
seealso:
  - module: hostmem.qemu.guest_checkpoint
  - module: hostmem.qemu.guest_info
  - module: hostmem.qemu.live_update
  - plugin: hostmem.qemu.argv
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Define a guest and start it
  hostmem.qemu.guest:
    name: web1
    definition: "{{ web1 }}"
    argv: "{{ web1 | hostmem.qemu.argv }}"
    power: 'on'
  vars:
    web1:
      name: web1
      machine: pc-q35-10.0
      memory:
        blocks:
          - size: 4G
            backing: tmpfs
      disks:
        - id: d0
          path: /srv/web1.qcow2
          format: qcow2
      nics:
        - id: n0
          bridge: br0
          mac: 52:54:00:12:34:56

- name: Render the arguments with templates of your own
  hostmem.qemu.guest:
    name: web1
    definition: "{{ web1 }}"
    argv: "{{ web1 | hostmem.qemu.argv(templates=[playbook_dir ~ '/templates/qemu']) }}"

- name: Power a guest down, at the latest after two minutes
  hostmem.qemu.guest:
    name: web1
    power: 'off'
    stop_timeout: 120

- name: Remove a guest, also when it runs
  hostmem.qemu.guest:
    name: web1
    state: absent
    power: 'off'
"""

RETURN = r"""
guest:
  description: Name of the guest.
  returned: always
  type: str
  sample: web1
definition_pending:
  description: Whether the guest runs with an older definition, so that the one kept now applies from its next start.
  returned: when O(definition) is given
  type: bool
  sample: false
running:
  description: Whether a QEMU carries the guest. In check mode, as it would be.
  returned: success
  type: bool
  sample: true
generation:
  description: Number of the QEMU that carries the guest, counted through live updates and starts.
  returned: when the guest runs
  type: int
  sample: 0
pid:
  description: Process of the QEMU that carries the guest.
  returned: when the guest runs
  type: int
  sample: 4711
how:
  description: How the guest was stopped.
  returned: when the guest was stopped, or was stopped already
  type: str
  sample: powered down
diff:
  description: Definition, arguments and power before and after.
  returned: success
  type: dict
  contains:
    before:
      description: What there was; empty for a guest that was not defined.
      returned: always
      type: dict
      sample: {}
    after:
      description: What there is; empty for a guest that is not defined any more.
      returned: always
      type: dict
      sample: {"power": "on"}
error:
  description: What was wrong, as text for people in C(msg) and in parts here.
  returned: failure
  type: dict
  contains:
    message:
      description: What was wrong, and where.
      returned: always
      type: str
      sample: Guest web1 runs.
    cause:
      description: Why it is so.
      returned: when known
      type: str
      sample: A running guest's definition is not removed.
    cure:
      description: What to do about it.
      returned: when known
      type: str
      sample: Stop it first.
    qemu:
      description: End of QEMU's own output.
      returned: when QEMU was the cause
      type: str
      sample: "qemu-system-x86_64: -device foo: 'foo' is not a valid device model name"
    code:
      description: Name of the error, where programs have to tell it from others.
      returned: for some errors
      type: str
      sample: not_defined
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.hostmem.qemu.plugins.module_utils._runtime import Runtime, runtime_options


class Guest:
    """Brings one guest to the wanted state, verb by verb, and keeps account of what that changed."""

    def __init__(self, module: AnsibleModule) -> None:
        self._params: dict[str, Any] = module.params
        self._check: bool = module.check_mode
        self._name: str = module.params["name"]
        self._module = module
        self._runtime = Runtime(module)
        self._before: dict[str, Any] = {}
        self._after: dict[str, Any] = {}
        self._was_defined = True
        self._facts: dict[str, Any] = {"guest": self._name, "changed": False}

    def present(self) -> None:
        """Keep the definition, then power as wanted; a guest to be stopped is stopped first, since a running one holds on to its RAM files."""
        if self._params["power"] == "off":
            if self._params["definition"] is not None:
                self._keep(["--check", "--assume-stopped"])
            self._stop(may_be_missing=self._params["definition"] is not None)
            self._define(after_stop=True)
        else:
            self._define()
            if self._params["power"] == "on":
                self._start()

    def absent(self) -> None:
        """Forget the guest."""
        if self._params["power"] == "off":
            self._stop(may_be_missing=True)
        result = self._verb("undefine", self._checking(after_stop=self._params["power"] == "off"))
        self._account(result, result["diff"])
        self._after.clear()
        self._facts["running"] = False

    def exit_values(self) -> dict[str, Any]:
        """What the module returns."""
        diff = {"before": self._before if self._was_defined else {}, "after": self._after}
        return {**self._facts, "diff": {**diff, "before_header": self._name, "after_header": self._name}}

    def _checking(self, after_stop: bool = False) -> list[str]:
        if not self._check:
            return []
        return ["--check", "--assume-stopped"] if after_stop else ["--check"]

    def _keep(self, options: list[str]) -> dict[str, Any]:
        data = {"definition": self._params["definition"], "argv": self._params["argv"]}
        result = self._runtime.run("define", options, data=data)[0]
        return self._well(result)

    def _define(self, after_stop: bool = False) -> None:
        if self._params["definition"] is None:
            if self._params["power"] is None:
                self._known()
            return
        result = self._keep(self._checking(after_stop))
        for warning in result["warnings"]:
            self._module.warn(warning)
        self._account(result, result["diff"])
        self._facts["definition_pending"] = result["definition_pending"]
        if self._params["power"] is None:
            self._carried_by(result)
            self._power(result["running"], result["running"])

    def _known(self) -> None:
        """Nothing is wanted but that the guest is defined."""
        result = self._verb("stop", ["--check"])
        self._carried_by(result)
        self._power(result["running"], result["running"])

    def _start(self) -> None:
        result = self._foretold_start() or self._verb("start", self._checking())
        self._account(result)
        self._carried_by(result)
        self._facts["running"] = True
        self._power(not result["changed"], True)

    def _foretold_start(self) -> dict[str, Any] | None:
        """In check mode the runtime cannot foretell the start of a guest whose definition it does not have yet."""
        if not self._check or not self._facts["changed"]:
            return None
        if not self._was_defined:
            return {"changed": True}
        carried = self._verb("stop", ["--check"])
        return {**carried, "changed": not carried["running"]}

    def _stop(self, may_be_missing: bool) -> None:
        timeout = str(self._params["stop_timeout"])
        result = self._runtime.run("stop", ["--timeout", timeout, *self._checking()], [self._name])[0]
        if may_be_missing and not result["ok"] and result["error"].get("code") == "not_defined":
            result = {"changed": False}
        else:
            self._well(result)
        self._account(result)
        self._facts["running"] = False
        if "how" in result:
            self._facts["how"] = result["how"]
        self._power(result["changed"], False)

    def _power(self, before: bool, after: bool) -> None:
        self._before["power"] = "on" if before else "off"
        self._after["power"] = "on" if after else "off"

    def _carried_by(self, result: dict[str, Any]) -> None:
        self._facts.update({key: result[key] for key in ("running", "generation", "pid") if key in result})

    def _account(self, result: dict[str, Any], diff: dict[str, Any] | None = None) -> None:
        self._facts["changed"] = self._facts["changed"] or result["changed"]
        if diff is not None:
            self._was_defined = bool(diff["before"])
            self._before.update(_shown(diff["before"]))
            self._after.update(_shown(diff["after"]))

    def _verb(self, verb: str, options: list[str]) -> dict[str, Any]:
        return self._well(self._runtime.run(verb, options, [self._name])[0])

    def _well(self, result: dict[str, Any]) -> dict[str, Any]:
        """The result, unless it is a failure, which ends the module, telling what was changed before."""
        if not result["ok"]:
            self._runtime.fail(result["error"], **self.exit_values())
        return result


def _shown(stored: dict[str, Any]) -> dict[str, Any]:
    return {key: stored[key] for key in ("definition", "argv") if key in stored}


def check_parameters(module: AnsibleModule) -> None:
    """What the argument specification cannot say."""
    params = module.params
    if params["state"] == "absent" and params["power"] == "on":
        module.fail_json(msg="power: 'on' contradicts state: absent.")
    if params["definition"] is not None and params["definition"].get("name") != params["name"]:
        module.fail_json(
            msg=f"definition.name is {params['definition'].get('name')!r}, name is {params['name']!r}: they must be the same."
        )
    if params["stop_timeout"] < 0:
        module.fail_json(msg="stop_timeout must not be negative.")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "definition": {"type": "dict"},
            "argv": {"type": "list", "elements": "str"},
            "power": {"type": "str", "choices": ["on", "off"]},
            "stop_timeout": {"type": "float", "default": 60},
            **runtime_options(),
        },
        required_together=[("definition", "argv")],
        supports_check_mode=True,
    )
    check_parameters(module)
    guest = Guest(module)
    if module.params["state"] == "present":
        guest.present()
    else:
        guest.absent()
    module.exit_json(**guest.exit_values())


if __name__ == "__main__":
    main()
