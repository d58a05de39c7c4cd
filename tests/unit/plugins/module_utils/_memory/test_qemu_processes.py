# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose a QEMU is, by its arguments and control group."""

from __future__ import annotations

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._memory.qemu_processes import (
    claimed_generation,
    guest_name,
    is_libvirts,
    is_qemu,
)

# As libvirt 11.3 starts it on Debian 13, without what does not matter.
LIBVIRTS = [
    "/usr/bin/qemu-system-x86_64",
    *("-name", "guest=web1,debug-threads=on"),
    "-S",
    *(
        "-object",
        '{"qom-type":"secret","id":"masterKey0","format":"raw","file":"/var/lib/libvirt/qemu/domain-1-web1/master-key.aes"}',
    ),
    *("-chardev", "socket,id=charmonitor,fd=26,server=on,wait=off"),
    *("-mon", "chardev=charmonitor,id=monitor,mode=control"),
]
SESSION = "/home/me/.config/libvirt/qemu/lib/domain-12-a-b/monitor.sock"
SCOPE = "0::/machine.slice/machine-qemu\\x2d1\\x2dweb1.scope/libvirt/emulator\n"
OURS = ["qemu", "-name", "guest=web1", "-S", "-qmp", "unix:/run/hostmem/web1/gen-3/qmp.sock,server=on,wait=off"]


@pytest.mark.parametrize(
    ("executable", "word", "wanted"),
    [
        ("/usr/bin/qemu-system-x86_64", "anything", True),
        ("/usr/bin/qemu-system-aarch64 (deleted)", "anything", True),
        ("/usr/libexec/qemu-kvm", "/usr/libexec/qemu-kvm", True),
        ("", "qemu-system-x86_64", True),
        ("", "/usr/bin/kvm", True),
        ("/usr/bin/python3.13", "/usr/bin/qemu-system-x86_64", False),
        ("/usr/bin/qemu-img", "qemu-img", False),
        ("/usr/bin/qemu-x86_64", "qemu-x86_64", False),
        ("", "[kvm-nx-lpage-re]", False),
    ],
)
def test_what_is_a_qemu(executable: str, word: str, wanted: bool) -> None:
    assert is_qemu(executable, [word, "-S"]) == wanted


@pytest.mark.parametrize(
    ("words", "cgroups", "wanted"),
    [
        pytest.param(LIBVIRTS, "0::/\n", True, id="its arguments"),
        pytest.param(["qemu", "-name", "x"], SCOPE, True, id="its scope"),
        pytest.param(
            ["qemu", "-name", "x"], "11:memory:/machine/machine-qemu-3-web1\n", True, id="without systemd's escapes"
        ),
        pytest.param(
            ["qemu", "-name", "guest=x", "-chardev", f"socket,id=m,path={SESSION}"], "", True, id="a user's session"
        ),
        pytest.param(
            ["qemu", "-name", "guest=x", "-drive", "file=/var/lib/libvirt/qemu/nvram/x.fd"],
            "",
            False,
            id="a path of its",
        ),
        pytest.param(OURS, "0::/machine.slice/hostmem-guest@web1.service\n", False, id="ours"),
        pytest.param(["qemu", "-m", "64M"], "0::/user.slice\n", False, id="bare"),
    ],
)
def test_what_is_libvirts(words: list[str], cgroups: str, wanted: bool) -> None:
    assert is_libvirts(words, cgroups) == wanted


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("web1", "web1"),
        ("guest=web1,debug-threads=on", "web1"),
        ("web,,1,process=q", "web,1"),
        ("debug-threads=on,guest=web1", "web1"),
        ("process=q", ""),
    ],
)
def test_names(option: str, name: str) -> None:
    assert guest_name(["qemu", "-S", "-name", option]) == name
    assert guest_name(["qemu", "-name", "a"][:2]) == guest_name(["qemu"]) == ""


def test_generations() -> None:
    assert claimed_generation(OURS, "/run/hostmem") == ("web1", 3)
    assert claimed_generation(OURS, "/run/other") is None
    assert claimed_generation(LIBVIRTS, "/run/hostmem") is None
