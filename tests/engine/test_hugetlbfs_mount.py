# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mounts of hugetlbfs on the real kernel."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.errors import HostmemError
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.hugetlbfs_mounts import apply_mount, plan_mount
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.hugetlbfs_options import WantedOptions, parse_limit
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.seen_pools import SeenPools
from support.engine import EngineHost
from support.huge_page_pool import PAGE, HugePagePool, failed_allocation, fill, huge_page_pool
from support.modules import foretold, refused, run_module
from support.sound import refuses

SYSTEMD = os.path.isdir("/run/systemd/system")
FSTAB = Path("/etc/fstab")


class Mounting:
    """The module for one mount point, not persistent unless it is said."""

    def __init__(self, pool: HugePagePool) -> None:
        self.pool = pool
        self.path = pool.directory / "mount"

    def _arguments(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"path": str(self.path), "persistent": False, **arguments}

    def __call__(self, **arguments: Any) -> dict[str, Any]:
        """A run that is foretold, and done once and for all."""
        return foretold("hugetlbfs_mount", **self._arguments(arguments))

    def refused(self, **arguments: Any) -> str:
        before = self.line()
        text = refused("hugetlbfs_mount", **self._arguments(arguments))
        assert self.line() == before
        return text

    def line(self) -> str:
        """What the kernel shows of the topmost mount there."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return next((line for line in reversed(lines) if line.split()[4] == str(self.path)), "")

    def shown(self) -> list[str]:
        """The file system's own options."""
        return self.line().split(" - ")[1].split()[2].split(",")[1:]


@pytest.fixture(name="mounting")
def fixture_mounting() -> Iterator[Mounting]:
    with huge_page_pool() as pool:
        yield Mounting(pool)


def test_a_whole_life(mounting: Mounting) -> None:
    made = mounting(size="101M", nr_inodes=7, uid="nobody", gid="2", mode="1770")
    assert made["changed"]
    assert made["mount"]["options"] == ["pagesize=2M", "size=104857600", "nr_inodes=7"]
    nobody = made["mount"]["uid"]
    assert nobody > 0
    assert set(mounting.shown()) == {f"uid={nobody}", "gid=2", "mode=1770", *made["mount"]["options"]}
    gone = mounting(state="absent")
    assert gone["diff"]["before"][str(mounting.path)]["options"] == made["mount"]["options"]
    assert gone["diff"]["after"] == {str(mounting.path): {"state": "absent"}}
    assert not mounting.path.exists()


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ({}, ["pagesize=2M"]),
        ({"page_size": "2048K", "size": "3M"}, ["pagesize=2M", f"size={PAGE}"]),
        ({"size": str(5 * PAGE), "min_size": "4M"}, ["pagesize=2M", f"size={5 * PAGE}", f"min_size={2 * PAGE}"]),
        ({"size": "50%"}, None),
        ({"nr_inodes": 3, "mode": "0755"}, ["nr_inodes=3", "pagesize=2M"]),
    ],
)
def test_options_in_the_kernels_units(mounting: Mounting, arguments: dict[str, Any], shown: list[str] | None) -> None:
    """Whatever it makes of them, a second run sees no difference."""
    mounting.pool.add(6)
    mounting(**arguments)
    if shown is None:
        shown = ["pagesize=2M", f"size={mounting.pool.whole('nr_hugepages') // 2 * PAGE}"]
    assert sorted(mounting.shown()) == sorted(shown)


def test_several_side_by_side(mounting: Mounting) -> None:
    sizes = ["2M", "2M"] + (["1G"] if Path("/sys/kernel/mm/hugepages/hugepages-1048576kB").exists() else [])
    for number, size in enumerate(sizes):
        mounting.path = mounting.pool.directory / f"m{number}"
        mounting(page_size=size, size=f"{number + 1}G")
    for number, size in enumerate(sizes):
        mounting.path = mounting.pool.directory / f"m{number}"
        assert f"size={(number + 1) << 30}" in mounting.shown()
        assert f"pagesize={'1024M' if size == '1G' else size}" in mounting.shown()
        mounting(page_size=size, state="absent")


