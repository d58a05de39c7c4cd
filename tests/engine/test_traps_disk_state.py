# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was set on disks of a running guest and belongs to one QEMU: I/O limits, dirty bitmaps, exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.engine import EngineHost
from support.host import QEMU_TREES
from support.materials import disk, disk_io, image
from support.qmp import QmpSession
from support.sound import assert_alive, assert_sound, refuses, undisturbed

BACKEND = "/machine/peripheral/d0/virtio-backend"
RATES = ("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr")
EVERYTHING: dict[str, Any] = {
    "bps": 0,
    "bps_rd": 8 << 20,
    "bps_rd_max": 16 << 20,
    "bps_rd_max_length": 7,
    "bps_wr": 4 << 20,
    "bps_wr_max": 6 << 20,
    "bps_wr_max_length": 1,
    "iops": 1000,
    "iops_max": 2000,
    "iops_max_length": 30,
    "iops_rd": 0,
    "iops_wr": 0,
    "iops_size": 8192,
}
NO_CARRYING_OVER = (
    "_guest/update_attempt.py",
    '        await carry_over(self.found.live["io_limits"], self.new)\n',
    "",
)


# --- I/O limits


def set_limits(qmp: QmpSession, device: str, limits: dict[str, Any]) -> None:
    """As management programs do; these arguments have underscores in QEMU."""
    qmp.send("block_set_io_throttle", {"id": device, **dict.fromkeys(RATES, 0), **limits})


def limits_of(host: EngineHost, name: str = "g") -> dict[str, dict[str, Any]]:
    """What QEMU itself says of each disk's limits: everything whose name begins with bps or iops, and the group."""
    with host.qmp(name) as qmp:
        return {
            item["qdev"]: {
                key: value
                for key, value in item["inserted"].items()
                if key.startswith(("bps", "iops")) or key == "group"
            }
            for item in qmp("query-block")
        }


def three_disks(host: EngineHost) -> list[dict[str, Any]]:
    """One of each kind: the limits' device is another part of each."""
    kinds = {"d0": "virtio", "d1": "scsi", "d2": "sata"}
    return [disk(image(host, key), id=key, interface=kind) for key, kind in kinds.items()]


def test_io_limits_are_carried_over(host: EngineHost) -> None:
    """All of them, on each kind of disk, two disks in one group, through both QEMUs; unlimited disks stay so."""
    page = host.boot("g", disks=[*three_disks(host), disk(image(host, "free"), id="free")])
    with host.qmp("g") as qmp:
        set_limits(qmp, BACKEND, {**EVERYTHING, "group": "shared"})
        set_limits(qmp, "d1", {**EVERYTHING, "group": "shared"})
        set_limits(qmp, "d2", {"iops_wr": 50})
    before = limits_of(host)
    assert before[BACKEND]["bps_rd_max_length"] == 7, before
    assert before["d1"]["group"] == "shared", before
    assert before["d2"]["iops_wr"] == 50, before
    for version in ("11.1", "11.1"):
        host.install(version)
        result = host.one("update", "--force", "g")
        assert (result["changed"], result["to"]["version"][:4]) == (True, version)
        assert limits_of(host) == before
        assert_alive(page)
    assert_sound(host, "g", page)
    assert limits_of(host) == before


def test_io_limits_taken_away_stay_away(host: EngineHost) -> None:
    page = host.boot("g", disks=[disk(image(host, "a"))])
    unlimited = limits_of(host)
    with host.qmp("g") as qmp:
        set_limits(qmp, BACKEND, EVERYTHING)
    host.install("11.1")
    host.one("update", "g")
    assert limits_of(host) != unlimited
    with host.qmp("g") as qmp:
        set_limits(qmp, BACKEND, {})
    host.one("update", "--force", "g")
    assert limits_of(host) == unlimited
    assert_sound(host, "g", page)


def test_io_limits_stay_after_a_failed_update(host: EngineHost) -> None:
    page = host.boot("g", disks=[disk(image(host, "a"))])
    with host.qmp("g") as qmp:
        set_limits(qmp, BACKEND, EVERYTHING)
    before = limits_of(host)
    host.install("11.1")
    with host.at_step("handover", "raise OSError(28, 'No space left on device')", "before"):
        host.refused("update", "g")
    assert limits_of(host) == before
    assert_sound(host, "g", page)
    assert limits_of(host) == before


def test_io_limits_end_with_a_cold_start(host: EngineHost) -> None:
    """They were never part of the definition."""
    host.boot("g", disks=[disk(image(host, "a"))]).close()
    unlimited = limits_of(host)
    with host.qmp("g") as qmp:
        set_limits(qmp, BACKEND, EVERYTHING)
    host.one("stop", "g")
    host.one("start", "g")
    assert limits_of(host) == unlimited


