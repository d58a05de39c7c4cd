# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where guest memory really lies, in both QEMUs, against the names that the definition foretells."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.cgroups import own_groups
from ansible_collections.hostmem.qemu.plugins.module_utils._host.numa import node_cpus
from support.engine import EngineHost, mapping, wait_until
from support.host import MACHINE
from support.materials import huge_pages, pool_lock
from support.sound import assert_alive, assert_sound, refuses

MIB = 1 << 20
VERSIONS = pytest.mark.parametrize("version", ["10.0", "10.0.13", "11.1"])


def boot(host: EngineHost, version: str, *blocks: dict[str, Any], **changes: Any) -> Any:
    host.install(version)
    return host.boot("g", memory={"blocks": list(blocks)}, **changes)


def real_blocks(host: EngineHost) -> dict[str, tuple[int, int, int]]:
    """Offset, used length and page size (KiB) of each RAMBlock, asked of QEMU directly."""
    with host.qmp("g") as qmp:
        text = qmp("x-query-ramblock")["human-readable-text"]
    found = {}
    for line in text.splitlines():
        if " 0x" in line and line.split()[0] != "Block":
            name, page, unit, offset, used = line.split()[:5]
            found[name] = (int(offset, 16), int(used, 16), int(page) * {"KiB": 1, "MiB": 1024}[unit])
    return found


def mapped(host: EngineHost, path: Path) -> list[str]:
    """Permissions of the mappings of a file in the guest's QEMU."""
    inode = path.stat().st_ino
    lines = Path(f"/proc/{host.only_qemu('g')}/maps").read_text().splitlines()
    return [line.split()[1] for line in lines if line.split()[4] == str(inode)]


@VERSIONS
@pytest.mark.parametrize("backing", ["tmpfs", "file"])
def test_one_block(host: EngineHost, version: str, backing: str) -> None:
    directory = host.memory / "g" if backing == "tmpfs" else host.root / "ram"
    boot(host, version, host.block("g", backing=backing, directory=str(directory)))
    assert os.listdir(directory) == ["qemu_back_mem.0+4000000.ram0"]
    assert real_blocks(host)["ram0"] == (0, 64 * MIB, 4)
    file = directory / "qemu_back_mem.0+4000000.ram0"
    assert file.stat().st_size == 64 * MIB
    assert mapped(host, file) == ["rw-s"]
    info = host.info("g")
    assert [block["path"] for block in info["layout"]] == [str(file)]
    assert next(block for block in info["ram_blocks"] if block["name"] == "ram0")["file"] == str(file)


@VERSIONS
def test_numa_nodes(host: EngineHost, version: str) -> None:
    """Three nodes, of sizes that are no multiples of the step in which QEMU places blocks (256 KiB), in three places."""
    sizes = {"low": "64M", "odd": "1032k", "top": "32M"}
    blocks = [
        host.block("g", id=name, size=size, numa_node=number, directory=str(host.memory / name))
        for number, (name, size) in enumerate(sizes.items())
    ]
    host.install(version)
    host.start(host.heartbeat("g", memory={"blocks": blocks}, cpu={"model": "qemu64", "count": 3}))
    found = real_blocks(host)
    assert found["low"] == (0, 64 * MIB, 4)
    assert found["odd"] == (64 * MIB, 1032 << 10, 4)
    assert found["top"] == (64 * MIB + (1280 << 10), 32 * MIB, 4)
    names = [os.listdir(host.memory / name)[0] for name in sizes]
    assert names == [
        "qemu_back_mem.0+4000000.low",
        "qemu_back_mem.4000000+102000.odd",
        "qemu_back_mem.4140000+2000000.top",
    ]
    assert_alive(host.page("g", "low"))


@VERSIONS
def test_memfd(host: EngineHost, version: str) -> None:
    boot(host, version, {"id": "ram0", "size": "64M", "backing": "memfd"})
    assert real_blocks(host)["ram0"] == (0, 64 * MIB, 4)
    assert "memfd:memory-backend-memfd" in os.readlink(host.ram_path("g"))
    assert not host.memory.exists()


