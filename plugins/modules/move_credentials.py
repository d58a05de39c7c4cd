#!/usr/bin/python
# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: move_credentials
short_description: Manage the certificates by which hosts know each other when a guest moves
version_added: 1.0.0
description:
  - Gives a host a private key and a certificate for TLS (X.509), by which runtimes and QEMUs of two hosts know each other while a guest moves.
  - The private key is made on the host and never leaves it. Its public key goes to the controller, where an authority of this collection signs it.
    The authority's own key stays on the controller, in O(authority).
  - The files have the names that QEMU's C(tls-creds-x509) reads in its C(dir), C(ca-cert.pem), C(server-cert.pem), C(server-key.pem), C(client-cert.pem)
    and C(client-key.pem). QEMU's group can read them, others cannot.
  - "They are judged by a TLS handshake of the host with itself, before new ones replace those in use, and at each run: chain, purposes, keys, and
    each of O(names)."
  - Whoever holds a certificate of the authority can send guests to all hosts that have one. Use one authority for hosts that trust each other, and for
    nothing else.
author:
  - hostmem.qemu authors (@hostmem)
options:
  state:
    description:
      - V(present) makes them, and new ones when one of O(names) is not in the certificate, when it ends within O(renew_before), or when no handshake
        succeeds by them.
      - V(checked) makes nothing. It is for files that somebody else's public-key infrastructure puts there, and fails when no handshake succeeds by them,
        when one of O(names) is not in the server's certificate, when QEMU's user cannot read one of them, or when all users can read a key.
      - V(absent) removes them.
    type: str
    choices: [present, absent, checked]
    default: present
  path:
    description:
      - Directory of the files.
    type: path
    default: /etc/hostmem/tls
  authority:
    description:
      - Directory on the controller in which the authority's key and certificate are. It is made when it is first needed, for the user who runs
        Ansible alone.
      - Keep it, and keep it secret. The same one is to be used for all hosts that guests move between, by all controllers. Where a controller does not
        last, such as a container of AWX, it must lie on a volume.
      - Needed with O(state=present).
    type: path
  replace_authority:
    description:
      - Whether a host that trusts another authority, or one that is not on this controller, is to trust O(authority) from now on. Guests move only between
        hosts that trust the same one.
    type: bool
    default: false
  names:
    description:
      - Names and addresses by which other hosts reach this one.
      - Needed with O(state=present).
    type: list
    elements: str
    default: []
  user:
    description:
      - User that QEMU runs as.
    type: str
    default: hostmem
  group:
    description:
      - Group of that user, whose the files become.
    type: str
    default: hostmem
  validity:
    description:
      - Days for which a new certificate is valid, but not longer than the authority's own.
    type: int
    default: 730
  renew_before:
    description:
      - Days before a certificate ends from which on it is replaced, or warned of with O(state=checked).
    type: int
    default: 180
  _authority:
    description: The authority's certificate. Set by the action plugin, not by users.
    type: str
    default: ""
  _certificate:
    description: The host's new certificate. Set by the action plugin, not by users.
    type: str
    default: ""
extends_documentation_fragment:
  - hostmem.qemu.attributes
  - hostmem.qemu.attributes.platform
  - hostmem.qemu.attributes.actiongroup_hostmem
  - hostmem.qemu.attributes.full
  - hostmem.qemu.foreseen
  - hostmem.qemu.unused
  - hostmem.qemu.unused.config
attributes:
  action:
    description: Indicates this has a corresponding action plugin so some parts of the options can be executed on the controller.
    support: full
requirements:
  - cryptography on the controller, which ansible-core itself requires
  - ssh-keygen on the host, with O(state=present)
  - root on the host (C(become))
seealso:
  - name: Moving guests between hosts
    description: What the certificates are for.
    link: https://github.com/ansible-collections/hostmem.qemu/blob/main/docs/moving-hosts.md
"""

EXAMPLES = r"""
- name: Give the host its certificates
  hostmem.qemu.move_credentials:
    authority: ~/.config/hostmem/authority
    names:
      - "{{ inventory_hostname }}"
      - "{{ ansible_facts.default_ipv4.address }}"

- name: Check those of our own certificate authority
  hostmem.qemu.move_credentials:
    path: /etc/pki/qemu
    names: ["{{ inventory_hostname }}"]
    state: checked
"""

RETURN = r"""
credentials:
  description: What the host has, or would have outside of check mode. Nothing of it is secret.
  returned: O(state=present) and O(state=checked)
  type: dict
  contains:
    path:
      description: Directory of the files.
      returned: always
      type: str
      sample: /etc/hostmem/tls
    names:
      description: What the server's certificate is for.
      returned: always
      type: list
      elements: str
      sample: [10.0.0.11, hv1.example.com]
    valid_until:
      description: Day on which the first of the certificates ends (UTC).
      returned: always
      type: str
      sample: "2028-11-21"
    authority:
      description: SHA-256 of the authority's certificate. Empty in check mode for one that is still to be made.
      returned: always
      type: str
      sample: 52e1f4e3c1d7f8d6a31a6d5c9d6bba2e3f6a33a1b9a6a7f5f1a2b3c4d5e6f708
    reasons:
      description: Why new ones were made; empty when those that there were stayed.
      returned: always
      type: list
      elements: str
      sample: ["/etc/hostmem/tls/ca-cert.pem: No such file or directory"]
diff:
  description: The same, with the permissions of the files.
  returned: success
  type: dict
  contains:
    before:
      description: What there was; empty when there was nothing.
      returned: always
      type: dict
      sample: {}
    after:
      description: What there is; empty when there is nothing.
      returned: always
      type: dict
      sample: {"names": ["hv1"], "valid_until": "2028-11-21", "permissions": {".": "0750 root:hostmem"}}
