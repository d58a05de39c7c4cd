# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A running guest that is not what it was started as: followed where that is possible, refused before the pause where not."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from support.engine import EngineHost, wait_until
from support.materials import disk, disk_io, image, top_image
from support.qmp import QmpSession
from support.sound import assert_alive, assert_sound, refuses, undisturbed

XHCI = ["-device", "qemu-xhci,id=xhci"]
CHANGED = "was changed since its start"


def test_hot_plugged_device(host: EngineHost) -> None:
    page = host.boot("g", arguments=XHCI)
    host.install("11.1")
    with host.qmp("g") as qmp:
        qmp("device_add", driver="usb-tablet", id="tablet", bus="xhci.0")
    with undisturbed(host, "g", page):
        error = host.refused("update", "g")
        refuses(error, CHANGED, "devices: tablet was added", "Undo the change (device_del")
        assert host.info("g")["live_update_blockers"][0]["message"] in error["message"]
        assert not host.run("update", "--check", "g")[0]["ok"]
    with host.qmp("g") as qmp:
        qmp("device_del", id="tablet")
    wait_until(lambda: not host.info("g")["live_update_blockers"], "the device stays")
    assert_sound(host, "g", page)


def test_unplugged_device(host: EngineHost) -> None:
    page = host.boot("g", arguments=[*XHCI, "-device", "usb-tablet,id=tablet,bus=xhci.0"])
    with host.qmp("g") as qmp:
        qmp("device_del", id="tablet")
    with undisturbed(host, "g", page):
        refuses(host.refused("update", "--force", "g"), CHANGED, "devices: tablet was removed")
    with host.qmp("g") as qmp:  # it comes into the next port, where QEMU would look for it in vain, in the pause
        qmp("device_add", driver="usb-tablet", id="tablet", bus="xhci.0")
    with undisturbed(host, "g", page):
        refuses(host.refused("update", "--force", "g"), CHANGED, "usb: Port 2", "ID: tablet was added")
    with host.qmp("g") as qmp:
        qmp("device_del", id="tablet")
        qmp("device_add", driver="usb-tablet", id="tablet", bus="xhci.0", port="1")
    assert_sound(host, "g", page)


def test_hot_plugged_memory_backend(host: EngineHost) -> None:
    """One that nothing uses: in x-query-ramblock its row has no name."""
    page = host.boot("g")
    with host.qmp("g") as qmp:
        qmp("object-add", qom_type="memory-backend-ram", id="spare", size=1 << 20)
    with undisturbed(host, "g", page):
        refuses(host.refused("update", "--force", "g"), CHANGED, "spare was added")
        assert "spare" in str(host.info("g")["live_update_blockers"])
    with host.qmp("g") as qmp:
        qmp("object-del", id="spare")
    assert_sound(host, "g", page)


def test_hot_plugged_console(host: EngineHost) -> None:
    page = host.boot("g")
    with host.qmp("g") as qmp:
        qmp("chardev-add", id="extra", backend={"type": "null", "data": {}})
    with undisturbed(host, "g", page):
        refuses(host.refused("update", "--force", "g"), CHANGED, "character_devices: extra was added")
    with host.qmp("g") as qmp:
        qmp("chardev-remove", id="extra")
    assert_sound(host, "g", page)


def test_hot_plugged_disk(host: EngineHost) -> None:
    page = host.boot("g", arguments=XHCI)
    path = image(host, "extra")
    host.baseline["g"] = host.listing("g")
    with host.qmp("g") as qmp:
        qmp("blockdev-add", driver="qcow2", node_name="extra", file={"driver": "file", "filename": str(path)})
        qmp("device_add", driver="usb-storage", id="stick", bus="xhci.0", drive="extra")
    with undisturbed(host, "g", page):
        refuses(host.refused("update", "--force", "g"), CHANGED, "devices: stick was added")
    with host.qmp("g") as qmp:
        qmp("device_del", id="stick")
    wait_until(lambda: not host.info("g")["live_update_blockers"], "the device stays")
    assert_sound(host, "g", page)


# --- the block graph


def snapshot(qmp: QmpSession, path: Path, node: str = "disk-d0") -> None:
    qmp("blockdev-snapshot-sync", node_name=node, snapshot_file=str(path), format="qcow2", snapshot_node_name=path.name)


