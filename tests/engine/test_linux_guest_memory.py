# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real Linux guest with RAM of huge pages, or with an NVDIMM, comes through live updates."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from support.engine import EngineHost, wait_until
from support.linux import NAME, LinuxGuest
from support.materials import huge_pages
from support.sound import assert_never_two

RAM_FILE = "qemu_back_mem.0+c000000.ram0"
RECORDS = 20  # few: the guest soon has checked all of them once more
WORKED_ON = 16 << 20  # the guest writes and checks so much all the time


class Mapped(NamedTuple):
    """The mapping of the RAM file in the process of the guest's QEMU, by /proc/PID/smaps."""

    pid: int
    path: str
    inode: int
    permissions: str
    kernel_page_size: str
    huge: int  # bytes of huge pages that this QEMU has touched


def ram(host: EngineHost) -> Mapped:
    """The one mapping of a RAM file in the one QEMU that carries the guest."""
    pid = host.only_qemu(NAME)
    text = Path(f"/proc/{pid}/smaps").read_text()
    blocks = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", text, flags=re.M)
    (block,) = [item for item in blocks if item.split("\n")[0].endswith(f"/{RAM_FILE}")]
    first, *lines = block.splitlines()
    _span, permissions, _offset, _device, inode, path = first.split(maxsplit=5)
    values = {line.split(":")[0]: line.split(":")[1].strip() for line in lines}
    # "Private" counts what only one process maps, also of a shared mapping.
    huge = sum(int(values[f"{kind}_Hugetlb"].split()[0]) << 10 for kind in ("Private", "Shared"))
    return Mapped(pid, path, int(inode), permissions, values["KernelPageSize"], huge)


def test_live_updates_on_huge_pages(host: EngineHost) -> None:
    directory = huge_pages(host, 100) / NAME
    block = {"id": "ram0", "size": "192M", "backing": "hugetlbfs", "page_size": "2M", "directory": str(directory)}
    guest = LinuxGuest(host, 8, memory={"blocks": [block]})
    before = ram(host)
    file = os.stat(before.path)
    assert (before.path, before.inode) == (f"{directory}/{RAM_FILE}", file.st_ino)
    assert (before.permissions, before.kernel_page_size) == ("rw-s", "2048 kB")
    with guest.stream():
        host.install("11.1")
        assert host.one("update", NAME)["to"]["version"].startswith("11.1.")
        guest.wait_for_more("M")
        first = ram(host)
        host.one("update", "--force", NAME)
    guest.assert_whole()
    assert_never_two(host, NAME)
    after = ram(host)
    assert len({before.pid, first.pid, after.pid}) == 3
    for found in (first, after):
        assert found[1:5] == before[1:5]
        assert WORKED_ON <= found.huge <= os.stat(before.path).st_blocks * 512
    host.one("stop", NAME)
    assert not directory.exists()


def last_record(lines: list[str]) -> int:
    """The number of the last record that the guest has written to its NVDIMM and read back."""
    return max((int(line[1:]) for line in lines if re.fullmatch(r"N\d+", line)), default=0)


def test_nvdimm_with_labels(host: EngineHost) -> None:
    """The guest labels it, writes and checks records on its /dev/pmem0 all the time, and knows it again after a cold start."""
    file = host.root / "nv0"
    nvdimm = {"id": "nv0", "path": str(file), "size": "34M", "label_size": "128K"}
    # Without random numbers from the CPU, ndctl waits seconds for some.
    guest = LinuxGuest(host, 9, nvdimms=[nvdimm], cpu={"model": "qemu64,rdrand=on", "count": 1})
    wait_until(lambda: last_record(guest.lines("N")) > RECORDS, "the guest writes nothing to its NVDIMM")
    with guest.stream():
        host.install("11.1")
        host.one("update", NAME)
        guest.wait_for_more("N")
        host.one("update", "--force", NAME)
    guest.assert_whole()
    assert_never_two(host, NAME)
    (made,) = guest.namespaces()
    assert (made["mode"], made["name"], made["blockdev"]) == ("fsdax", "work", "pmem0")
    # The end of the file, by UEFI 2.7, 13.19: index block, and a label with the name.
    labels = file.read_bytes()[-128 << 10 :]
    assert labels.startswith(b"NAMESPACE_INDEX\0")
    assert b"work\0" in labels
    host.one("stop", NAME)
    before = last_record(guest.lines("N"))
    host.one("start", NAME)
    wait_until(lambda: len(guest.lines("ECHO")) == 2, "the guest does not boot again", 120)
    guest.wait_for_more("N")
    assert guest.namespaces() == [made, made]
    assert not guest.lines("NX")
    again = [line for line in guest.lines("") if line.startswith(("BOOT", "N"))]
    assert last_record(again[again.index(guest.lines("BOOT")[1]) :][:2]) >= before