def test_an_unused_mount_is_made_anew(mounting: Mounting) -> None:
    """A remount would be ignored, as the kernel shows here."""
    mounting(size="64M")
    subprocess.run(["mount", "-o", "remount,size=128M", str(mounting.path)], check=True)
    assert "size=67108864" in mounting.shown()
    for arguments in ({"size": "128M"}, {"size": "128M", "nr_inodes": 9}, {}):
        before = mounting.line()
        assert mounting(**arguments)["changed"]
        assert mounting.line() != before
    assert mounting.shown() == ["pagesize=2M"]


def test_owner_and_mode_are_changed_in_place(mounting: Mounting) -> None:
    mounting()
    before = mounting.line()
    with (mounting.path / "open").open("wb"):
        assert mounting(uid="1", gid="1", mode="0700")["mount"]["mode"] == "0700"
    state = mounting.path.stat()
    assert (state.st_uid, state.st_gid, state.st_mode & 0o7777) == (1, 1, 0o700)
    assert mounting.line() == before


def test_a_read_only_mount_becomes_writable_in_place(mounting: Mounting) -> None:
    """Read-only is the one option that a remount changes: also under a user, and what else the mount has stays."""
    mounting.pool.add(1)
    mounting(size="64M")
    path = str(mounting.path)
    file = mounting.path / "file"
    fill(file, 1)
    for remount in ("remount,ro", "remount,bind,ro", "remount,ro,nosuid,nodev"):
        subprocess.run(["mount", "-o", remount, path], check=True)
        with pytest.raises(OSError, match="Read-only file system"):
            file.touch()
        number = mounting.line().split()[0]
        with file.open("rb"):
            made = mounting(size="64M")
        assert made["changed"]
        assert made["diff"]["before"][path]["options"] == ["ro", "pagesize=2M", "size=67108864"]
        assert made["diff"]["after"][path]["options"] == ["pagesize=2M", "size=67108864"]
        assert mounting.line().split()[0] == number
        file.touch()
    assert {"rw", "nosuid", "nodev"} <= set(mounting.line().split()[5].split(","))
    subprocess.run(["mount", "-o", "remount,ro", path], check=True)
    assert mounting(size="66M", discard_files=True)["changed"]
    file.touch()
    mounting(state="absent", discard_files=True)


# --- in use


@contextlib.contextmanager
def user(mounting: Mounting, how: str) -> Iterator[tuple[str, str]]:
    """Another process that uses the mount; the words that are to name it."""
    file = mounting.path / "file"
    code = {
        "open": f"f = open({str(file)!r})",
        "maps": f"import mmap; f = open({str(file)!r}, 'r+b'); m = mmap.mmap(f.fileno(), {PAGE}); f.close()",
        "working directory": f"import os; os.chdir({str(mounting.path)!r})",
        "root directory": f"import os; os.chroot({str(mounting.path)!r})",
    }[how]
    with subprocess.Popen(
        [sys.executable, "-c", f"{code}; print(); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            suffix = f" {file}" if how in ("open", "maps") else ""
            yield f"process {process.pid} ({sys.executable} -c {code[:20]}", f"{how}{suffix}"
        finally:
            process.communicate(b"\n")


@pytest.mark.parametrize("how", ["open", "maps", "working directory", "root directory"])
def test_users_are_named(mounting: Mounting, how: str) -> None:
    mounting.pool.add(1)
    mounting(size="64M")
    fill(mounting.path / "file", 1)
    with user(mounting, how) as words:
        for arguments in ({"size": "66M"}, {"state": "absent"}):
            text = mounting.refused(discard_files=True, **arguments)
            assert "it is in use" in text
            for word in words:
                assert word in text
        assert not mounting(size="64M")["changed"]
    mounting(state="absent", discard_files=True)


def test_a_mount_in_it_is_named(mounting: Mounting) -> None:
    mounting()
    nested = mounting.path / "nested"
    nested.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(nested)], check=True)
    try:
        assert f"nested mount: {nested}" in mounting.refused(state="absent")
    finally:
        subprocess.run(["umount", str(nested)], check=True)
    mounting(state="absent")


def test_a_mount_in_use_keeps_its_share_of_another_pool(mounting: Mounting) -> None:
    mounting.pool.add(4)
    mounting(size="50%")
    before = mounting.line()
    mounting.pool.add(8)
    with (mounting.path / "open").open("wb"):
        kept = mounting(size="50%")
        assert "is in use and keeps" in kept["warnings"][0]
        assert mounting.line() == before
        assert "it is in use" in mounting.refused(size="25%", nr_inodes=5)
    (mounting.path / "open").unlink()
    assert mounting(size="50%")["changed"]