def test_snapshot_is_followed(host: EngineHost) -> None:
    """Into the next QEMU, the one after it, a cold start, and over a second snapshot."""
    base = image(host, "a")
    page = host.boot("g", disks=[disk(base)])
    with host.qmp("g") as qmp:
        disk_io(qmp, "d0", "write -P 0x11 0 64k")
        snapshot(qmp, Path(f"{base}.1"))
        disk_io(qmp, "d0", "write -P 0x22 0 64k")
    host.install("11.1")
    for _number in range(2):
        host.one("update", "--force", "g")
        with host.qmp("g") as qmp:
            assert top_image(qmp, "d0") == f"{base}.1"
            disk_io(qmp, "d0", "read -P 0x22 0 64k")
    with host.qmp("g") as qmp:
        snapshot(qmp, Path(f"{base}.2"))
        disk_io(qmp, "d0", "write -P 0x33 0 64k")
    host.one("update", "--force", "g")
    assert_alive(page)
    page.close()
    host.one("stop", "g")
    host.one("start", "g")
    with host.qmp("g") as qmp:
        assert top_image(qmp, "d0") == f"{base}.2"
        disk_io(qmp, "d0", "read -P 0x33 0 64k")


def test_snapshot_is_followed_by_a_cold_start_without_an_update(host: EngineHost) -> None:
    base = image(host, "a")
    host.boot("g", disks=[disk(base)]).close()
    with host.qmp("g") as qmp:
        snapshot(qmp, Path(f"{base}.1"))
        disk_io(qmp, "d0", "write -P 0x22 0 64k")
    host.one("stop", "g")
    host.one("start", "g")
    with host.qmp("g") as qmp:
        assert top_image(qmp, "d0") == f"{base}.1"
        disk_io(qmp, "d0", "read -P 0x22 0 64k")


@pytest.mark.parametrize("step", ["incoming", "handover", "continued"])
def test_snapshot_is_followed_after_a_killed_updater(host: EngineHost, step: str) -> None:
    base = image(host, "a")
    host.boot("g", disks=[disk(base)]).close()
    with host.qmp("g") as qmp:
        snapshot(qmp, Path(f"{base}.1"))
        disk_io(qmp, "d0", "write -P 0x22 0 64k")
    with host.at_step(step, "os.kill(os.getpid(), 9)"):
        host.begin("update", "--force", "g").communicate()
        host.wait_quiet()
    os.kill(host.only_qemu("g"), signal.SIGKILL)  # no stop in order that could look where the disk is
    host.one("start", "g")
    with host.qmp("g") as qmp:
        assert top_image(qmp, "d0") == f"{base}.1"
        disk_io(qmp, "d0", "read -P 0x22 0 64k")


def test_committed_snapshot(host: EngineHost) -> None:
    """Back on the image of the definition, which the next QEMU opens, though the old one's left-over overlay locks it."""
    base = image(host, "a")
    page = host.boot("g", disks=[disk(base)])
    with host.qmp("g") as qmp:
        snapshot(qmp, Path(f"{base}.1"))
        disk_io(qmp, "d0", "write -P 0x22 0 64k")
    host.one("update", "--force", "g")
    with host.qmp("g") as qmp:
        qmp("block-commit", job_id="commit", device="disk-d0")
        qmp.event("BLOCK_JOB_READY")
        qmp("block-job-complete", device="commit")
        qmp.event("BLOCK_JOB_COMPLETED")
    host.one("update", "--force", "g")
    with host.qmp("g") as qmp:
        assert top_image(qmp, "d0") == str(base)
        disk_io(qmp, "d0", "read -P 0x22 0 64k")
    assert_alive(page)


def test_mirror_job(host: EngineHost) -> None:
    base = image(host, "a")
    page = host.boot("g", disks=[disk(base)])
    target = image(host, "copy")
    host.baseline["g"] = host.listing("g")
    with host.qmp("g") as qmp:
        qmp("blockdev-add", driver="qcow2", node_name="copy", file={"driver": "file", "filename": str(target)})
        qmp("blockdev-mirror", job_id="mirror", device="disk-d0", target="copy", sync="full")
        qmp.event("BLOCK_JOB_READY")
    with undisturbed(host, "g", page):
        refuses(host.refused("update", "--force", "g"), "The mirror job mirror is ready", "cancel it (job-cancel)")
    with host.qmp("g") as qmp:
        qmp("block-job-cancel", device="mirror", force=True)
        qmp.event("BLOCK_JOB_CANCELLED")
        qmp("blockdev-del", node_name="copy")
    assert_sound(host, "g", page)


def test_throttle_node(host: EngineHost) -> None:
    base = image(host, "a")
    page = host.boot("g", disks=[disk(base)])
    with host.qmp("g") as qmp:
        qmp("object-add", qom_type="throttle-group", id="slow", limits={"iops-total": 100})
        qmp("blockdev-add", driver="throttle", node_name="throttle", throttle_group="slow", file="disk-d0")
        qmp("qom-set", path="/machine/peripheral/d0", property="drive", value="throttle")
    with undisturbed(host, "g", page):
        refuses(host.refused("update", "--force", "g"), "slow was added")
    with host.qmp("g") as qmp:
        qmp("qom-set", path="/machine/peripheral/d0", property="drive", value="disk-d0")
        qmp("blockdev-del", node_name="throttle")
        qmp("object-del", id="slow")
    assert_sound(host, "g", page)


