# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""KVM as the kernel offers it (Documentation/virt/kvm/api.rst)."""

from __future__ import annotations

import fcntl
import os

DEVICE = "/dev/kvm"
GET_API_VERSION = 0xAE00
"""ioctl KVM_GET_API_VERSION, linux/kvm.h."""
_MODULES = "/sys/module"


def api_version(path: str = DEVICE) -> int:
    """What KVM_GET_API_VERSION says: 12 on every kernel that QEMU runs on.

    :raises OSError: there is no KVM, or it is not ours to open.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return fcntl.ioctl(descriptor, GET_API_VERSION, 0)
    finally:
        os.close(descriptor)


def nested(root: str = _MODULES) -> bool | None:
    """Whether guests may have KVM themselves (parameter ``nested`` of kvm_intel, kvm_amd or another); None where no module tells."""
    try:
        names = sorted(name for name in os.listdir(root) if name.startswith("kvm"))
    except OSError:
        return None
    for name in names:
        try:
            with open(f"{root}/{name}/parameters/nested", encoding="ascii") as file:
                return file.read().strip() in ("Y", "1")
        except OSError:
            continue
    return None