# --- pages that are short


def test_left_over_files_are_named(mounting: Mounting) -> None:
    """Also one of size 0: what a failed allocation has got stays in it."""
    mounting.pool.add(4)
    mounting(size="4M")
    failed_allocation(mounting.path / "failed", 3)  # the mount's limit is reached
    found = mounting(size="4M")["mount"]
    assert found["files"] == [
        {"path": f"{mounting.path}/failed", "size": 0, "allocated": 2 * PAGE, "mapped_by": []},
    ]
    assert found["left_over"] == [f"{mounting.path}/failed"]
    for arguments in ({"size": "8M"}, {"state": "absent"}):
        text = mounting.refused(**arguments)
        assert "there are files in it, which would be lost" in text
        assert f"{mounting.path}/failed (4096 KiB, mapped by no process)" in text
    assert mounting(size="8M", discard_files=True)["mount"]["files"] == []
    assert mounting.pool.pages("free_hugepages") >= 4


def test_the_limit_of_a_mount(mounting: Mounting) -> None:
    """Files and mappings beyond it fail, whatever the pool has: that is the kernel's."""
    mounting.pool.add(6)
    mounting(size="4M")
    with pytest.raises(OSError, match="No space left on device"):
        fill(mounting.path / "file", 3)
    (mounting.path / "file").unlink()
    with (mounting.path / "mapped").open("w+b") as file:
        file.truncate(3 * PAGE)
        with pytest.raises(OSError, match="Cannot allocate memory"):
            mmap.mmap(file.fileno(), 3 * PAGE)


def test_a_guest_beyond_the_limit_of_a_mount_is_refused(mounting: Mounting, host: EngineHost) -> None:
    """By the mount's own limit, with pages enough in the pool, before anything is made; one page more, and it starts."""
    mounting.pool.add(40)
    mounting(size="62M")
    directory = mounting.path / "g"
    block = host.block("g", backing="hugetlbfs", page_size="2M", directory=str(directory))
    host.define(host.heartbeat("g", memory={"blocks": [block]}))
    for words in (("start", "--check", "g"), ("start", "g")):
        error = host.refused(*words)
        refuses(error, "not enough huge pages", "64M are needed, 62M are free within the limit of the mount")
        assert int(re.findall(r"the pool has (\d+)M", str(error))[0]) >= 64
    assert not directory.exists()
    mounting(size="64M")
    host.one("start", "g")
    host.one("stop", "g")
    mounting(state="absent", discard_files=True)


def test_a_guest_gets_what_a_mount_has_for_itself(mounting: Mounting, host: EngineHost) -> None:
    """min_size is reserved in the pool: not free for anybody else, and the mount's own."""
    mounting.pool.add(32)
    mounting(min_size="64M")
    other = mounting.pool.mount("other")
    rest = mounting.pool.whole("free_hugepages") - mounting.pool.whole("resv_hugepages")
    if rest:
        fill(other / "left", rest)
    directory = mounting.path / "g"
    block = host.block("g", backing="hugetlbfs", page_size="2M", directory=str(directory))
    host.define(host.heartbeat("g", memory={"blocks": [block]}))
    host.one("start", "g")
    more = host.block("h", backing="hugetlbfs", page_size="2M", directory=str(mounting.path / "h"))
    host.define(host.heartbeat("h", memory={"blocks": [more]}))
    refuses(host.refused("start", "h"), "not enough huge pages", "64M are needed, 0 are free")
    host.one("stop", "g")
    mounting(state="absent", discard_files=True)


def test_no_pages_left(mounting: Mounting) -> None:
    """min_size is reserved as the mount is made: what holds the pages is named."""
    mounting.pool.add(3)
    other = mounting.pool.mount("other")
    free = mounting.pool.whole("free_hugepages") - mounting.pool.whole("resv_hugepages")
    fill(other / "left", free)
    text = mounting.refused(min_size="4M")
    assert "cannot have 4M for itself (min_size)" in text
    pages = {name: mounting.pool.whole(f"{name}_hugepages") for name in ("nr", "free", "resv")}
    assert pages["free"] == pages["resv"]
    assert f"Of {pages['nr']} huge pages of 2M on this host {pages['free']} are free, {pages['resv']} of them" in text
    assert f"{other}/left ({free * 2048} KiB, mapped by no process)" in text
    assert not mounting.path.exists()
    (other / "left").unlink()
    mounting(min_size="4M")
    assert mounting.pool.whole("resv_hugepages") >= 2
    mounting(min_size="6M")  # what it has reserved itself counts for it
    mounting(state="absent")