def test_moved_image(host: EngineHost) -> None:
    """The old QEMU still has it open; a new one would not find it, or find another."""
    base = image(host, "a")
    page = host.boot("g", disks=[disk(base)])
    moved = base.rename(f"{base}.moved")
    with undisturbed(host, "g", page):
        refuses(host.refused("update", "--force", "g"), "d0", str(base))
    moved.rename(base)
    assert_sound(host, "g", page)


def test_replaced_image(host: EngineHost) -> None:
    """Another file got the name. QEMU itself would go on in that one."""
    base = image(host, "a")
    page = host.boot("g", disks=[disk(base)])
    moved = base.rename(f"{base}.moved")
    image(host, "a")
    with undisturbed(host, "g", page):
        refuses(
            host.refused("update", "--force", "g"), f"{base} is not the image that disk d0", "Put the right file back"
        )
    moved.rename(base)
    assert_sound(host, "g", page)


# --- run states and migrations


def test_migration_under_way(host: EngineHost) -> None:
    page = host.boot("g")
    with socket.socket(socket.AF_UNIX) as deaf:
        path = host.root / "deaf.sock"
        deaf.bind(str(path))
        path.chmod(0o777)
        deaf.listen()
        with host.qmp("g") as qmp:
            qmp("migrate-set-parameters", max_bandwidth=1 << 16)
            qmp("migrate", uri=f"unix:{path}")
        with undisturbed(host, "g", page):
            refuses(host.refused("update", "--force", "g"), "A migration of guest g is under way", "or cancel it")
        with host.qmp("g") as qmp:
            qmp("migrate_cancel")
            wait_until(lambda: qmp("query-migrate")["status"] == "cancelled", "the migration goes on")
            qmp("migrate-set-parameters", max_bandwidth=128 << 20)
    path.unlink()
    assert_sound(host, "g", page)


def test_guest_that_has_switched_itself_off(host: EngineHost) -> None:
    host.boot("g", arguments=["-action", "shutdown=pause"]).close()
    with host.qmp("g") as qmp:
        qmp("system_powerdown")
        wait_until(lambda: qmp("query-status")["status"] == "shutdown", "the guest stays on")
    refuses(host.refused("update", "--force", "g"), "is shutdown, neither running nor paused")
    assert len(host.qemu_pids("g")) == 1


def test_stopped_guest(host: EngineHost) -> None:
    host.define(host.heartbeat("g"))
    refuses(host.refused("update", "g"), "does not run", "Start it")


# --- memory that cannot be handed over


def test_private_memory(host: EngineHost) -> None:
    block = host.block("g", backing="file", directory=str(host.root / "ram"), mmap="private")
    page = host.boot("g", memory={"blocks": [block]})
    host.install("11.1")
    with undisturbed(host, "g", page):
        refuses(
            host.refused("update", "g"), "Memory block ram0 is mapped private", "Restart the guest with mmap: shared"
        )


def test_auxiliary_memory_not_shared_from_the_start(host: EngineHost) -> None:
    """A guest from before that promise: it cannot be added later, and QEMU's own reason names a ROM."""
    verify = (
        "_guest/started.py",
        '    if definition.aux_ram_share and real["aux_ram_share"] is False:\n',
        "    if False:\n",
    )
    with host.unchecked(), host.patched(*verify):
        assert host.define_altered(host.heartbeat("g"), "aux-ram-share=on", "aux-ram-share=off")["ok"]
        host.one("start", "g")
        page = host.page("g")
        wait_until(lambda: page.ready, "the guest did not start")
        host.install("11.1")
        with undisturbed(host, "g", page):
            error = host.refused("update", "--method", "transfer", "g")
            refuses(error, "aux-ram-share is off", "lose VRAM and ROMs", "Restart the guest")


PRIVATE = 'refusals += [_private(block.id) for block in found.definition.blocks if block.mmap == "private"]'


def test_blockers_of_qemu_itself(host: EngineHost) -> None:
    """Past our own checks QEMU's are asked, which it tells only in the mode they are for; the mode is put back."""
    block = host.block("g", backing="file", directory=str(host.root / "ram"), mmap="private")
    page = host.boot("g", memory={"blocks": [block]})
    with (
        host.patched("_guest/update_methods.py", PRIVATE, "refusals += []"),
        undisturbed(host, "g", page),
    ):
        error = host.refused("update", "--force", "--method", "transfer", "g")
        refuses(error, "QEMU refuses cpr-transfer for this guest", "share=on is required")
    with host.qmp("g") as qmp:
        assert qmp("query-migrate-parameters")["mode"] == "normal"
