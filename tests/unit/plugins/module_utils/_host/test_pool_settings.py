# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of pools by others, wherever they can be, and words for the kernel's command line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.boot_means import BootMeans, find_means, our_groups
from ansible_collections.hostmem.qemu.plugins.module_utils._host.boot_parameters import check_words, with_words
from ansible_collections.hostmem.qemu.plugins.module_utils._host.errors import HostmemError, Refused
from ansible_collections.hostmem.qemu.plugins.module_utils._host.pool_settings import (
    BootPool,
    later_bare_counts,
    parse_boot_pools,
    parse_memory_size,
    pool_settings,
)

MIB = 1 << 20
GIB = 1 << 30


@pytest.mark.parametrize(
    ("text", "pools"),
    [
        ("quiet", []),
        ("hugepages=4", [BootPool(2 * MIB, {None: 4})]),
        ("default_hugepagesz=1G hugepages=4", [BootPool(GIB, {None: 4})]),
        ("hugepagesz=1G hugepages=0:1,1:2", [BootPool(GIB, {0: 1, 1: 2})]),
        (
            "hugepagesz=1048576K hugepages=1 ro hugepagesz=2M hugepages=0:50",
            [BootPool(GIB, {None: 1}), BootPool(2 * MIB, {0: 50})],
        ),
        ("hugepages=x hugepages=", [BootPool(2 * MIB, {}), BootPool(2 * MIB, {})]),
        ("transparent_hugepages=4 hugepagesz=1G", []),
    ],
)
def test_command_lines(text: str, pools: list[BootPool]) -> None:
    assert parse_boot_pools(text, 2 * MIB) == pools


@pytest.mark.parametrize(
    ("text", "size"), [("2M", 2 * MIB), ("1g", GIB), ("64K", 65536), ("2097152", 2 * MIB), ("M", 0), ("x", 0)]
)
def test_sizes_as_the_kernel_reads_them(text: str, size: int) -> None:
    assert parse_memory_size(text) == size


FILES = {
    "etc/sysctl.conf": "vm.swappiness = 1\n",
    "etc/sysctl.d/10-a.conf": "# vm.nr_hugepages = 1\n-vm/nr_hugepages=512\nvm.nr_overcommit_hugepages = 3\n",
    "usr/lib/sysctl.d/10-a.conf": "vm.nr_hugepages = 77\n",
    "usr/lib/sysctl.d/20-b.conf": " vm.nr_hugepages_mempolicy = 4",
    "etc/tmpfiles.d/a.conf": "w /sys/devices/system/node/node1/hugepages/hugepages-1048576kB/nr_hugepages - - - - 3\n"
    "w+! /proc/sys/vm/nr_hugepages - - - - 9\nd /x/hugepages-2048kB/nr_hugepages\n",
    "etc/tmpfiles.d/hostmem-hugepages.conf": "# Managed by hostmem.qemu (module hugepages)\n"
    "w! /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages - - - - 9\n",
    "etc/default/grub": '#GRUB_CMDLINE_LINUX="hugepages=1"\nGRUB_CMDLINE_LINUX="quiet hugepagesz=1G hugepages=0:2"\n',
    "etc/default/grub.d/x.cfg": "GRUB_CMDLINE_LINUX_DEFAULT='hugepages=7'\n",
    "etc/default/grub.d/hostmem-hugepages.cfg": '# Managed by hostmem.qemu\nGRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX hugepages=6"\n',
    "etc/kernel/cmdline": "root=/dev/vda hugepagesz=16G hugepages=1\n",
    "proc/cmdline": "quiet hugepages=7 hugepagesz=32G hugepages=1 hugepagesz=8G hugepages=2\n",
}


