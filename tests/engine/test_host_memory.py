# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module host_memory_info tells of the real host and of real QEMUs, held against what can be seen without it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.cgroups import hierarchy
from support.engine import EngineHost
from support.host import QEMU_TREES, USER
from support.huge_page_pool import HugePagePool, fill, huge_page_pool, reserved
from support.materials import huge_pages, small_tmpfs
from support.modules import run_module
from support.qmp import QmpSession
from support.sound import assert_alive

MIB = 1 << 20
PAGE = os.sysconf("SC_PAGE_SIZE")
HUGE = 2 * MIB
RAM = 64 * MIB
TOUCHED = 16 * MIB  # what the heartbeat guest fills
_BLOCK = re.compile(r"^\s*(\S+)\s+\d+ [KMG]iB\s+0x[0-9a-f]+\s+0x[0-9a-f]+\s+0x([0-9a-f]+)", re.M)


def asked(host: EngineHost, *subset: str, check: bool = False) -> dict[str, Any]:
    """The module's result: these parts, or all."""
    arguments: dict[str, Any] = {"config": str(host.config)}
    if subset:
        arguments["gather_subset"] = list(subset)
    result = run_module("host_memory_info", check=check, **arguments)
    assert not result["changed"]
    assert "failed" not in result, result
    assert result["warnings"] == [f"{item['subject']}: {item['reason']}" for item in result["left_out"]]
    return result


def of_process(host: EngineHost, pid: int, *subset: str) -> dict[str, Any]:
    """What is told of one QEMU; nothing of it may be left out."""
    result = asked(host, "processes", *subset)
    assert not [item for item in result["left_out"] if str(pid) in item["subject"]]
    (found,) = [item for item in result["processes"] if item["pid"] == pid]
    return dict(found)


def holdings(process: dict[str, Any]) -> dict[tuple[str, int], dict[str, Any]]:
    """By kind and page size, without what is QEMU's own: its heap, stacks and code, and the kernel image that it reads."""
    rows = [row for row in process["memory"] if row["kind"] not in ("anonymous", "file")]
    for row in rows:
        assert sum(node["present"] for node in row["nodes"]) == (row["present"] or 0)
        assert (row["present"] or 0) <= row["mapped"]
    return {(row["kind"], row["page_size"]): row for row in rows}


def mapped(process: dict[str, Any]) -> dict[tuple[str, int], int]:
    return {key: row["mapped"] for key, row in holdings(process).items()}


