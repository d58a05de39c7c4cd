# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and addresses of hosts in one form."""

from __future__ import annotations

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.errors import Refused
from ansible_collections.hostmem.qemu.plugins.module_utils._host.host_names import host_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("hv1", "hv1"),
        ("HV-1.Example.COM.", "hv-1.example.com"),
        ("hv_1", "hv_1"),
        ("10.0.0.1", "10.0.0.1"),
        ("FD00:0:0::01", "fd00::1"),
        ("a" * 63, "a" * 63),
    ],
)
def test_names(text: str, name: str) -> None:
    assert host_name(text) == name


@pytest.mark.parametrize(
    "text", ["", ".", "hv 1", "-hv", "hv-", "hv..x", "hv1\n", "*.example.com", "hv1/x", "a" * 64, "é", "a." * 128]
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(Refused, match="neither the name of a host nor an address"):
        host_name(text)
