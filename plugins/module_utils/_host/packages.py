# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which package brings a program or library, by Ansible's families of distributions (os_family)."""

from __future__ import annotations

FAMILIES = ("Debian", "RedHat", "Suse", "Archlinux")
# Every program that is run and every library that is loaded, beside QEMU; empty where a family has no package of it.
_PACKAGES: dict[str, tuple[str, str, str, str]] = {
    "grubby": ("", "grubby", "", ""),
    "ip": ("iproute2", "iproute", "iproute2", "iproute2"),
    "kernel-install": ("systemd", "systemd-udev", "udev", "systemd"),
    "libnuma.so.1": ("libnuma1", "numactl-libs", "libnuma1", "numactl"),
    "mkfs.ext4": ("e2fsprogs", "e2fsprogs", "e2fsprogs", "e2fsprogs"),
    "mkfs.xfs": ("xfsprogs", "xfsprogs", "xfsprogs", "xfsprogs"),
    "mount": ("mount", "util-linux-core", "util-linux", "util-linux"),
    "ndctl": ("ndctl", "ndctl", "ndctl", "ndctl"),
    "ssh-keygen": ("openssh-client", "openssh", "openssh-common", "openssh"),
    "sync": ("coreutils", "coreutils", "coreutils", "coreutils"),
    "systemctl": ("systemd", "systemd", "systemd", "systemd"),
    "udevadm": ("udev", "systemd-udev", "udev", "systemd"),
    "umount": ("mount", "util-linux-core", "util-linux", "util-linux"),
    "update-grub": ("grub2-common", "", "", ""),
    "wipefs": ("util-linux", "util-linux-core", "util-linux", "util-linux"),
}
# What keeps boot parameters.
_BOOT_MEANS = {"Debian": "update-grub", "RedHat": "grubby", "Suse": "kernel-install", "Archlinux": "kernel-install"}
_LIKE = {
    "debian": "Debian",
    "ubuntu": "Debian",
    "rhel": "RedHat",
    "fedora": "RedHat",
    "centos": "RedHat",
    "suse": "Suse",
    "opensuse": "Suse",
    "sles": "Suse",
    "arch": "Archlinux",
}


def install(name: str) -> str:
    """What to do where a program or library is missing, in a sentence."""
    return f"Install the package {package_of(name, distribution_family())}."


def boot_means_of(family: str) -> str:
    """The program that keeps boot parameters on a family of distributions, all that could where the family is not known."""
    return _BOOT_MEANS.get(family) or " or ".join(dict.fromkeys(_BOOT_MEANS.values()))


def package_of(name: str, family: str) -> str:
    """The package that has a program or library, in words that say so where it is not known."""
    if name not in _PACKAGES:
        return f"that has {name}"
    names = dict(zip(FAMILIES, _PACKAGES[name]))
    if family in names:
        return names[family] or f"that has {name}"
    return " or ".join(dict.fromkeys(filter(None, names.values())))


def distribution_family(path: str = "/etc/os-release") -> str:
    """Family of distributions as Ansible names it (``Debian``, ``RedHat``, ``Suse``, ``Archlinux``), from os-release(5); empty when unknown."""
    try:
        with open(path, encoding="utf-8") as file:
            values = dict(line.rstrip("\n").split("=", 1) for line in file if "=" in line)
    except OSError:
        return ""
    names = f"{values.get('ID', '')} {values.get('ID_LIKE', '')}".replace('"', "").replace("'", "").split()
    for name in names:
        for known, family in _LIKE.items():
            if name == known or name.startswith(known + "-"):
                return family
    return ""