def test_io_limits_that_differ_are_refused(host: EngineHost) -> None:
    """Should they not be the same in the new QEMU, whatever the reason, the guest stays where it is."""
    page = host.boot("g", disks=[disk(image(host, "a"))])
    with host.qmp("g") as qmp:
        set_limits(qmp, BACKEND, EVERYTHING)
    host.install("11.1")
    with host.patched(*NO_CARRYING_OVER), undisturbed(host, "g", page):
        refuses(host.refused("update", "g"), f"io_limits: {BACKEND} is in the running guest only")
    assert_sound(host, "g", page)


def test_io_limits_are_lost_without_protection(host: EngineHost) -> None:
    page = host.boot("g", disks=[disk(image(host, "a"))])
    unlimited = limits_of(host)
    with host.qmp("g") as qmp:
        set_limits(qmp, BACKEND, EVERYTHING)
    host.install("11.1")
    with (
        host.patched(*NO_CARRYING_OVER),
        host.patched("_guest/update_attempt.py", "if compared.differences:", "if False:"),
    ):
        assert host.one("update", "g")["changed"]
    assert limits_of(host) == unlimited
    assert_alive(page)


# --- dirty bitmaps


def bitmaps_of(qmp: QmpSession) -> dict[tuple[str, str], dict[str, Any]]:
    """What QEMU itself says of each bitmap, by image and name."""
    return {
        (Path(node["file"]).name, item["name"]): {key: value for key, value in item.items() if key != "name"}
        for node in qmp("query-named-block-nodes", flat=True)
        for item in node.get("dirty-bitmaps", [])
    }


def add_bitmap(qmp: QmpSession, name: str, node: str = "disk-d0", **options: Any) -> None:
    qmp("block-dirty-bitmap-add", node=node, name=name, **options)


def test_persistent_bitmaps_go_along(host: EngineHost) -> None:
    """With what they have seen, and they go on; also in an overlay, in its base, and one that does not record."""
    base = image(host, "a")
    page = host.boot("g", disks=[disk(base)])
    with host.qmp("g") as qmp:
        add_bitmap(qmp, "old", persistent=True)
        add_bitmap(qmp, "off", persistent=True, disabled=True, granularity=1 << 20)
        disk_io(qmp, "d0", "write -P 0x11 0 256k")
        overlay = {"snapshot_file": f"{base}.1", "snapshot_node_name": "overlay", "format": "qcow2"}
        qmp("blockdev-snapshot-sync", node_name="disk-d0", **overlay)
        add_bitmap(qmp, "chain", node="overlay", persistent=True)
        disk_io(qmp, "d0", "write -P 0x22 1M 128k")
        before = bitmaps_of(qmp)
    assert (before["a", "old"]["count"], before["a.1", "chain"]["count"]) == (256 << 10, 128 << 10)
    for version in ("11.1", "11.1"):
        host.install(version)
        assert host.one("update", "--force", "g")["warnings"] == []
        with host.qmp("g") as qmp:
            assert bitmaps_of(qmp) == before
            nodes = {Path(item["file"]).name: item["node-name"] for item in qmp("query-named-block-nodes", flat=True)}
            assert nodes["a"].startswith("#block"), nodes  # another name than before
    with host.qmp("g") as qmp:
        disk_io(qmp, "d0", "write -P 0x33 4M 64k")
        before = bitmaps_of(qmp)
    assert before["a.1", "chain"]["count"] == (128 + 64) << 10
    assert_alive(page)
    page.close()
    host.one("stop", "g")
    host.one("start", "g")
    with host.qmp("g") as qmp:
        assert bitmaps_of(qmp) == before


def test_persistent_bitmaps_survive_a_failed_update(host: EngineHost) -> None:
    """The old QEMU had given its image up, bitmaps and all, and takes it back."""
    page = host.boot("g", disks=[disk(image(host, "a"))])
    with host.qmp("g") as qmp:
        add_bitmap(qmp, "chain", persistent=True)
        disk_io(qmp, "d0", "write -P 0x11 0 256k")
        before = bitmaps_of(qmp)
    host.install("11.1")
    with host.at_step("handover", "raise OSError(28, 'No space left on device')", "before"):
        host.refused("update", "g")
    with host.qmp("g") as qmp:
        assert bitmaps_of(qmp) == before
    assert_sound(host, "g", page)
    with host.qmp("g") as qmp:
        assert bitmaps_of(qmp) == before


def test_bitmap_that_is_not_persistent_is_refused(host: EngineHost) -> None:
    """With the cure that the refusal names the chain of backups goes on: not one write is missing."""
    page = host.boot("g", disks=[disk(image(host, "a"))])
    host.install("11.1")
    with host.qmp("g") as qmp:
        add_bitmap(qmp, "chain")
        disk_io(qmp, "d0", "write -P 0x11 0 256k")
    with undisturbed(host, "g", page):
        error = host.refused("update", "g")
        refuses(error, "dirty bitmap chain of disk d0 (node disk-d0) is not persistent", "chain of backups", "-merge")
        assert host.info("g")["live_update_blockers"][0]["message"] == error["message"]
    with host.qmp("g") as qmp:
        add_bitmap(qmp, "chain2", persistent=True)
        disk_io(qmp, "d0", "write -P 0x22 1M 64k")
        qmp("block-dirty-bitmap-merge", node="disk-d0", target="chain2", bitmaps=["chain"])
        qmp("block-dirty-bitmap-remove", node="disk-d0", name="chain")
    host.one("update", "g")
    with host.qmp("g") as qmp:
        assert bitmaps_of(qmp)["a", "chain2"]["count"] == (256 + 64) << 10
    assert_sound(host, "g", page)