def test_all_places_are_searched(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "etc/sysctl.d/99-sysctl.conf").symlink_to("../sysctl.conf")
    found = pool_settings(2 * MIB, str(tmp_path), ours=["hugepagesz=8G hugepages=2"])
    assert [
        (item.file[len(str(tmp_path)) + 1 :], item.line, item.page_size // MIB, item.node, item.overcommit)
        for item in found
    ] == [
        ("etc/sysctl.d/10-a.conf", 2, 2, None, False),
        ("etc/sysctl.d/10-a.conf", 3, 2, None, True),
        ("usr/lib/sysctl.d/20-b.conf", 1, 2, None, False),
        ("etc/tmpfiles.d/a.conf", 1, 1024, 1, False),
        ("etc/tmpfiles.d/a.conf", 2, 2, None, False),
        ("etc/default/grub", 2, 1024, 0, False),
        ("etc/default/grub.d/x.cfg", 1, 2, None, False),
        ("etc/kernel/cmdline", 1, 16384, None, False),
        ("proc/cmdline", 1, 32768, None, False),
    ]
    for name, text in FILES.items():
        assert (tmp_path / name).read_text() == text


def test_grub_reads_our_drop_in_after_others(tmp_path: Path) -> None:
    means = BootMeans("grub", str(tmp_path / "hostmem.cfg"))
    groups = ["hugepagesz=1G hugepages=0:1,1:2", "hugepagesz=2M hugepages=0:5"]
    (tmp_path / "hostmem.cfg").write_text(means.text(groups))
    assert our_groups(means) == groups
    script = f'GRUB_CMDLINE_LINUX="quiet"; . {tmp_path}/hostmem.cfg; echo "$GRUB_CMDLINE_LINUX"'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == f"quiet {' '.join(groups)}\n"


def test_counts_that_would_change_their_meaning_after_our_words(tmp_path: Path) -> None:
    """Those without a page size, in what GRUB puts after our words; the kernel would ignore them."""
    texts = {
        "grub": 'GRUB_CMDLINE_LINUX="hugepages=1"\n# GRUB_CMDLINE_LINUX_DEFAULT="hugepages=2"\n'
        "GRUB_CMDLINE_LINUX_DEFAULT='quiet hugepages=3'\n",
        "grub.d/a.cfg": 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX hugepages=4"\n',
        "grub.d/b.cfg": 'GRUB_CMDLINE_LINUX_DEFAULT="hugepagesz=2M hugepages=5 transparent_hugepage=never"\n',
        "grub.d/hostmem.cfg": '# Managed by hostmem.qemu\nGRUB_CMDLINE_LINUX_DEFAULT="hugepages=6"\n',
        "grub.d/z.cfg": '\nexport GRUB_CMDLINE_LINUX+=" hugepages=7"\n',
    }
    (tmp_path / "grub.d").mkdir()
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    found = later_bare_counts(str(tmp_path / "grub.d/hostmem.cfg"))
    assert [(item.file[len(str(tmp_path)) + 1 :], item.line) for item in found] == [("grub", 3), ("grub.d/z.cfg", 2)]


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    means = BootMeans("grub", str(tmp_path / "hostmem.cfg"))
    assert our_groups(means) == []
    (tmp_path / "hostmem.cfg").write_text("# somebody's\n")
    with pytest.raises(Refused, match="somebody else made it"):
        our_groups(means)


@pytest.mark.parametrize("text", ["", "quiet", "quiet\n", "quiet  root=x \n\n", "hugepages=3 a"])
def test_every_other_byte_of_a_command_line_stays(text: str) -> None:
    one, two = ["hugepagesz=1G hugepages=1"], ["hugepagesz=1G hugepages=2", "hugepagesz=2M hugepages=0:1"]
    added = with_words(text, [], one)
    assert with_words(added, one, []) == text
    assert with_words(with_words(added, one, two), two, []) == text
    assert " ".join(two) in with_words(added, one, two)


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("hugepagesz=1G hugepages=1\n", "\n"),
        ("hugepagesz=1G hugepages=1 later=1", "later=1"),
        ("quiet hugepagesz=1G hugepages=1 later=1 \n\n", "quiet later=1 \n\n"),
        ("quiet\nhugepagesz=1G hugepages=1\nlater\n", "quiet\n\nlater\n"),
        ("xhugepagesz=1G hugepages=1 hugepagesz=1G hugepages=1", "xhugepagesz=1G hugepages=1"),
    ],
)
def test_our_words_are_removed_wherever_they_are(text: str, rest: str) -> None:
    assert with_words(text, ["hugepagesz=1G hugepages=1"], []) == rest


@pytest.mark.parametrize("text", ["", "quiet", "hugepagesz=1G hugepages=1,1:2", "hugepagesz=1G quiet hugepages=1"])
def test_words_that_are_recorded_and_gone(tmp_path: Path, text: str) -> None:
    group = "hugepagesz=1G hugepages=1"
    with pytest.raises(HostmemError, match="is not to be found"):
        with_words(text, [group], [])
    means = BootMeans("kernel-install", str(tmp_path / "hostmem.words"))
    (tmp_path / "hostmem.words").write_text(means.text([group]))
    (tmp_path / "cmdline").write_text(text)
    with pytest.raises(HostmemError, match="is not to be found"):
        check_words(means)
    (tmp_path / "cmdline").write_text(f"{group} {text}")
    check_words(means)


def test_no_means_without_a_boot_loader(tmp_path: Path) -> None:
    """Programs alone do not make one: Debian has kernel-install everywhere."""
    found = find_means("hostmem-hugepages", str(tmp_path))
    assert found is None or found.kind == "grubby"
