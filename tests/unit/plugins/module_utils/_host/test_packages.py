# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Packages by families of distributions, and that none is missing for what the engine runs."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host import packages
from ansible_collections.hostmem.qemu.plugins.module_utils._host.packages import (
    FAMILIES,
    boot_means_of,
    distribution_family,
    package_of,
)

ENGINE = Path(packages.__file__).parents[1]


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ("ID=debian\n", "Debian"),
        ('NAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian\n', "Debian"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "RedHat"),
        ('ID="opensuse-leap"\nID_LIKE="suse opensuse"\n', "Suse"),
        ("ID=sles\n", "Suse"),
        ("ID=arch\n", "Archlinux"),
        ("ID=other\n", ""),
        ("", ""),
    ],
)
def test_families_of_distributions(tmp_path: Path, text: str, family: str) -> None:
    (tmp_path / "os-release").write_text(text)
    assert distribution_family(str(tmp_path / "os-release")) == family
    assert distribution_family(str(tmp_path / "missing")) == ""


PACKAGES = {
    "ip": ["iproute2", "iproute", "iproute2", "iproute2"],
    "kernel-install": ["systemd", "systemd-udev", "udev", "systemd"],
    "libnuma.so.1": ["libnuma1", "numactl-libs", "libnuma1", "numactl"],
    "mkfs.ext4": ["e2fsprogs"] * 4,
    "mkfs.xfs": ["xfsprogs"] * 4,
    "mount": ["mount", "util-linux-core", "util-linux", "util-linux"],
    "ndctl": ["ndctl"] * 4,
    "ssh-keygen": ["openssh-client", "openssh", "openssh-common", "openssh"],
    "sync": ["coreutils"] * 4,
    "systemctl": ["systemd"] * 4,
    "udevadm": ["udev", "systemd-udev", "udev", "systemd"],
    "umount": ["mount", "util-linux-core", "util-linux", "util-linux"],
    "wipefs": ["util-linux", "util-linux-core", "util-linux", "util-linux"],
    "grubby": ["that has grubby", "grubby", "that has grubby", "that has grubby"],
    "update-grub": ["grub2-common", *["that has update-grub"] * 3],
}


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_packages_by_family(name: str) -> None:
    assert [package_of(name, family) for family in FAMILIES] == PACKAGES[name]


def test_where_the_family_or_the_program_is_not_known() -> None:
    assert package_of("ip", "") == "iproute2 or iproute"
    assert package_of("grubby", "") == "grubby"
    assert package_of("hostmem-none", "Debian") == "that has hostmem-none"


def test_boot_parameters_are_kept_by_what_the_family_has() -> None:
    for family in FAMILIES:
        assert not package_of(boot_means_of(family), family).startswith("that has"), family
    assert boot_means_of("") == "update-grub or grubby or kernel-install"


# Names that are not the first word of a list as it stands.
ELSEWHERE = {"mkfs.ext4", "mkfs.xfs"}


def test_every_program_that_is_run_has_its_packages() -> None:
    """What stands first in lists of words that are run, and what is required, is in the table; and nothing else is."""
    named = ELSEWHERE | {name for path in ENGINE.rglob("*.py") for name in programs_in(ast.parse(path.read_text()))}
    assert named == set(PACKAGES)


def programs_in(tree: ast.AST) -> set[str]:
    """Names of programs and libraries that code runs or loads."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            first = node.args[0]
            if node.func.id in ("run", "spawn", "_run", "_carry_out") and isinstance(first, ast.List):
                first = first.elts[0]
            elif node.func.id not in ("required", "load_library"):
                continue
            if isinstance(first, ast.Constant):
                found.add(str(first.value))
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.List) and names_words(node.targets):
            first = node.value.elts[0]
            if isinstance(first, ast.Constant):
                found.add(str(first.value))
    return found


def names_words(targets: list[ast.expr]) -> bool:
    return any(isinstance(target, ast.Name) and target.id == "words" for target in targets)
