# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What others configured for pools of huge pages at boot: sysctl.d, tmpfiles.d, boot parameters. Read only, never written."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .own_files import HEADER

# sysctl.d(5) and tmpfiles.d(5); a file in an earlier directory hides one of the same name in a later one.
_LAYERS = ("/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib")
_SYSCTL = re.compile(r"\s*-?\s*vm[./](nr_hugepages|nr_hugepages_mempolicy|nr_overcommit_hugepages)\s*=")
_POOL_FILE = re.compile(r"/(?:node/node(\d+)/)?hugepages/hugepages-(\d+)kB/(nr_hugepages|nr_overcommit_hugepages)\b")
_PROC_FILE = re.compile(r"/proc/sys/vm/(nr_hugepages|nr_hugepages_mempolicy|nr_overcommit_hugepages)\b")
_GRUB = re.compile(r"\s*(?:export\s+)?GRUB_CMDLINE_LINUX(_DEFAULT)?\+?=(.*)")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True)
class PoolSetting:
    """A line that sets a pool; ``node`` None: the whole host's. ``overcommit``: not the pool, but its limit of surplus pages."""

    file: str
    line: int
    text: str
    page_size: int
    node: int | None = None
    overcommit: bool = False
    boot: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {"file": self.file, "line": self.line, "text": self.text}


@dataclass(frozen=True)
class BootPool:
    """``hugepagesz=SIZE hugepages=COUNT``: pages by node, or for the whole host (None)."""

    page_size: int
    pages: dict[int | None, int]


def pool_settings(default_size: int, root: str = "", ours: Sequence[str] = ()) -> list[PoolSetting]:
    """All lines of others that set pools at boot.

    :param default_size: of huge pages, in bytes; it is what vm.nr_hugepages speaks of.
    :param root: put before all paths.
    :param ours: groups of words on the running kernel's command line that are ours.
    """
    found = list(_sysctl(default_size, root))
    found += _tmpfiles(default_size, root)
    configured = list(_boot_files(default_size, root, ours))
    known = {item.page_size for item in configured}
    running = _boot_line(f"{root}/proc/cmdline", 1, _read(f"{root}/proc/cmdline").strip(), default_size, ours)
    return found + configured + [item for item in running if item.page_size not in known]


def _sysctl(default_size: int, root: str) -> Iterator[PoolSetting]:
    files = [f"{root}/etc/sysctl.conf", *_layered(root, "sysctl.d")]
    seen = set()
    for path in files:
        if os.path.realpath(path) in seen:  # Debian links /etc/sysctl.d/99-sysctl.conf
            continue
        seen.add(os.path.realpath(path))
        for number, line in _lines(path):
            match = _SYSCTL.match(line)
            if match:
                overcommit = "overcommit" in match.group(1)
                yield PoolSetting(path, number, line.strip(), default_size, overcommit=overcommit)


def _tmpfiles(default_size: int, root: str) -> Iterator[PoolSetting]:
    for path in _layered(root, "tmpfiles.d"):
        for number, line in _lines(path):
            if not line.startswith(("w", "f", "F")):
                continue
            match, proc = _POOL_FILE.search(line), _PROC_FILE.search(line)
            if match:
                node = int(match.group(1)) if match.group(1) else None
                overcommit = "overcommit" in match.group(3)
                yield PoolSetting(path, number, line.strip(), int(match.group(2)) * 1024, node, overcommit)
            elif proc:
                overcommit = "overcommit" in proc.group(1)
                yield PoolSetting(path, number, line.strip(), default_size, overcommit=overcommit)


def _boot_files(default_size: int, root: str, ours: Sequence[str]) -> Iterator[PoolSetting]:
    drop_ins = sorted(glob.glob(f"{root}/etc/default/grub.d/*.cfg"))
    for path in [f"{root}/etc/default/grub", *drop_ins, f"{root}/etc/kernel/cmdline"]:
        for number, line in _lines(path):
            yield from _boot_line(path, number, line.strip(), default_size, ours)


def later_bare_counts(ours: str) -> list[PoolSetting]:
    """``hugepages=`` without a size before it, in what GRUB puts after our words.

    The kernel would take such a number for our page size, and ignore it as given twice (hugepages_setup() in mm/hugetlb.c).
    GRUB_CMDLINE_LINUX_DEFAULT comes after GRUB_CMDLINE_LINUX as a whole (/etc/grub.d/10_linux).

    :param ours: path of our file in /etc/default/grub.d.
    """
    directory = os.path.dirname(ours)
    found = []
    for path in [directory[: -len(".d")], *sorted(glob.glob(f"{directory}/*.cfg"))]:
        for number, line in _lines(path):
            match = _GRUB.match(line)
            if match and (match.group(1) or path > ours) and _first_is_bare(match.group(2)):
                found.append(PoolSetting(path, number, line.strip(), 0, boot=True))
    return found


def _first_is_bare(value: str) -> bool:
    keys = [word.partition("=")[0] for word in re.split("[\\s\"']+", value)]
    first = next((key for key in keys if key in ("hugepages", "hugepagesz", "default_hugepagesz")), "")
    return first == "hugepages"


def _boot_line(path: str, number: int, line: str, default_size: int, ours: Sequence[str]) -> Iterator[PoolSetting]:
    text = line
    for group in ours:
        text = text.replace(group, "")
    for item in parse_boot_pools(re.sub("[\"'=]?[\"']", " ", text), default_size):
        for node in item.pages:
            yield PoolSetting(
                path, number, line if len(line) <= 200 else line[:197] + "...", item.page_size, node, boot=True
            )


def parse_boot_pools(text: str, default_size: int) -> list[BootPool]:
    """The pools that a kernel command line asks for (hugepages_setup() in mm/hugetlb.c).

    >>> parse_boot_pools("quiet hugepagesz=1G hugepages=0:1,1:2", 2 << 20)
    [BootPool(page_size=1073741824, pages={0: 1, 1: 2})]
    """
    found = []
    current = default_size
    for word in text.split():
        key, _equals, value = word.partition("=")
        if key in ("default_hugepagesz", "hugepagesz"):
            current = parse_memory_size(value)
        elif key == "hugepages":
            found.append(BootPool(current, _pages(value)))
    return found


def _pages(value: str) -> dict[int | None, int]:
    pages: dict[int | None, int] = {}
    for part in value.split(","):
        node, colon, count = part.rpartition(":")
        if count.isdigit() and (node.isdigit() or not colon):
            pages[int(node) if colon else None] = int(count)
    return pages


def parse_memory_size(text: str) -> int:
    """Bytes of a size as the kernel reads it (memparse() in lib/cmdline.c); 0 for what it does not understand."""
    number, unit = text.rstrip("KMGTkmgt"), text[len(text.rstrip("KMGTkmgt")) :].upper()
    return int(number) * _UNITS.get(unit, 1) if number.isdigit() else 0


def _layered(root: str, name: str) -> list[str]:
    found: dict[str, str] = {}
    for layer in _LAYERS:
        for path in sorted(glob.glob(f"{root}{layer}/{name}/*.conf")):
            found.setdefault(os.path.basename(path), path)
    return [found[key] for key in sorted(found)]


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """Numbered lines without comments; none of a file of ours."""
    text = _read(path)
    if not text.startswith(HEADER):
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip() and not line.lstrip().startswith(("#", ";")):
                yield number, line


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""
