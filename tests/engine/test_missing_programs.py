# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each program or library that is missing is an error that names its package, before anything is changed: modules and verbs where it cannot be executed."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.packages import distribution_family, package_of
from support.engine import EngineHost
from support.loop_devices import line_of, loop_device
from support.modules import run_module, without


def package(program: str) -> str:
    """In the words of the error, for the distribution that this machine has."""
    return f"Install the package {package_of(program, distribution_family())}."


def missing(program: str, module: str, before: Sequence[str] = (), **arguments: Any) -> None:
    """Check mode and run say in the same words that it is missing, and which package has it."""
    for check in (True, False):
        done = run_module(module, check, before=[*without(program), *before], **arguments)
        assert done.get("failed"), done
        assert done["error"]["message"] == f"The program {program} is not installed on this host."
        assert done["error"]["cure"] == package(program)


def test_ndctl() -> None:
    missing("ndctl", "pmem_namespace", name="one", region="region9", size="64M")


def stays_without_umount(module: str, wanted: dict[str, Any]) -> None:
    """Once it is mounted it needs umount to go, and stays as it is without."""
    point = Path(wanted["path"])
    try:
        assert run_module(module, **wanted)["changed"]
        before = line_of(point)
        missing("umount", module, path=str(point), state="absent")
        assert line_of(point) == before
    finally:
        run_module(module, path=str(point), state="absent")


def test_ssh_keygen(tmp_path: Path) -> None:
    host = tmp_path / "tls"
    missing("ssh-keygen", "move_credentials", path=str(host), names=["hv1"], user="root", group="root")
    assert not (host / "server-key.pem").exists()


def test_mount_and_umount_of_huge_pages(tmp_path: Path) -> None:
    point = tmp_path / "huge"
    wanted: dict[str, Any] = {"path": str(point), "persistent": False}
    for program in ("mount", "umount"):
        missing(program, "hugetlbfs_mount", **wanted)
        assert not point.exists()
    stays_without_umount("hugetlbfs_mount", wanted)


@pytest.mark.parametrize("program", ["mkfs.ext4", "mkfs.xfs", "wipefs", "mount", "umount"])
def test_what_a_file_system_needs(tmp_path: Path, program: str) -> None:
    with loop_device(tmp_path, 64 << 20) as loop:
        point = tmp_path / "mount"
        kind = program.partition(".")[2] or "ext4"
        missing(program, "dax_mount", path=str(point), device=loop, dax="never", fstype=kind, persistent=False)
        assert not point.exists()
        assert not any((tmp_path / "image").read_bytes())


def where_there_is(path: str) -> list[str]:
    """What runs a program where this file is there, in a /run that nobody else sees."""
    script = 'mount -t tmpfs none /run && mkdir -p "$(dirname "$1")" && touch "$1" && shift && exec "$@"'
    return ["sh", "-c", script, "sh", path]


def test_udevadm_and_umount_of_a_file_system(tmp_path: Path) -> None:
    """Where udev runs, a file system is mounted by its UUID; and once it is mounted, it is unmounted."""
    with loop_device(tmp_path, 64 << 20) as loop:
        wanted: dict[str, Any] = {"path": str(tmp_path / "mount"), "device": loop, "dax": "never", "persistent": False}
        missing("udevadm", "dax_mount", where_there_is("/run/udev/control"), **wanted)
        stays_without_umount("dax_mount", wanted)


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("hugetlbfs_mount", {"path": "/srv/hostmem-test-huge"}),
        ("hugepages", {"node": 0, "count": 100_000_000, "shortfall": "warn", "persist": "tmpfiles"}),
    ],
)
def test_systemctl_of_modules(module: str, arguments: dict[str, Any]) -> None:
    missing("systemctl", module, where_there_is("/run/systemd/system/any"), **arguments)  # sd_booted(3)


def test_no_means_for_boot_parameters() -> None:
    asked: dict[str, Any] = {"page_size": "2M", "node": 0, "count": 100_000_000, "shortfall": "warn", "persist": "boot"}
    for check in (True, False):
        before = without("update-grub", "grubby", "kernel-install")
        done = run_module("hugepages", check, before=before, **asked)
        assert "cannot be asked for at boot" in done["error"]["message"]
        means = {"Debian": "update-grub", "RedHat": "grubby"}.get(distribution_family(), "kernel-install")
        assert done["error"]["cure"].startswith(package(means))
        assert "hugepagesz=2M hugepages=" in done["error"]["cure"]


def refused_without(host: EngineHost, hidden: Sequence[str], *words: str, stdin: str = "") -> dict[str, Any]:
    """The error of a verb."""
    done = subprocess.run([*hidden, *host.command(*words)], input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode, done.stdout
    answer = json.loads(done.stdout)
    error: dict[str, Any] = answer.get("error") or answer["results"][0]["error"]
    return error


def test_ip_of_a_guest_with_a_tap(host: EngineHost) -> None:
    tap = f"ht{os.urandom(4).hex()}"
    host.define(host.heartbeat("g", nics=[{"id": "n0", "mac": "52:54:00:00:00:01", "tap": tap}]))
    error = refused_without(host, without("ip"), "start", "g")
    assert error["message"] == "The program ip is not installed on this host."
    assert error["cure"] == package("ip")
    assert host.qemu_pids("g") == []
    assert not [name for name in os.listdir("/sys/class/net") if name.startswith(tap)]


def test_systemctl_of_guests(host: EngineHost) -> None:
    host.define(host.heartbeat("g"))
    config = json.loads(host.config.read_text())
    host.config.write_text(json.dumps({**config, "manager": "systemd"}))
    try:
        error = refused_without(host, without("systemctl"), "start", "g")
    finally:
        host.config.write_text(json.dumps(config))
    assert error["message"] == "The program systemctl is not installed on this host."
    assert error["cure"] == package("systemctl")


def libraries(name: str) -> list[str]:
    """The files of a library in the directories of ld.so(8)."""
    return sorted(
        {str(path.resolve()) for base in ("/usr/lib", "/lib", "/usr/lib64") for path in Path(base).rglob(name)}
    )


def test_libnuma(host: EngineHost) -> None:
    """QEMU's package brings it; here an empty file lies in its place."""
    options = {"prealloc": True, "policy": "bind", "host_nodes": [0]}
    host.define(host.heartbeat("g", memory={"blocks": [host.block("g", **options)]}))
    found = libraries("libnuma.so.1")
    assert found
    error = refused_without(host, without(also=found), "start", "g")
    assert error["message"] == "The library libnuma.so.1 cannot be loaded."
    assert error["cure"] == package("libnuma.so.1")
    assert host.qemu_pids("g") == []
    assert not list((host.memory / "g").glob("qemu_back_mem*"))
