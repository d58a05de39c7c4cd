# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What systemctl show says of a unit."""

from __future__ import annotations

from ansible_collections.hostmem.qemu.plugins.module_utils._host.unit_properties import first, parse_properties


def test_lines() -> None:
    found = parse_properties("Slice=a=b.slice\nDeviceAllow=/dev/kvm rw\nDeviceAllow=/dev/net/tun rw\nControlGroup=\n")
    assert found["DeviceAllow"] == ["/dev/kvm rw", "/dev/net/tun rw"]
    assert first(found, "Slice") == "a=b.slice"
    assert first(found, "ControlGroup") == first(found, "MemoryMax") == ""