@VERSIONS
def test_temp(host: EngineHost, version: str) -> None:
    """A file without a name, which nothing is left of."""
    page = boot(host, version, host.block("g", mode="temp"))
    assert os.listdir(host.memory / "g") == []
    link = os.readlink(host.ram_path("g"))
    assert link.startswith(f"{host.memory}/g/qemu_back_mem.ram0.")
    assert link.endswith(" (deleted)")
    page.close()
    host.one("stop", "g")
    assert not list(host.memory.rglob("*.ram0*"))


@VERSIONS
def test_hugetlbfs(host: EngineHost, version: str) -> None:
    directory = huge_pages(host, 40) / "g"
    block = host.block("g", backing="hugetlbfs", page_size="2M", directory=str(directory))
    boot(host, version, block).close()
    assert real_blocks(host)["ram0"] == (0, 64 * MIB, 2048)
    file = directory / "qemu_back_mem.0+4000000.ram0"
    assert mapped(host, file) == ["rw-s"]
    host.one("stop", "g")
    assert not file.exists()  # a file left would keep its pages from everybody


@VERSIONS
def test_private_file(host: EngineHost, version: str) -> None:
    """The guest's writes never reach the file."""
    directory = host.root / "ram"
    page = boot(host, version, host.block("g", backing="file", directory=str(directory), mmap="private"))
    file = directory / "qemu_back_mem.0+4000000.ram0"
    assert mapped(host, file) == ["rw-p"]
    assert_alive(page)
    assert not any(file.read_bytes())


@VERSIONS
def test_prealloc(host: EngineHost, version: str) -> None:
    """A file is filled before QEMU starts, which then has nothing to do."""
    boot(host, version, host.block("g", prealloc=True, prealloc_threads=2, policy="bind", host_nodes=[0]))
    assert host.ram_file("g").stat().st_blocks * 512 == 64 * MIB
    assert b"prealloc=on" not in Path(f"/proc/{host.only_qemu('g')}/cmdline").read_bytes()


@VERSIONS
def test_prealloc_of_memfd(host: EngineHost, version: str) -> None:
    """QEMU fills what has no file, by threads on the memory's nodes."""
    block = {"id": "ram0", "size": "64M", "backing": "memfd", "prealloc": True, "prealloc_threads": 2}
    options = {"policy": "bind", "host_nodes": [0], "merge": False, "dump": False, "seal": False}
    page = boot(host, version, {**block, **options})
    assert os.stat(host.ram_path("g")).st_blocks * 512 == 64 * MIB
    with host.qmp("g") as qmp:
        memdev = qmp("query-memdev")[0]
        sealed = qmp("qom-get", path="/objects/ram0", property="seal")
        context = qmp("qom-get", path="/objects/ram0", property="prealloc-context")
        cpus = qmp("qom-get", path=context, property="cpu-affinity")
    assert (memdev["merge"], memdev["dump"], memdev["prealloc"], sealed) == (False, False, True, False)
    assert context == "/objects/threads-ram0"
    assert set(cpus) == node_cpus([0])
    assert_sound(host, "g", page)


def test_file_that_cannot_be_filled_is_not_left(host: EngineHost) -> None:
    """Its pages are all there when the start is planned, but its control group has used up its own."""
    place = huge_pages(host, 80)
    directory, other = place / "g", place / "other"
    block = host.block("g", backing="hugetlbfs", page_size="2M", directory=str(directory), prealloc=True)
    host.define(host.heartbeat("g", memory={"blocks": [block]}))
    files = ("hugetlb.2MB.max", "hugetlb.2MB.limit_in_bytes")
    with pool_lock(), limited(host, "hugetlb", dict.fromkeys(files, str(64 * MIB))) as group:
        # A page counts for the group that touched it first.
        run_in(group, ["fallocate", "-l", str(32 * MIB), str(other)])
        refuses(start_in(host, group)["error"], f"64M cannot be filled in {directory}", "Bad address", "stop guests")
        assert list(place.rglob("*.ram0")) == []
        assert os.statvfs(place).f_bfree == 80 - 16
        other.unlink()
    assert host.one("start", "g")["changed"]


@VERSIONS
def test_read_only_file(host: EngineHost, version: str) -> None:
    """One that somebody else owns and nobody may write: the guest writes into pages of its own."""
    directory = host.root / "frozen"
    directory.mkdir()
    file = directory / "qemu_back_mem.0+4000000.ram0"
    file.write_bytes(bytes(64 * MIB))
    file.chmod(0o444)
    options = {"mmap": "private", "mode": "open", "read_only": True, "reserve": False}
    page = boot(host, version, host.block("g", backing="file", directory=str(directory), **options))
    assert mapped(host, file) == ["rw-p"]
    assert_alive(page)
    found = file.stat()
    assert (found.st_mode & 0o777, found.st_uid) == (0o444, 0)
    assert not any(file.read_bytes())