def test_bitmap_is_lost_without_protection(host: EngineHost) -> None:
    page = host.boot("g", disks=[disk(image(host, "a"))])
    with host.qmp("g") as qmp:
        add_bitmap(qmp, "chain")
    host.install("11.1")
    with host.patched("_guest/preflight.py", "        if not bitmap.persistent:\n", "        if False:\n"):
        assert host.one("update", "g")["changed"]
    with host.qmp("g") as qmp:
        assert bitmaps_of(qmp) == {}
    assert_alive(page)


def test_qemu_has_no_other_way_for_bitmaps(host: EngineHost) -> None:
    """The capability that other migrations have for them. Should a QEMU allow it one day, more is possible than to refuse."""
    host.boot("g", disks=[disk(image(host, "a"))])
    for version in ("10.0", "11.1"):
        host.install(version)
        host.one("update", "--force", "g")
        with host.qmp("g") as qmp:
            qmp("migrate-set-capabilities", capabilities=[{"capability": "dirty-bitmaps", "state": True}])
        refuses(host.refused("update", "--force", "g"), "Cannot use postcopy with CPR")
        with host.qmp("g") as qmp:
            qmp("migrate-set-capabilities", capabilities=[{"capability": "dirty-bitmaps", "state": False}])


def test_bitmap_that_did_not_arrive_is_told(host: EngineHost) -> None:
    """Somebody takes it out of the image at the one moment when no QEMU has that."""
    page = host.boot("g", disks=[disk(image(host, "a"))])
    with host.qmp("g") as qmp:
        add_bitmap(qmp, "chain", persistent=True)
        add_bitmap(qmp, "kept", persistent=True)
    host.install("11.1")
    tool = QEMU_TREES / "10.0" / "usr" / "bin" / "qemu-img"
    remove = f"import subprocess; subprocess.run([{str(tool)!r}, 'bitmap', '--remove', '{host.root}/disks/a', 'chain'], check=True)"
    with host.at_step("handover", remove, "before"):
        result = host.one("update", "g")
    assert [text.split(" is gone")[0] for text in result["warnings"]] == [f"Dirty bitmap chain of {host.root}/disks/a"]
    with host.qmp("g") as qmp:
        assert list(bitmaps_of(qmp)) == [("a", "kept")]
    assert_alive(page)


@pytest.mark.parametrize("step", ["migrating", "incoming", "handover", "continued"])
def test_killed_updater(host: EngineHost, step: str) -> None:
    """Whichever QEMU has the guest then, the limits and the bitmap are there."""
    page = host.boot("g", disks=[disk(image(host, "a"))])
    with host.qmp("g") as qmp:
        set_limits(qmp, BACKEND, EVERYTHING)
        add_bitmap(qmp, "chain", persistent=True)
        disk_io(qmp, "d0", "write -P 0x11 0 256k")
        bitmaps = bitmaps_of(qmp)
    limits = limits_of(host)
    host.install("11.1")
    with host.at_step(step, "os.kill(os.getpid(), 9)"):
        host.begin("update", "g").communicate()
        host.wait_quiet()
    for _again in range(2):
        assert limits_of(host) == limits
        with host.qmp("g") as qmp:
            assert bitmaps_of(qmp) == bitmaps
        assert_sound(host, "g", page)


# --- exports


def test_export_is_refused(host: EngineHost) -> None:
    """A backup program that pulls, say: it would be cut off."""
    page = host.boot("g", disks=[disk(image(host, "a"))])
    host.baseline["g"] = host.listing("g")
    with host.qmp("g") as qmp:
        add_bitmap(qmp, "chain", persistent=True)
        qmp("block-dirty-bitmap-disable", node="disk-d0", name="chain")
        qmp("nbd-server-start", addr={"type": "unix", "data": {"path": str(host.run_directory("g") / "nbd.sock")}})
        qmp("block-export-add", type="nbd", id="pull", node_name="disk-d0", bitmaps=["chain"])
    host.install("11.1")
    with undisturbed(host, "g", page):
        error = host.refused("update", "g")
        refuses(error, "The nbd export pull of node disk-d0", "dirty bitmap chain of disk d0 (node disk-d0) is in use")
    with host.qmp("g") as qmp:
        qmp("block-export-del", id="pull")
        qmp.event("BLOCK_EXPORT_DELETED")
        qmp("nbd-server-stop")
    assert_sound(host, "g", page)
