# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation fragment for the modules that ask the runtime of a host."""

from __future__ import annotations


class ModuleDocFragment:
    """Where the runtime and its configuration are."""

    DOCUMENTATION = r"""
options:
  runtime:
    description:
      - Program of the runtime on the host.
      - The role P(hostmem.qemu.hypervisor#role) installs it. It must be of the same version as the collection.
    type: path
    default: /usr/lib/hostmem/current/bin/hostmem
  config:
    description:
      - Configuration of the runtime, which says where definitions, sockets and logs are.
    type: path
    default: /etc/hostmem/config.json
requirements:
  - root on the host (C(become))
  - the runtime, from the role P(hostmem.qemu.hypervisor#role)
"""