def other_blocks(qmp: QmpSession) -> int:
    """Bytes of all RAM but the guest's own, by QEMU's word: VRAM, firmware, ACPI tables. With aux-ram-share=on each is a memfd."""
    text = qmp("x-query-ramblock")["human-readable-text"].replace("0x", " 0x")
    blocks = {name: int(total, 16) for name, total in _BLOCK.findall(text)}
    assert blocks.pop("ram0") == RAM
    return sum(-(-total // PAGE) * PAGE for total in blocks.values())


def own(host: EngineHost, name: str) -> tuple[dict[str, Any], int]:
    """What is told of a guest of ours, and its other RAM by QEMU's word."""
    process = of_process(host, host.only_qemu(name))
    assert (process["manager"], process["name"], process["generation"]) == ("hostmem", name, host.generation(name))
    assert process["user"] == USER
    with host.qmp(name) as qmp:
        return process, other_blocks(qmp)


# --- guests of ours


def test_guest_on_tmpfs(host: EngineHost) -> None:
    host.boot("g")
    process, others = own(host, "g")
    assert mapped(process) == {("tmpfs", PAGE): RAM, ("memfd", PAGE): others}
    in_file = host.ram_path("g").stat().st_blocks * 512
    assert TOUCHED <= holdings(process)["tmpfs", PAGE]["present"] <= in_file
    assert process["rss"] > TOUCHED
    assert 0 < process["pss"] <= process["rss"] + MIB


def test_guest_on_huge_pages(host: EngineHost) -> None:
    directory = huge_pages(host, 40)
    block = host.block("g", backing="hugetlbfs", page_size="2M", directory=str(directory / "g"))
    host.boot("g", memory={"blocks": [block]})
    process, others = own(host, "g")
    assert mapped(process) == {("hugetlbfs", HUGE): RAM, ("memfd", PAGE): others}
    row = holdings(process)["hugetlbfs", HUGE]
    in_file = host.ram_path("g").stat().st_blocks * 512
    assert row["present"] == in_file >= TOUCHED
    assert [node["node"] for node in row["nodes"]] == [0]
    (mount,) = [item for item in asked(host, "mounts")["mounts"] if item["point"] == str(directory)]
    state = os.statvfs(directory)
    assert (mount["type"], mount["page_size"], mount["size"]) == ("hugetlbfs", HUGE, 80 * MIB)
    assert mount["free"] == mount["available"] == state.f_bfree * HUGE == 80 * MIB - RAM  # reserved by the mapping


@pytest.mark.parametrize("size", [PAGE, HUGE], ids=["small", "huge"])
def test_guest_on_memfd(host: EngineHost, size: int) -> None:
    block = {"id": "ram0", "size": "64M", "backing": "memfd"}
    if size == HUGE:
        huge_pages(host, 40)
        block["page_size"] = "2M"
    host.boot("g", memory={"blocks": [block]})
    process, others = own(host, "g")
    if size == HUGE:
        assert mapped(process) == {("memfd", HUGE): RAM, ("memfd", PAGE): others}
        assert holdings(process)["memfd", HUGE]["present"] == host.ram_path("g").stat().st_blocks * 512
    else:
        assert mapped(process) == {("memfd", PAGE): RAM + others}


def test_guest_on_a_file(host: EngineHost) -> None:
    """The kernel image that QEMU reads is a private mapping of a file, too."""
    directory = host.root / "ram"
    host.boot("g", memory={"blocks": [host.block("g", backing="file", directory=str(directory))]})
    process, _others = own(host, "g")
    (row,) = [row for row in process["memory"] if row["kind"] == "file"]
    assert RAM <= row["mapped"] < RAM + 2 * MIB
    assert row["present"] >= TOUCHED


def test_the_qemu_that_a_guest_runs(host: EngineHost) -> None:
    page = host.boot("g")
    before = of_process(host, host.only_qemu("g"), "qemus")["qemu"]
    real = str(QEMU_TREES / "10.0" / "usr" / "bin" / "qemu-system-x86_64")
    assert (before["path"], before["deleted"], before["installed_as"]) == (real, False, host.qemu)
    assert before["version"].startswith("10.0.")
    host.install("11.1")
    result = asked(host, "qemus", "processes")
    (qemu,) = [item for item in result["qemus"] if item["guests"]]
    assert (qemu["path"], qemu["guests"], qemu["present"]) == (host.qemu, ["g"], True)
    assert (qemu["version"][:5], qemu["package"].split()[0]) == ("11.1.", "Debian")
    assert qemu["machines"]["newest"] == {"pc": "pc-i440fx-11.1", "q35": "pc-q35-11.1"}
    assert 0 < qemu["machines"]["deprecated"] < qemu["machines"]["count"]
    assert qemu["migration_modes"] == ["normal", "cpr-reboot", "cpr-transfer", "cpr-exec"]
    assert {"postcopy-ram", "multifd", "x-ignore-shared"} <= set(qemu["migration_capabilities"])
    assert qemu["aux_ram_share"] is True
    (process,) = [item for item in result["processes"] if item["pid"] == host.only_qemu("g")]
    assert (process["qemu"]["path"], process["qemu"]["installed_as"]) == (real, None)
    assert_alive(page)


def test_a_qemu_that_is_none(host: EngineHost) -> None:
    """It keeps nothing else from being told."""
    host.define(host.heartbeat("g"))
    host.install_file("#!/bin/sh\necho no such thing >&2\nexit 1\n")
    result = asked(host, "qemus", "numa_nodes")
    assert result["left_out"][0]["subject"] == f"qemus: {host.qemu}"
    assert "no such thing" in result["left_out"][0]["reason"]
    assert result["numa_nodes"]
    (qemu,) = [item for item in result["qemus"] if item["guests"]]
    assert "version" not in qemu


# --- QEMUs of others


@contextlib.contextmanager
def bare_qemu(*words: str, binary: Path | None = None, before: tuple[str, ...] = ()) -> Iterator[int]:
    """A QEMU without a guest that nobody manages, until the end of the test; its PID once its memory is there."""
    program = binary or QEMU_TREES / "11.1" / "usr" / "bin" / "qemu-system-x86_64"
    machine = (
        "-machine",
        "q35,memory-backend=m",
        "-m",
        "64M",
        "-nodefaults",
        "-display",
        "none",
        "-S",
        "-monitor",
        "stdio",
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([*before, program, *machine, *words], stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            assert "monitor" in process.stdout.readline()  # it greets when it is set up
            yield process.pid
        finally:
            process.kill()


def test_bare_qemu_on_tmpfs(host: EngineHost) -> None:
    directory = host.root / "own"
    small_tmpfs(host, directory, "size=100M")
    memory = f"memory-backend-file,id=m,size=64M,share=on,prealloc=on,mem-path={directory}/ram"
    with bare_qemu("-object", memory, "-name", "bare", before=("prlimit", f"--memlock={MIB}:{2 * MIB}")) as pid:
        process = of_process(host, pid)
        assert (process["manager"], process["name"], process["user"]) == ("other", "bare", "root")
        assert "generation" not in process
        row = holdings(process)["tmpfs", PAGE]
        assert row["mapped"] == row["present"] == RAM == (directory / "ram").stat().st_blocks * 512
        assert process["memlock"] == {"soft": MIB, "hard": 2 * MIB}
        (mount,) = [item for item in asked(host, "mounts")["mounts"] if item["point"] == str(directory)]
        assert (mount["size"], mount["free"], mount["hidden"]) == (100 * MIB, 36 * MIB, False)
        (directory / "ram").unlink()
        assert holdings(of_process(host, pid))["tmpfs", PAGE]["mapped"] == RAM  # the memory is still held
        small_tmpfs(host, directory, "size=1M")
        both = [item for item in asked(host, "mounts")["mounts"] if item["point"] == str(directory)]
        assert [item["hidden"] for item in both] == [True, False]
        assert ("size" in both[0], both[1]["size"]) == (False, MIB)


def test_bare_qemu_whose_huge_pages_are_untouched(host: EngineHost) -> None:
    """They are only promised to it, and still are huge."""
    directory = huge_pages(host, 64)
    file = f"memory-backend-file,id=m,size=64M,share=on,mem-path={directory}/ram"
    with bare_qemu("-object", file, "-object", "memory-backend-memfd,id=n,size=32M,hugetlb=on,hugetlbsize=2M") as pid:
        rows = holdings(of_process(host, pid))
        assert {key: (row["mapped"], row["present"]) for key, row in rows.items()} == {
            ("hugetlbfs", HUGE): (RAM, 0),
            ("memfd", HUGE): (RAM // 2, 0),
        }


@pytest.mark.parametrize("share", ["on", "off"])
def test_bare_qemu_without_a_file(host: EngineHost, share: str) -> None:
    with bare_qemu("-object", f"memory-backend-ram,id=m,size=64M,share={share},prealloc=on") as pid:
        process = of_process(host, pid)
        assert (process["manager"], process["name"]) == ("other", "")
        rows = [row for row in process["memory"] if row["kind"] in ("memfd", "anonymous")]
        assert sum(row["present"] for row in rows) >= RAM
        assert ("memfd" in {row["kind"] for row in rows}) == (share == "on")


def test_bare_qemu_whose_binary_is_gone(host: EngineHost) -> None:
    tree, copy = QEMU_TREES / "11.1" / "usr", host.root / "copy"
    (copy / "bin").mkdir(parents=True)
    for name in ("lib", "share"):  # it finds them by its own place
        (copy / name).symlink_to(tree / name)
    binary = copy / "bin" / "qemu-system-x86_64"
    shutil.copy(tree / "bin" / binary.name, binary)
    with bare_qemu("-object", "memory-backend-memfd,id=m,size=64M", binary=binary) as pid:
        assert of_process(host, pid)["qemu"] == {
            "path": str(binary),
            "deleted": False,
            "installed_as": None,
            "version": None,
            "package": None,
        }
        binary.unlink()
        found = of_process(host, pid)
        assert (found["qemu"]["path"], found["qemu"]["deleted"]) == (str(binary), True)
        assert mapped(found)["memfd", PAGE] == RAM


def libvirts_words(directory: Path, memory: str) -> list[str]:
    """Arguments as libvirt 11 lays them out, with the domain's directory elsewhere; there is no libvirt here, only its words."""
    domain = directory / "libvirt" / "qemu" / "domain-3-web,1"
    domain.mkdir(parents=True)
    (domain / "master-key.aes").write_bytes(bytes(32))
    secret = {"qom-type": "secret", "id": "masterKey0", "format": "raw", "file": str(domain / "master-key.aes")}
    backend = {
        "qom-type": "memory-backend-file",
        "id": "m",
        "mem-path": memory,
        "share": True,
        "prealloc": True,
        "size": RAM,
    }
    return [
        *("-name", "guest=web,,1,debug-threads=on"),
        *("-object", json.dumps(secret)),
        *("-object", json.dumps({**backend, "x-use-canonical-path-for-ramblock-id": False})),
        *("-chardev", f"socket,id=charmonitor,path={str(domain).replace(',', ',,')}/monitor.sock,server=on,wait=off"),
        *("-mon", "chardev=charmonitor,id=monitor,mode=control"),
    ]


def test_qemu_with_libvirts_arguments(host: EngineHost) -> None:
    directory = huge_pages(host, 32)
    with bare_qemu(*libvirts_words(host.root, f"{directory}/3-web,1")) as pid:
        process = of_process(host, pid)
        assert (process["manager"], process["name"]) == ("libvirt", "web,1")
        row = holdings(process)["hugetlbfs", HUGE]
        assert row["mapped"] == row["present"] == RAM
        assert row["nodes"] == [{"node": 0, "present": RAM}]


def test_ended_qemus_are_not_told(host: EngineHost) -> None:
    with bare_qemu("-object", "memory-backend-ram,id=m,size=64M") as pid:
        of_process(host, pid)
    assert pid not in [item["pid"] for item in asked(host, "processes")["processes"]]


# --- the host


@pytest.fixture(name="pool")
def fixture_pool() -> Iterator[HugePagePool]:
    with huge_page_pool() as pool:
        yield pool


def in_sysfs() -> dict[str, Any]:
    """Every pool, by the names of sysfs."""
    found = {}
    for directory in sorted(Path("/sys/kernel/mm/hugepages").iterdir()):
        found[directory.name] = {file.name: int(file.read_text()) for file in directory.glob("*_hugepages")}
        for node in sorted(Path("/sys/devices/system/node").glob(f"node*/hugepages/{directory.name}")):
            found[str(node)] = {file.name: int(file.read_text()) for file in node.glob("*_hugepages")}
    return found


def test_pools_are_those_of_sysfs(host: EngineHost, pool: HugePagePool) -> None:
    """Free pages may be taken and given back by others meanwhile: then it is asked again."""
    pool.add(6)
    place = pool.mount()
    fill(place / "file", 2)
    with reserved(place / "promised", 3):
        for _attempt in range(20):
            before, told = in_sysfs(), asked(host, "huge_pages")["huge_pages"]
            if in_sysfs() == before:
                break
            time.sleep(0.5)
    assert f"Hugepagesize: {told['default_page_size'] // 1024:>10} kB\n" in Path("/proc/meminfo").read_text()
    assert len(told["pools"]) == len(list(Path("/sys/kernel/mm/hugepages").iterdir()))
    for item in told["pools"]:
        name = f"hugepages-{item['page_size'] // 1024}kB"
        whole = before[name]
        keys = {"nr": "nr", "free": "free", "reserved": "resv", "surplus": "surplus", "overcommit": "nr_overcommit"}
        assert {key: item[key] for key in keys} == {key: whole[f"{file}_hugepages"] for key, file in keys.items()}
        for node in item["nodes"]:
            here = before[f"/sys/devices/system/node/node{node['node']}/hugepages/{name}"]
            assert (node["nr"], node["free"]) == (here["nr_hugepages"], here["free_hugepages"])
            assert (node["used"], node["surplus"]) == (node["nr"] - node["free"], here["surplus_hugepages"])
    assert [item["reserved"] >= 3 for item in told["pools"] if item["page_size"] == HUGE] == [True]


def test_memory_of_the_host(host: EngineHost) -> None:
    memory = asked(host, "memory")["memory"]
    assert memory["total"] == os.sysconf("SC_PHYS_PAGES") * PAGE
    assert 0 < memory["free"] < memory["total"]
    assert 0 < memory["available"] < memory["total"]
    directory = host.root / "shared"
    small_tmpfs(host, directory, "size=512M")
    with (directory / "file").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 500 * MIB)
    assert asked(host, "memory")["memory"]["shared"] > memory["shared"] + 250 * MIB  # others give some back meanwhile


def test_nodes(host: EngineHost) -> None:
    nodes = asked(host, "numa_nodes")["numa_nodes"]
    cpus = sorted(cpu for node in nodes for cpu in node["cpus"])
    assert cpus == [cpu for cpu in range(os.cpu_count() or 0) if Path(f"/sys/devices/system/cpu/cpu{cpu}").exists()]
    for node in nodes:
        assert node["distances"][[item["node"] for item in nodes].index(node["node"])] == 10
        text = Path(f"/sys/devices/system/node/node{node['node']}/meminfo").read_text()
        if node["memory"] is None:
            assert re.search(r"MemTotal:\s+0 kB", text)
        else:
            assert f" {node['memory']['total'] // 1024} kB" in text.splitlines()[0]
            assert 0 < node["memory"]["free"] <= node["memory"]["available"] <= node["memory"]["total"]


def can_open(path: str, user: str) -> bool:
    """Tried by a shell that is the user."""
    words = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "sh", "-c", f"exec 3<>{path}"]
    return subprocess.run(words, stderr=subprocess.DEVNULL, check=False).returncode == 0


@pytest.mark.parametrize("user", [USER, "root"])
@pytest.mark.parametrize("name", ["kvm", "userfaultfd"])
def test_what_qemus_user_may_open(host: EngineHost, name: str, user: str) -> None:
    host.configure(user=user, group=user)
    told = asked(host, name)[name]
    path = Path("/dev") / name
    assert (told["path"], told["present"]) == (str(path), path.is_char_device())
    if told["present"]:
        assert (told["mode"], told["owner"], told["group"]) == (
            f"{path.stat().st_mode & 0o7777:04o}",
            path.owner(),
            path.group(),
        )
        assert (told["user"], told["usable"]) == (user, can_open(str(path), user))
        assert told["usable"] == (told["problem"] == "")
        assert told["unit_allows"] is None  # guests of this host are no units
        if name == "kvm":
            assert told["api_version"] == 12
    if name == "userfaultfd":
        assert told["unprivileged"] == (Path("/proc/sys/vm/unprivileged_userfaultfd").read_text() == "1\n")


def test_limits_of_the_session(host: EngineHost) -> None:
    soft, hard = (None if value == -1 else value for value in resource.getrlimit(resource.RLIMIT_MEMLOCK))
    limits = asked(host, "limits")["limits"]
    assert (limits["memlock"], limits["unit"]) == ({"soft": soft, "hard": hard}, None)


def test_limits_of_control_groups(host: EngineHost) -> None:
    """A group as of a guest's unit, in the machine's own hierarchy."""
    root = hierarchy("memory")
    assert root is not None
    control = Path(root) / "cgroup.subtree_control"
    if control.exists():
        control.write_text("+memory")
    group = Path(root) / f"hostmem-guest@{host.root.name}.service"
    group.mkdir()
    host.later.callback(group.rmdir)
    file = next(path for path in (group / "memory.max", group / "memory.limit_in_bytes") if path.exists())
    file.write_text(str(RAM))
    (found,) = [item for item in asked(host, "limits")["limits"]["cgroups"] if item["cgroup"] == f"/{group.name}"]
    assert found == {"cgroup": f"/{group.name}", "file": str(file), "limits": "memory", "limit": RAM, "usage": 0}


def test_settings_of_the_kernel(host: EngineHost) -> None:
    kernel = asked(host, "kernel")["kernel"]
    directory = Path("/sys/kernel/mm/transparent_hugepage")
    for name in ("enabled", "shmem_enabled", "defrag"):
        assert f"[{kernel['transparent_huge_pages'][name]}]" in (directory / name).read_text()
    assert kernel["overcommit"]["memory"] == int(Path("/proc/sys/vm/overcommit_memory").read_text())
    assert kernel["ksm"]["running"] == (Path("/sys/kernel/mm/ksm/run").read_text() == "1\n")
    assert kernel["release"] == os.uname().release


def test_everything_at_once(host: EngineHost) -> None:
    """Also in check mode, on a host that nobody prepared, and with a definition that cannot be read."""
    whole = asked(host)
    assert set(whole) >= {
        "numa_nodes",
        "huge_pages",
        "mounts",
        "pmem",
        "userfaultfd",
        "kvm",
        "kernel",
        "limits",
        "qemus",
        "processes",
    }
    assert set(asked(host, check=True)) == set(whole)
    Path(host.settings["definitions"]).mkdir(exist_ok=True)
    (Path(host.settings["definitions"]) / "g9.json").write_text("{")
    broken = asked(host, "qemus", "numa_nodes")
    assert [item["subject"] for item in broken["left_out"]] == ["qemus: that of guest g9"]
    host.config.unlink()
    bare = asked(host, "kvm", "userfaultfd", "limits", "qemus", "processes")
    assert bare["left_out"][0]["subject"] == "config"
    assert bare["kvm"].get("usable") is None


def test_without_root(host: EngineHost) -> None:
    """What can be had is told: of one's own QEMUs everything, of others' that they run."""
    ours = of_process(host, _started(host, "g"))
    with bare_qemu("-object", "memory-backend-ram,id=m,size=64M", "-name", "foreign") as pid:
        result = unprivileged(host)
        assert ("processes: the memory of other users' QEMUs", "only root may see it; set become to true") in [
            (item["subject"], item["reason"]) for item in result["left_out"]
        ]
        by_pid = {item["pid"]: item for item in result["processes"]}
        assert mapped(by_pid[ours["pid"]]) == mapped(ours)
        assert (by_pid[ours["pid"]]["manager"], by_pid[ours["pid"]]["name"]) == ("hostmem", "g")
        assert (by_pid[pid]["name"], by_pid[pid]["user"], "memory" in by_pid[pid]) == ("foreign", "root", False)
        assert result["huge_pages"]["pools"]
        assert result["kvm"]["usable"] == (can_open("/dev/kvm", USER) if result["kvm"]["present"] else None)


def _started(host: EngineHost, name: str) -> int:
    host.boot(name)
    return host.only_qemu(name)


def unprivileged(host: EngineHost) -> dict[str, Any]:
    """The engine's report as QEMU's user gets it: what that may read is copied to where it can."""
    collections = host.root / "collections"
    place = collections / "ansible_collections" / "hostmem" / "qemu" / "plugins"
    shutil.copytree(
        Path(__file__).resolve().parents[2] / "plugins", place, ignore=shutil.ignore_patterns("__pycache__")
    )
    code = (
        "import json, sys\n"
        "from ansible_collections.hostmem.qemu.plugins.module_utils._memory.information import SUBSETS, host_memory\n"
        "print(json.dumps(host_memory(sys.argv[1], SUBSETS)))\n"
    )
    words = [
        "setpriv",
        f"--reuid={USER}",
        f"--regid={USER}",
        "--init-groups",
        "/usr/bin/python3",
        "-B",
        "-c",
        code,
        str(host.config),
    ]
    done = subprocess.run(
        words, env={"PYTHONPATH": str(collections)}, capture_output=True, text=True, check=False, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))
