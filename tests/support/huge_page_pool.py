# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The machine's pool of huge pages for tests: others use it too, so pages are added and given back, and never set."""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.materials import whole_pool
from support.modules import run_module

RECORD = Path("/run/hostmem-hugepages.json")
PAGE = 2 << 20


class HugePagePool:
    """The pool of 2 MiB on node 0, which nobody else changes meanwhile, and a directory for mounts."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.chmod(0o755)  # QEMU's user goes through it
        self.later = contextlib.ExitStack()
        self.start = self.pages()

    @staticmethod
    def pages(name: str = "nr_hugepages", size: int = PAGE) -> int:
        """A number of node 0, as the kernel has it."""
        directory = f"/sys/devices/system/node/node0/hugepages/hugepages-{size // 1024}kB"
        return int(Path(f"{directory}/{name}").read_text())

    @staticmethod
    def whole(name: str, size: int = PAGE) -> int:
        """A number of the whole host."""
        return int(Path(f"/sys/kernel/mm/hugepages/hugepages-{size // 1024}kB/{name}").read_text())

    def with_more(self, pages: int, **arguments: Any) -> dict[str, Any]:
        """Arguments of the module for so many pages more than there were."""
        return {"node": 0, "count": self.start + pages, "persist": "none", **arguments}

    def add(self, pages: int) -> None:
        """Have so many pages more than there were."""
        result = run_module("hugepages", **self.with_more(pages))
        assert "failed" not in result, result

    def mount(self, name: str = "huge", options: str = "pagesize=2M") -> Path:
        """A hugetlbfs of somebody else, until the test's end."""
        place = self.directory / name
        place.mkdir()
        subprocess.run(["mount", "-t", "hugetlbfs", "-o", options, "hostmem-test", str(place)], check=True)
        self.later.callback(self._unmount, place)
        return place

    @staticmethod
    def _unmount(place: Path) -> None:
        if os.path.ismount(place):
            subprocess.run(["umount", "-l", str(place)], check=True)

    def close(self) -> None:
        """Give back what is left, whatever the test did."""
        self.later.close()
        for place in self.directory.iterdir():
            self._unmount(place)
        run_module("hugepages", state="absent", shortfall="warn")
        shutil.rmtree(self.directory)


@contextlib.contextmanager
def huge_page_pool() -> Iterator[HugePagePool]:
    """The pool, while nobody else adds, gives back or uses pages; afterwards it is as it was."""
    with whole_pool():
        pool = HugePagePool(Path(tempfile.mkdtemp(prefix="hm", dir="/tmp")))
        overcommit = pool.whole("nr_overcommit_hugepages")
        try:
            yield pool
        finally:
            pool.close()
        assert pool.pages() == pool.start
        assert pool.whole("nr_overcommit_hugepages") == overcommit


def fill(path: Path, pages: int) -> None:
    """A file with so many pages in it."""
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, pages * PAGE)


def failed_allocation(path: Path, pages: int) -> None:
    """What a program leaves that asked for more pages than there are: a file of size 0 that holds all of them."""
    with path.open("wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, pages * PAGE)
        except OSError:
            return
    raise AssertionError(f"there are {pages} pages")


@contextlib.contextmanager
def reserved(path: Path, pages: int) -> Iterator[None]:
    """Pages that are promised to a mapping and not touched yet."""
    with path.open("w+b") as file:
        file.truncate(pages * PAGE)
        with mmap.mmap(file.fileno(), pages * PAGE):
            yield