# --- a fresh mount that fails


def shape(mounting: Mounting) -> tuple[object, ...]:
    """What there is at the mount point, without the mount's number: options of the mount and of the file system, owner and mode."""
    if not mounting.path.exists():
        return ()
    state = mounting.path.stat()
    own = mounting.line().split(" - ")[0].split()[5:6]
    return own, mounting.shown() if own else [], state.st_uid, state.st_gid, state.st_mode


@pytest.mark.parametrize("mounted", [True, False])
def test_the_old_mount_comes_back_when_the_kernel_refuses_the_fresh_one(mounting: Mounting, mounted: bool) -> None:
    """The pages that are to be reserved are taken between plan and change."""
    mounting.pool.add(4)
    if mounted:
        mounting(size="8M", nr_inodes=7, uid="1", gid="2", mode="0700")
        (mounting.path / "lost").touch()
        subprocess.run(["mount", "-o", "remount,ro,nosuid", str(mounting.path)], check=True)
    before = shape(mounting)
    wanted = WantedOptions(PAGE, None, parse_limit("min_size", "4M"), None, 0, 0, 0o755)
    plan = plan_mount(str(mounting.path), wanted, persistent=False, discard=True, seen=SeenPools())
    other = mounting.pool.mount("other")
    fill(other / "all", mounting.pool.whole("free_hugepages") - mounting.pool.whole("resv_hugepages"))
    with pytest.raises(HostmemError, match=f"hugetlbfs cannot be mounted at {mounting.path}"):
        apply_mount(plan)
    assert shape(mounting) == before
    assert mounted == mounting.path.exists()
    assert not mounted or os.listdir(mounting.path) == []  # it did go


@pytest.mark.parametrize("mounted", [True, False])
def test_a_mount_that_the_kernel_made_otherwise_is_taken_back(mounting: Mounting, mounted: bool) -> None:
    """It takes this number for no limit, without an error."""
    if mounted:
        mounting(size="8M", nr_inodes=7, mode="0700")
    before = shape(mounting)
    arguments: dict[str, Any] = {"path": str(mounting.path), "persistent": False, "size": "4M", "nr_inodes": 2**64 - 1}
    result = run_module("hugetlbfs_mount", **arguments)
    assert result["failed"]
    assert "The kernel did not make of" in result["msg"]
    assert f"instead of pagesize=2M size=4194304 nr_inodes={2**64 - 1}" in result["error"]["cause"]
    assert shape(mounting) == before


# --- what is refused


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"page_size": "3M"}, "This host has no huge pages of 3M. Cause: Its kernel and processor offer 2M"),
        ({"page_size": "2048"}, "This host has no huge pages of 2K"),
        ({"size": "1M"}, "is less than one page of 2M"),
        ({"size": "4M", "min_size": "6M"}, "min_size (6M) is more than size (4M)"),
        ({"size": "x"}, "size: 'x' is not a size"),
        ({"min_size": "101%"}, "is not between 1% and 100%"),
        ({"uid": "nobody-of-that-name"}, "There is no user nobody-of-that-name"),
        ({"gid": "nobody-of-that-name"}, "There is no group nobody-of-that-name"),
        ({"mode": "rwx"}, "mode: 'rwx' is not octal"),
        ({"mode": "2770"}, "mode: 2770 is more than 1777"),
        ({"nr_inodes": 0}, "nr_inodes: 0 is below 1"),
    ],
)
def test_what_is_wrong_is_refused(mounting: Mounting, arguments: dict[str, Any], text: str) -> None:
    assert text in mounting.refused(**arguments)
    assert not mounting.path.exists()


def test_places_that_are_something_else(mounting: Mounting) -> None:
    mounting.path.mkdir()
    (mounting.path / "file").write_text("x")
    assert "The mount would hide file" in mounting.refused()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(mounting.path)], check=True)
    assert "tmpfs (none) is mounted there" in mounting.refused()
    assert "tmpfs (none) is mounted there" in mounting.refused(state="absent")
    subprocess.run(["mount", "-t", "hugetlbfs", "none", str(mounting.path)], check=True)
    assert "several mounts lie on each other there" in mounting.refused()
    for _mount in range(2):
        subprocess.run(["umount", str(mounting.path)], check=True)
    assert (mounting.path / "file").read_text() == "x"
    mounting.path = mounting.pool.directory / "link"
    mounting.path.symlink_to("mount")
    assert f"Symbolic links lead to {mounting.pool.directory}/mount" in mounting.refused()
    mounting.path = mounting.pool.directory / "mount" / "file"
    assert "is no directory" in mounting.refused()


