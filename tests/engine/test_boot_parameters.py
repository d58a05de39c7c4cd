# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Boot parameters as the module hugepages keeps them: by systemd's kernel-install, and by programs with the interfaces of grubby and update-grub."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.hugepages import page_sizes
from ansible_collections.hostmem.qemu.plugins.module_utils._host.numa import node_memory
from support.boot_loaders import GRUBBY, UPDATE_GRUB, VERSIONS, BootLoader
from support.huge_page_pool import HugePagePool, huge_page_pool

LINE = "root=/dev/vda  ro quiet\n"


@pytest.fixture(name="pool")
def fixture_pool() -> Iterator[HugePagePool]:
    with huge_page_pool() as pool:
        yield pool


@pytest.fixture(name="loader", params=["kernel-install", "grubby", "update-grub"])
def fixture_loader(request: pytest.FixtureRequest, tmp_path: Path) -> BootLoader:
    """Two kernels that the boot loader has entries of."""
    return made(tmp_path, request.param)


def made(directory: Path, kind: str) -> BootLoader:
    loader = BootLoader(directory)
    if kind == "kernel-install":
        (loader.kernel / "cmdline").write_text(LINE)
        (loader.kernel / "install.conf").write_text("layout=bls\n")
        for version in VERSIONS:
            words = ["kernel-install", "add", version, f"/boot/vmlinuz-{version}"]
            subprocess.run([*loader.before(), *words], check=True)
    elif kind == "grubby":
        loader.install("grubby", GRUBBY)
        for version in VERSIONS:
            (loader.entries / f"{version}.conf").write_text(" ".join(LINE.split()) + "\n")
    else:
        loader.install("update-grub", UPDATE_GRUB)
        (loader.default / "grub").write_text('GRUB_CMDLINE_LINUX=""\nGRUB_CMDLINE_LINUX_DEFAULT="quiet"\n')
        subprocess.run([*loader.before(), "update-grub"], check=True)
    return loader


def entries(loader: BootLoader) -> list[str]:
    """What each kernel is booted with, as the boot loader has it."""
    grub = loader.boot / "grub/grub.cfg"
    if grub.exists():
        return grub.read_text().splitlines()
    texts = [path.read_text() for path in sorted(loader.entries.glob("*.conf"))]
    return [next((line for line in text.splitlines() if line.startswith("options")), text) for text in texts]


def wanted(pool: HugePagePool, more: int) -> dict[str, Any]:
    return {**pool.with_more(more), "persist": "boot"}


def words(pool: HugePagePool, more: int) -> str:
    return f"hugepagesz=2M hugepages={pool.start + more}"


def test_words_come_to_each_kernel_are_changed_and_go(pool: HugePagePool, loader: BootLoader) -> None:
    """Others' words stay, byte for byte where the program leaves them so."""
    before = loader.files()
    for pages, old in ((2, None), (3, 2)):
        checked = loader.hugepages(check=True, **wanted(pool, pages))
        checked.pop("foreseen")
        done = loader.hugepages(**wanted(pool, pages))
        assert "failed" not in done, done
        assert done == checked
        assert done["persist"] == "boot"
        assert len(entries(loader)) == 2
        for entry in entries(loader):
            assert f" {words(pool, pages)}" in entry
            assert "quiet" in entry
            assert old is None or words(pool, old) not in entry
        assert not loader.hugepages(**wanted(pool, pages))["changed"]
    gone = loader.hugepages(state="absent")
    assert gone["changed"]
    after = loader.files()
    assert {path: b" ".join(text.split()) for path, text in after.items()} == {
        path: b" ".join(text.split()) for path, text in before.items()
    }
    assert after.get(str(loader.kernel / "cmdline")) == before.get(str(loader.kernel / "cmdline"))
    assert pool.pages() == pool.start


def failed(loader: BootLoader, pool: HugePagePool, message: str) -> dict[str, Any]:
    """The error of a run that asks for one page more; everything that boot loaders have is as it was."""
    before, there = loader.files(), entries(loader)
    done = loader.hugepages(**wanted(pool, 3))
    assert done.get("failed"), done
    assert message in done["error"]["message"]
    assert done["error"]["cure"]
    assert entries(loader) == there
    assert loader.files() == before
    error: dict[str, Any] = done["error"]
    return error


def test_kernel_install_that_leaves_our_words_out(pool: HugePagePool, tmp_path: Path) -> None:
    """Its plugin for entries is masked, as kernel-install(8) has it, after they were made."""
    loader = made(tmp_path, "kernel-install")
    loader.hugepages(**wanted(pool, 2))
    (loader.kernel / "install.d/90-loaderentry.install").symlink_to("/dev/null")
    error = failed(loader, pool, f"The kernel would not get {words(pool, 3)} at the next boot")
    assert f"{VERSIONS[0]}.conf" in error["cause"]
    assert "/etc/kernel/install.d" in error["cure"]