foreseen:
  description: O(foreseen), for the tasks that follow.
  returned: in check mode
  type: dict
  sample: {"groups": ["hostmem"], "users": ["hostmem"]}
error:
  description: What was wrong, as text for people in C(msg) and in parts here.
  returned: failure
  type: dict
  contains:
    message:
      description: What was wrong, and where.
      returned: always
      type: str
      sample: "/etc/hostmem/tls: this host trusts another authority than the one in O(authority)."
    cause:
      description: Why it is so.
      returned: when known
      type: str
      sample: "It has that of 52e1f4e3c1d7."
    cure:
      description: What to do about it.
      returned: when known
      type: str
      sample: "Name the directory of the other one, or set replace_authority on all hosts that guests move between."
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.hostmem.qemu.plugins.module_utils._failures import failures_of
from ansible_collections.hostmem.qemu.plugins.module_utils._host.errors import Refused
from ansible_collections.hostmem.qemu.plugins.module_utils._host.host_names import host_name
from ansible_collections.hostmem.qemu.plugins.module_utils._host.programs import required
from ansible_collections.hostmem.qemu.plugins.module_utils._host.tls_credentials import (
    Credentials,
    Wish,
    absent,
    check,
    plan,
)
from ansible_collections.hostmem.qemu.plugins.module_utils._host.tls_files import (
    make_key,
    put_in_place,
    remove,
    set_permissions,
)
from ansible_collections.hostmem.qemu.plugins.module_utils._host.users import User, find_user
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.foreseen import Foreseen, foreseen_in

DAY = 24 * 3600


def wish_of(params: dict[str, Any]) -> Wish:
    """What the parameters ask for.

    :raises Refused: a name is none, or the times contradict each other.
    """
    if params["state"] == "present" and not params["names"]:
        raise Refused("names is empty.", cure="Name what the other hosts reach this one by.")
    if not 0 <= params["renew_before"] < params["validity"]:
        raise Refused(
            f"renew_before is {params['renew_before']}, and validity {params['validity']}.",
            cure="Let renew_before be 0 or more, and less than validity: each run would renew what the one before made.",
        )
    return Wish(
        directory=params["path"].rstrip("/"),
        names=tuple(sorted({host_name(name) for name in params["names"]})),
        group=params["group"],
        validity=params["validity"] * DAY,
        renew_before=params["renew_before"] * DAY,
        authority=params["_authority"],
        replace_authority=params["replace_authority"],
    )


def user_of(params: dict[str, Any], foreseen: Foreseen) -> User | None:
    """QEMU's user; None when it is still to be made.

    :raises Refused: there is no such user or group.
    """
    try:
        return find_user(params["user"], params["group"])
    except KeyError as error:
        if params["user"] in foreseen.users and params["group"] in foreseen.groups:
            return None
        raise Refused(
            f"There is no user {params['user']} or no group {params['group']} on this host.",
            cure="Make them first, for instance by the role hostmem.qemu.hypervisor.",
        ) from error


def present(module: AnsibleModule, wish: Wish, foreseen: Foreseen) -> dict[str, Any]:
    """Look, and say by ``public_key`` that a certificate is wanted for it; or put the one that came into place."""
    user = user_of(module.params, foreseen)
    planned = plan(wish, user)
    result = planned.as_dict()
    if module.check_mode:
        if planned.reasons and not foreseen.brings("ssh-keygen"):
            required("ssh-keygen")
        return result
    certificate: str = module.params["_certificate"]
    if planned.reasons and not certificate:
        return {"changed": True, "public_key": make_key(wish.directory, wish.group)}
    if planned.reasons:
        put_in_place(wish.directory, wish.group, certificate, wish.authority)
    elif planned.changed:
        set_permissions(wish.directory, wish.group)
    if planned.changed:
        left = plan(wish, user)
        if left.changed:
            raise Refused(
                f"{wish.directory} is not as it was made.",
                cause=" ".join(left.reasons),
                cure="See whether something else writes there, then run this again.",
            )
        result = planned.as_dict(left.before)
    return result


def work(module: AnsibleModule, foreseen: Foreseen) -> dict[str, Any]:
    """The result.

    :raises HostmemError: something is refused with nothing changed.
    """
    state, wish = module.params["state"], wish_of(module.params)
    if state == "present":
        return present(module, wish, foreseen)
    if state == "checked":
        return check(wish, user_of(module.params, foreseen)).as_dict()
    found: Credentials = absent(wish)
    if found.changed and not module.check_mode:
        remove(wish.directory)
    return found.as_dict()


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent", "checked"], "default": "present"},
            "path": {"type": "path", "default": "/etc/hostmem/tls"},
            "authority": {"type": "path"},
            "replace_authority": {"type": "bool", "default": False},
            "names": {"type": "list", "elements": "str", "default": []},
            "user": {"type": "str", "default": "hostmem"},
            "group": {"type": "str", "default": "hostmem"},
            "validity": {"type": "int", "default": 730},
            "renew_before": {"type": "int", "default": 180},
            "config": {"type": "path"},
            "runtime": {"type": "path"},
            "foreseen": {"type": "dict"},
            "_authority": {"type": "str", "default": "", "no_log": False},  # both set by the action plugin
            "_certificate": {"type": "str", "default": "", "no_log": False},
        },
        supports_check_mode=True,
    )
    with failures_of(module, "The credentials"):
        foreseen = foreseen_in(module.params["foreseen"] if module.check_mode else None)
        result = work(module, foreseen)
        if module.check_mode:
            result["foreseen"] = foreseen.as_dict()
    for text in result.pop("warnings", []):
        module.warn(text)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