def test_huge_pages_of_memfd(host: EngineHost) -> None:
    huge_pages(host, 40)
    page = boot(host, "10.0", {"id": "ram0", "size": "64M", "backing": "memfd", "page_size": "2M"})
    assert real_blocks(host)["ram0"][2] == 2048
    assert_sound(host, "g", page)


def test_numa_policy(host: EngineHost) -> None:
    boot(host, "10.0", host.block("g", policy="bind", host_nodes=[0]))
    with host.qmp("g") as qmp:
        memdev = qmp("query-memdev")[0]
    assert (memdev["policy"], memdev["host-nodes"]) == ("bind", [0])


# --- the definition demands what is not there


def test_another_file_system_is_refused(host: EngineHost) -> None:
    block = host.block("g", backing="file", directory=str(host.root / "ram"), filesystem="dax")
    host.define(host.heartbeat("g", memory={"blocks": [block]}))
    refuses(host.refused("start", "g"), "demands dax", "Mount a dax there")
    assert not (host.root / "ram").exists()


def test_too_few_huge_pages_are_refused(host: EngineHost) -> None:
    directory = huge_pages(host, 20) / "g"
    block = host.block("g", backing="hugetlbfs", page_size="2M", directory=str(directory))
    host.define(host.heartbeat("g", memory={"blocks": [block]}))
    for words in (("start", "--check", "g"), ("start", "g")):
        refuses(host.refused(*words), "not enough huge pages", "64M")
    assert not directory.exists()


@pytest.mark.parametrize("options", [{}, {"policy": "bind", "host_nodes": [0]}, {"prealloc": True}])
def test_too_few_huge_pages_for_a_memfd_are_refused(host: EngineHost, options: dict[str, Any]) -> None:
    """More than the tests ever take from the machine: its pool is everybody's."""
    block = {"id": "ram0", "size": "16G", "backing": "memfd", "page_size": "2M", **options}
    host.define(host.heartbeat("g", memory={"blocks": [block]}))
    for words in (("start", "--check", "g"), ("start", "g")):
        refuses(
            host.refused(*words), "not enough huge pages of 2M on this host", "16G are needed, ", "Enlarge the pool"
        )