def test_kernel_install_that_fails_halfway(pool: HugePagePool, tmp_path: Path) -> None:
    """The entry of the first kernel, which it made already, is taken back."""
    loader = made(tmp_path, "kernel-install")
    loader.hugepages(**wanted(pool, 2))
    plugin = loader.kernel / "install.d/95-full.install"
    plugin.write_text(f'#!/bin/sh\n[ "$2" != {VERSIONS[1]} ] || {{ echo the disk is full >&2; exit 1; }}\n')
    plugin.chmod(0o755)
    error = failed(loader, pool, f"kernel-install add {VERSIONS[1]}")
    assert "the disk is full" in error["cause"]


@pytest.mark.parametrize("already", [0, 2])
def test_grubby_that_leaves_our_words_out_of_an_entry(pool: HugePagePool, tmp_path: Path, already: int) -> None:
    loader = made(tmp_path, "grubby")
    if already:
        loader.hugepages(**wanted(pool, already))
    (loader.entries / f"{VERSIONS[1]}.locked").touch()
    error = failed(loader, pool, f"The kernel would not get {words(pool, 3)} at the next boot")
    assert "grubby left them out" in error["cause"]


@pytest.mark.parametrize("already", [0, 2])
def test_update_grub_that_leaves_our_words_out(pool: HugePagePool, tmp_path: Path, already: int) -> None:
    """A file after ours, which is shell code, sets the variable anew for this number; those words that were there are there again."""
    loader = made(tmp_path, "update-grub")
    if already:
        loader.hugepages(**wanted(pool, already))
    code = f'case "$GRUB_CMDLINE_LINUX" in *"{words(pool, 3)}"*) GRUB_CMDLINE_LINUX="rd.break" ;; esac\n'
    (loader.default / "grub.d/zz.cfg").write_text(code)
    error = failed(loader, pool, f"The kernel would not get {words(pool, 3)} at the next boot")
    assert "/etc/default/grub.d/zz.cfg" in error["cause"]
    assert "$GRUB_CMDLINE_LINUX" in error["cure"]


# --- pages that only a reboot gives


def out_of_reach(pool: HugePagePool, size: int) -> dict[str, Any]:
    """A page that a boot can give, as the node has the memory, and that cannot be had now, as of what is free more has to be kept."""
    count = pool.pages(size=size) + 1
    others = sum(pool.pages(size=other) * other for other in page_sizes() if other != size)
    keep = node_memory(0).total - others - count * size
    return {"page_size": str(size), "node": 0, "count": count, "persist": "boot", "reserve": str(keep)}


@pytest.mark.parametrize("size", page_sizes())
def test_pages_that_only_a_reboot_gives(pool: HugePagePool, tmp_path: Path, size: int) -> None:
    """They are asked for at boot, and the module says that a reboot is needed, also when it is run again before that."""
    loader = made(tmp_path, "kernel-install")
    before, asked = pool.pages(size=size), out_of_reach(pool, size)
    checked, done, again = (loader.hugepages(check=check, **asked) for check in (True, False, False))
    for result in (checked, done, again):
        assert "failed" not in result, result
        assert result["reboot_required"]
        assert result["nodes"][0]["granted"] == 0
        assert any("Only a reboot of this host can give" in text for text in result["warnings"])
    assert [result["changed"] for result in (checked, done, again)] == [True, True, False]
    assert pool.pages(size=size) == before
    assert all(f"hugepages={asked['count']}" in entry for entry in entries(loader))
    fewer = loader.hugepages(**{**asked, "count": before, "reserve": "0"})
    assert (fewer["changed"], fewer["reboot_required"]) == (True, False)
    loader.hugepages(page_size=str(size), state="absent")
    assert (loader.kernel / "cmdline").read_text() == LINE


PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.include_role: {name: hostmem.qemu.hypervisor, tasks_from: hugepages}
    - ansible.builtin.copy: {dest: "{{ told }}", content: "{{ hypervisor_reboot_required | to_json }}"}
"""


@pytest.mark.parametrize("needed", [True, False])
def test_the_role_hands_on_that_a_reboot_is_needed(pool: HugePagePool, tmp_path: Path, needed: bool) -> None:
    """As a fact, for whoever called it."""
    loader = made(tmp_path, "kernel-install")
    asked = out_of_reach(pool, page_sizes()[-1])
    wish = asked if needed else {**asked, "count": asked["count"] - 1, "reserve": "0"}
    told = tmp_path / "told"
    variables = {"hypervisor_hugepages": [wanted(pool, 0), wish], "hypervisor_foreseen": {}, "told": str(told)}
    (tmp_path / "play.yml").write_text(PLAY)
    python = {"ansible_python_interpreter": sys.executable}
    words = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", str(tmp_path / "play.yml")]
    collections = str(Path(inspect.getfile(node_memory)).parents[6])
    done = subprocess.run(
        [*loader.before(), *words, "-e", json.dumps({**variables, **python})],
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": collections, "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert told.read_text() == json.dumps(needed)
    loader.hugepages(page_size=asked["page_size"], state="absent")