# --- at boot


@contextlib.contextmanager
def fstab_with(line: str) -> Iterator[int]:
    """The machine's fstab with a line at its end (its number), until the end; one test at a time."""
    with open("/run/lock/hostmem-test-fstab", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = FSTAB.read_bytes() if FSTAB.exists() else None
        text = before or b""
        text += b"" if not text or text.endswith(b"\n") else b"\n"
        FSTAB.write_bytes(text + line.encode() + b"\n")
        try:
            yield text.count(b"\n") + 1
            assert FSTAB.read_bytes() == text + line.encode() + b"\n"
        finally:
            if before is None:
                FSTAB.unlink()
            else:
                FSTAB.write_bytes(before)


def test_fstab_is_heeded_and_never_changed(mounting: Mounting) -> None:
    with fstab_with(f"none {mounting.path} hugetlbfs rw,pagesize=2M,size=64M,mode=0700,nofail 0 0") as number:
        text = mounting.refused(persistent=True, size="66M", mode="0700")
        assert f"{FSTAB}:{number} already mounts none there as hugetlbfs" in text
        found = mounting(persistent=True, size="64M", mode="0700")
        assert found["mount"]["configured_by"] == f"{FSTAB}:{number}"
        assert found["mount"]["unit"] is None
        text = mounting.refused(state="absent")
        assert f"{mounting.path} stays as it is: {FSTAB}:{number} mounts none there" in text
        subprocess.run(["umount", str(mounting.path)], check=True)
        assert f"{FSTAB}:{number}" in mounting.refused(state="absent")
        subprocess.run(["mount", str(mounting.path)], check=True)
    mounting(state="absent")


@pytest.mark.parametrize("words", ["ro,noexec", "noauto", "noauto,x-systemd.automount", "unheard"])
def test_what_fstab_says_more_is_not_passed_over(mounting: Mounting, words: str) -> None:
    """Such a line gives no mount at boot, or none that can be written: it is not what was asked for."""
    with fstab_with(f"none {mounting.path} hugetlbfs {words},pagesize=2M 0 0") as number:
        text = mounting.refused(persistent=True)
        assert f"{FSTAB}:{number} already mounts none there as hugetlbfs with {words},pagesize=2M" in text
    assert not mounting.path.exists()


def test_units_of_others_are_heeded_and_never_changed(mounting: Mounting) -> None:
    """systemd names a unit after its mount point, wherever the file lies."""
    mounting()
    name = str(mounting.path).strip("/").replace("-", "\\x2d").replace("/", "-")
    unit = Path("/etc/systemd/system") / f"{name}.mount"
    text = f"[Mount]\nWhat=none\nWhere={mounting.path}\nType=hugetlbfs\n"
    unit.parent.mkdir(parents=True, exist_ok=True)
    unit.write_text(text)
    try:
        assert f"{unit}:1 mounts none there" in mounting.refused(state="absent")
        assert unit.read_text() == text
    finally:
        unit.unlink()
    mounting(state="absent")


def test_a_mount_comes_back_at_boot_by_a_unit(mounting: Mounting) -> None:
    """Where systemd runs; elsewhere that is an error before anything changes."""
    if SYSTEMD:
        made = mounting(persistent=True, size="64M")
        unit = Path("/etc/systemd/system") / made["mount"]["unit"]
        assert (
            subprocess.run(["systemctl", "is-enabled", unit.name], check=False, stdout=subprocess.DEVNULL).returncode
            == 0
        )
        subprocess.run(["umount", str(mounting.path)], check=True)
        subprocess.run(["systemctl", "start", unit.name], check=True)
        assert "size=67108864" in mounting.shown()
        assert mounting(persistent=True, size="66M")["changed"]
        assert mounting(size="66M")["changed"]  # no longer persistent
        assert not unit.exists()
    else:
        assert "at each boot needs systemd, which does not run on this host" in mounting.refused(persistent=True)
        assert not mounting.path.exists()