def test_pools_are_counted_for_all_blocks_together(host: EngineHost) -> None:
    """Each would fit, the file in its mount, too."""
    directory = huge_pages(host, 40) / "g"
    free = int(Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages").read_text())
    assert free < 4096
    blocks = [
        host.block("g", backing="hugetlbfs", page_size="2M", directory=str(directory), numa_node=0),
        {"id": "ram1", "size": 2 * MIB * free, "backing": "memfd", "page_size": "2M", "numa_node": 1},
    ]
    host.define(host.heartbeat("g", memory={"blocks": blocks}, cpu={"model": "qemu64", "count": 2}))
    refuses(host.refused("start", "g"), "Memory block ram0, ram1: not enough huge pages of 2M on this host")
    assert not directory.exists()


def test_page_size_that_the_kernel_does_not_have_is_refused(host: EngineHost) -> None:
    block = {"id": "ram0", "size": "64M", "backing": "memfd", "page_size": "4M"}
    host.define(host.heartbeat("g", memory={"blocks": [block]}))
    refuses(host.refused("start", "g"), "this host has no huge pages of 4M", "pages of 2M, 1G", "Correct page_size")


@pytest.mark.parametrize("backing", ["hugetlbfs", "memfd", "tmpfs"])
@pytest.mark.parametrize(
    "nodes", [{"policy": "bind", "host_nodes": [63]}, {"policy": "interleave", "host_nodes": [0, 63]}]
)
def test_numa_node_that_is_not_there_is_refused(host: EngineHost, backing: str, nodes: dict[str, Any]) -> None:
    """QEMU and the kernel would take [0, 63] as [0]."""
    block = {"id": "ram0", "size": "64M", "backing": "memfd"}
    if backing == "hugetlbfs":
        directory = str(huge_pages(host, 40) / "g")
        block = host.block("g", backing="hugetlbfs", page_size="2M", directory=directory, prealloc=True)
    elif backing == "tmpfs":
        block = host.block("g")
    host.define(host.heartbeat("g", memory={"blocks": [{**block, **nodes}]}))
    refuses(host.refused("start", "g"), "this host has no NUMA node 63 with memory", "nodes with memory are 0")
    assert not list(host.root.rglob("*.ram0"))


def test_another_page_size_is_refused(host: EngineHost) -> None:
    directory = huge_pages(host, 1) / "g"
    block = host.block("g", size="1G", backing="hugetlbfs", page_size="1G", directory=str(directory))
    host.define(host.heartbeat("g", memory={"blocks": [block]}))
    refuses(host.refused("start", "g"), "pages of 2M, the definition demands 1G", "pagesize=1G")


# --- QEMU does something else than the definition says: its vCPUs never run

ALTERED = [
    ("memory-backend=ram0,", "", "the memory backend is not used"),
    ("aux-ram-share=on", "aux-ram-share=off", "aux-ram-share is off"),
    (MACHINE, "pc-q35-9.2", "the machine is pc-q35-9.2"),
    (",share=on,", ",share=off,", "is mapped private"),
    ("qemu_back_mem.0+4000000.ram0", "other", "lies in"),
]


@pytest.mark.parametrize(("old", "new", "text"), ALTERED)
def test_altered_arguments_are_refused(host: EngineHost, old: str, new: str, text: str) -> None:
    """A template that breaks a promise: when it is defined."""
    result = host.define_altered(host.heartbeat("g"), old, new)
    assert not result["ok"]
    assert "argv" in result["error"]["message"]


@pytest.mark.parametrize(("old", "new", "text"), ALTERED)
def test_verified_on_the_real_qemu(host: EngineHost, old: str, new: str, text: str) -> None:
    """The same past that check: QEMU is asked before its vCPUs run, and ended."""
    with host.unchecked():
        assert host.define_altered(host.heartbeat("g"), old, new)["ok"]
        refuses(host.refused("start", "g"), text, "The vCPUs have not run yet")
    assert host.qemu_pids("g") == []
    assert "running" not in {state.new for state in host.run_states("g")}
    assert sorted(path.name for path in host.run_directory("g").iterdir()) == ["guest.lock", "verb.lock"]


def test_swapped_blocks_are_refused(host: EngineHost) -> None:
    """Offsets follow the order of the arguments, and names follow offsets."""
    blocks = [host.block("g", id=name, size="64M", numa_node=number) for number, name in enumerate(["one", "two"])]
    definition = host.heartbeat("g", memory={"blocks": blocks}, cpu={"model": "qemu64", "count": 2})
    with host.unchecked():
        host.define(definition)
        file = Path(host.settings["definitions"]) / "g.json"
        swap = {"id=one": "id=two", "id=two": "id=one", ".one": ".two", ".two": ".one"}
        text = file.read_text()
        for index, old in enumerate(swap):
            text = text.replace(f"memory-backend-file,{old}", f"memory-backend-file,@{index}")
        lines = text.splitlines()
        first = next(index for index, line in enumerate(lines) if "memory-backend-file,@0" in line)
        second = next(index for index, line in enumerate(lines) if "memory-backend-file,@1" in line)
        lines[first], lines[second] = lines[second], lines[first]
        file.write_text("\n".join(lines).replace("@0", "id=one").replace("@1", "id=two"))
        refuses(host.refused("start", "g"), "RAMBlock one is at 0x4000000", "RAMBlock two is at 0x0")
    assert host.qemu_pids("g") == []


def test_offset_of_the_mapping(host: EngineHost) -> None:
    """The status page is read at the same offset in the file as in the guest's memory: the file begins with byte 0."""
    page = boot(host, "11.1", host.block("g"))
    pid = host.only_qemu("g")
    with host.qmp("g") as qmp:
        line = qmp("x-query-ramblock")["human-readable-text"].splitlines()[1]
    start, end, _permissions = mapping(pid, int(line.split()[-2], 16))
    assert end - start == 64 * MIB
    with host.ram_file("g").open("rb") as file:
        file.seek(0x200000)
        assert file.read(4) == b"HMB1"
    assert_alive(page)


# --- limits of control groups


@contextlib.contextmanager
def limited(host: EngineHost, controller: str, settings: dict[str, str]) -> Iterator[Path]:
    """A control group with limits, of version 1 or 2, as the machine has it; mounted here where it is nowhere."""
    if not own_groups(controller)[0]:
        place = host.root / "cgroup"
        place.mkdir()
        subprocess.run(["mount", "-t", "cgroup", "-o", controller, "hostmem-test", place], check=True)
        host.later.callback(subprocess.run, ["umount", str(place)], check=True)
    root, above = own_groups(controller)
    switch = Path(root) / "cgroup.subtree_control"
    if switch.exists():  # version 2: a group with processes can have no others in it that are limited
        switch.write_text(f"+{controller}")
        above = [root]
    group = Path(above[0]) / f"hostmem-test-{os.getpid()}"
    group.mkdir()
    try:
        for name, value in settings.items():
            if (group / name).exists():
                (group / name).write_text(value)
        yield group
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text().strip(), "the group is never empty")
        group.rmdir()


