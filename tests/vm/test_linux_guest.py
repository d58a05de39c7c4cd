# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real Linux guest whose RAM is a file on fsdax comes through a live update, and is saved and restored, in one TCP connection."""

from __future__ import annotations

from support.vm_linux import VmLinuxGuest
from support.vm_runtime import VmRuntime

PREPARE = """set -e
ndctl disable-region region1
ndctl init-labels -f nmem0
ndctl enable-region region1
ndctl create-namespace -f -r region1 -m fsdax -a 2M -s 512M >/run/namespace
device=/dev/$(python3 -c 'import json; print(json.load(open("/run/namespace"))["blockdev"])')
mkfs.ext4 -q -b 4096 "$device"
mkdir -p /srv/pm
mount -o dax=always "$device" /srv/pm
"""
RAM = "/srv/pm/linux/qemu_back_mem.0+c000000.ram0"


def test_live_update_and_checkpoint_on_dax(vm: VmRuntime) -> None:
    """Each QEMU maps the same file with MAP_SYNC."""
    vm.host.run(PREPARE)
    guest = VmLinuxGuest(vm, {"backing": "dax", "directory": "/srv/pm/linux"})
    guest.boot()
    inode, flags = guest.mapped(RAM)
    assert "sf" in flags
    with guest.stream():
        assert guest.update()["changed"]
        assert guest.mapped(RAM) == (inode, flags)
        assert vm.one("save", "linux")["saved"]["in_place_bytes"] == 192 << 20
        assert vm.host.run("pgrep -c qemu-system", check=False).strip() == "0"
        assert vm.one("restore", "linux")["how"] == "restored"
        assert guest.mapped(RAM) == (inode, flags)
    guest.assert_whole()
    assert vm.one("stop", "linux")["how"] == "powered down"
