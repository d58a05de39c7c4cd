# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is configured for the next boot, and what of the pools is ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.boot_means import BootMeans
from ansible_collections.hostmem.qemu.plugins.module_utils._host.errors import HostmemError, Refused
from ansible_collections.hostmem.qemu.plugins.module_utils._host.pool_settings import (
    BootPool,
    PoolSetting,
    parse_boot_pools,
)
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.pool_configuration import (
    check_others,
    requested_counts,
)
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.pool_persistence import (
    PersistencePlan,
    PersistentPools,
    boot_words,
    check_grub,
    choose,
    persistent_pools,
    running_pools,
    tmpfiles_text,
)
from ansible_collections.hostmem.qemu.plugins.module_utils._memory.pool_record import (
    PoolRecord,
    load_record,
    store_record,
)

MIB = 1 << 20
GIB = 1 << 30
NODE0 = "/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages"


@pytest.mark.parametrize(
    ("persist", "size", "kind"),
    [("auto", 2 * MIB, "tmpfiles"), ("auto", GIB, "boot"), ("tmpfiles", GIB, "tmpfiles"), ("none", GIB, "none")],
)
def test_the_means_fits_the_size(persist: str, size: int, kind: str) -> None:
    assert choose(persist, size) == kind


@pytest.mark.parametrize("counts", [{0: 1}, {1: 7}, {0: 1, 1: 2, 4: 0}])
def test_boot_parameters_are_read_as_they_are_written(counts: dict[int, int]) -> None:
    assert parse_boot_pools(boot_words(GIB, counts, False), 0) == [BootPool(GIB, counts)]
    assert parse_boot_pools(boot_words(GIB, counts, True), 0) == [BootPool(GIB, {None: sum(counts.values())})]


def test_tmpfiles_are_read_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "hostmem.conf"
    assert persistent_pools(None, [0], str(path)) == PersistentPools({}, {})
    files = {NODE0: 70, NODE0.replace("node0", "node1"): 3}
    path.write_text(tmpfiles_text(files))
    assert path.read_text().split("\n")[1] == f"w! {NODE0} - - - - 70"
    found = persistent_pools(None, [0, 1], str(path))
    assert found == PersistentPools(files, {})
    assert [found.pages(2 * MIB, node) for node in (0, 1, 2)] == [70, 3, 0]
    path.write_text("w! x - - - - 1\n")
    with pytest.raises(Refused, match="somebody else made it"):
        persistent_pools(None, [0], str(path))


def test_boot_parameters_of_all_sizes_are_kept(tmp_path: Path) -> None:
    means = BootMeans("grub", str(tmp_path / "x.cfg"))
    pools = PersistentPools({}, {GIB: {0: 1, 1: 2}, 2 * MIB: {1: 5}})
    plan = PersistencePlan("boot", PersistentPools({}, {}), pools, means, False)
    text = plan.diff()["after"][means.file]
    (tmp_path / "x.cfg").write_text(text)
    assert persistent_pools(means, [0, 1], str(tmp_path / "none")) == pools
    assert plan.diff()["before"][means.file] == ""
    assert plan.changed


def test_counts_of_others_keep_their_meaning(tmp_path: Path) -> None:
    (tmp_path / "grub.d").mkdir()
    means = BootMeans("grub", str(tmp_path / "grub.d/hostmem.cfg"))
    check_grub(means)
    grub = tmp_path / "grub"
    grub.write_text('GRUB_CMDLINE_LINUX="hugepages=1"\nGRUB_CMDLINE_LINUX_DEFAULT="quiet hugepagesz=2M hugepages=3"\n')
    check_grub(means)
    grub.write_text('GRUB_CMDLINE_LINUX=""\nGRUB_CMDLINE_LINUX_DEFAULT="quiet hugepages=3"\n')
    with pytest.raises(Refused, match=f"{grub}:2 has hugepages= without hugepagesz=") as caught:
        check_grub(means)
    assert "quiet hugepages=3" in caught.value.cause


def test_the_running_kernels_parameters(tmp_path: Path) -> None:
    line = tmp_path / "cmdline"
    line.write_text("quiet hugepagesz=1G hugepages=0:1,1:2 hugepagesz=2M hugepages=5\n")
    assert running_pools(GIB, [0, 1], str(line)) == {0: 1, 1: 2}
    assert running_pools(2 * MIB, [0, 1], str(line)) == {}
    assert running_pools(2 * MIB, [0], str(line)) == {0: 5}


def test_what_is_ours(tmp_path: Path) -> None:
    path = str(tmp_path / "record.json")
    record = load_record(2 * MIB, path)
    record.add(0, known=0, pages=10)
    record.add(0, known=99, pages=-3)  # what is noted counts
    record.add(1, known=5, pages=2)
    record.overcommit = 0
    store_record(2 * MIB, record, path)
    assert load_record(2 * MIB, path) == PoolRecord({0: 7, 1: 7}, 0)
    assert load_record(GIB, path) == PoolRecord()
    store_record(GIB, PoolRecord({0: 1}), path)
    store_record(2 * MIB, PoolRecord(), path)
    assert load_record(GIB, path) == PoolRecord({0: 1})
    store_record(GIB, PoolRecord(), path)
    assert not (tmp_path / "record.json").exists()
    record.add(0, known=0, pages=-100)  # a pool that was shrunk below what others had is never grown again
    assert record.pages[0] == 0
    (tmp_path / "record.json").write_text("{")
    with pytest.raises(HostmemError, match="cannot be read"):
        load_record(GIB, path)


def test_counts_of_nodes() -> None:
    assert requested_counts(None, None, [(0, 3), (1, 4)]) == {0: 3, 1: 4}
    assert requested_counts(1, 4, []) == {1: 4}
    assert requested_counts(None, None, []) == {}
    with pytest.raises(Refused, match="named twice"):
        requested_counts(None, None, [(0, 3), (0, 4)])


@pytest.mark.parametrize("policy", ["at_least", "needed"])
def test_a_boot_knows_exact_numbers_only(policy: str) -> None:
    setting = PoolSetting("/etc/sysctl.d/a.conf", 3, "vm.nr_hugepages = 512", 2 * MIB)
    other = PoolSetting("/etc/tmpfiles.d/a.conf", 1, "w ...", 2 * MIB, node=1)
    for kind in ("tmpfiles", "boot"):
        with pytest.raises(
            Refused, match=r"/etc/sysctl.d/a.conf:3 sets the same pool \(vm.nr_hugepages = 512\)"
        ) as caught:
            check_others(policy, kind, {0: 4}, [other, setting])
        assert policy in caught.value.cause
        check_others("exact", kind, {0: 4}, [setting])
        check_others(policy, kind, {0: 4}, [other])
        check_others(policy, kind, {}, [setting])
    check_others(policy, "none", {0: 4}, [setting])