@contextlib.contextmanager
def limited_slice(host: EngineHost, controller: str, settings: dict[str, str]) -> Iterator[None]:
    """The group that systemd makes for machine.slice, with limits."""
    with limited(host, controller, {}):  # mounts what is missing
        place = Path(own_groups(controller)[0]) / "machine.slice"
        place.mkdir()
        try:
            for name, value in settings.items():
                if (place / name).exists():
                    (place / name).write_text(value)
            yield
        finally:
            place.rmdir()


def run_in(group: Path, words: list[str]) -> str:
    """Run a program in the group; what it writes."""
    shell = ["/bin/sh", "-c", f'echo $$ >{group}/cgroup.procs && exec "$@"', "sh", *words]
    return subprocess.run(shell, stdout=subprocess.PIPE, text=True, check=False).stdout


def start_in(host: EngineHost, group: Path) -> dict[str, Any]:
    """Start the guest by a program in the group; the verb's result."""
    result: dict[str, Any] = json.loads(run_in(group, host.command("start", "g")))["results"][0]
    return result


def test_memory_limit_of_a_control_group_is_refused(host: EngineHost) -> None:
    host.define(host.heartbeat("g"))
    with limited(host, "memory", {"memory.max": str(32 * MIB), "memory.limit_in_bytes": str(32 * MIB)}) as group:
        refuses(start_in(host, group)["error"], "needs 64M, its control group may have 32M", "killed", "MemoryMax")
    assert not list(host.memory.rglob("*.ram0"))
    assert host.one("start", "g")["changed"]


def test_huge_page_limit_of_a_control_group_is_refused(host: EngineHost) -> None:
    directory = huge_pages(host, 40) / "g"
    block = host.block("g", backing="hugetlbfs", page_size="2M", directory=str(directory))
    host.define(host.heartbeat("g", memory={"blocks": [block]}))
    files = ("hugetlb.2MB.max", "hugetlb.2MB.limit_in_bytes")
    # Another test may mount the hierarchy for a while.
    with pool_lock(), limited(host, "hugetlb", dict.fromkeys(files, str(32 * MIB))) as group:
        refuses(start_in(host, group)["error"], "needs 64M, its control group may have 32M", "SIGBUS")
    assert not directory.exists()


@pytest.mark.parametrize("controller", ["memory", "hugetlb"])
def test_limit_of_the_slice_is_foretold(host: EngineHost, controller: str) -> None:
    """Where systemd starts the guest, a check is not in the group that the guest will run in."""
    block = {"id": "ram0", "size": "64M", "backing": "memfd"}
    if controller == "hugetlb":
        block = host.block("g", backing="hugetlbfs", page_size="2M", directory=str(huge_pages(host, 40) / "g"))
    host.define(host.heartbeat("g", memory={"blocks": [block]}))
    host.configure(manager="systemd")
    names = ("memory.max", "memory.limit_in_bytes", "hugetlb.2MB.max", "hugetlb.2MB.limit_in_bytes")
    with pool_lock(), limited_slice(host, controller, dict.fromkeys(names, str(32 * MIB))):
        refuses(host.refused("start", "--check", "g"), "needs 64M, its control group may have 32M", "/machine.slice/")
    assert host.one("start", "--check", "g")["changed"]
