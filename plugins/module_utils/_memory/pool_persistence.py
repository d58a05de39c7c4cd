# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pools that come back at each boot: lines of ours in tmpfiles.d, or boot parameters for pages that only a boot can be trusted to find."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .._guest.sizes import format_size
from .._host.boot_means import BootMeans, find_means, how_to_have_means, our_groups
from .._host.boot_parameters import check_words, grubby_words, set_groups
from .._host.errors import Refused
from .._host.files import remove_file, write_text
from .._host.hugepages import gigantic, node_directory, pool_directory
from .._host.own_files import HEADER, read_own
from .._host.pool_settings import later_bare_counts, parse_boot_pools
from .._host.programs import find_program, required
from .._host.unit_files import require_systemd, unit_path
from .pool_check_unit import UNIT, apply_check_unit, current_unit, wanted_unit

TMPFILES = "/etc/tmpfiles.d/hostmem-hugepages.conf"
NAME = "hostmem-hugepages"
_LINE = re.compile(r"w! (\S+) - - - - (\d+)")


@dataclass(frozen=True)
class PersistentPools:
    """What is configured for boots, of ours.

    ``files``: numbers by file of the kernel, written by systemd-tmpfiles. ``boot``: pages by page size and node. ``unit``: the text of the unit that
    looks whether the kernel granted them.
    """

    files: Mapping[str, int]
    boot: Mapping[int, Mapping[int, int]]
    unit: str = ""

    def pages(self, page_size: int, node: int) -> int:
        """Pages that our configuration gives a node at boot."""
        return self.files.get(_node_file(page_size, node)) or self.boot.get(page_size, {}).get(node, 0)

    @property
    def by_directory(self) -> dict[str, int]:
        """Pages by directory of a pool of a node, whichever way they are asked for."""
        boot = {
            node_directory(size, node): pages for size, counts in self.boot.items() for node, pages in counts.items()
        }
        files = {
            os.path.dirname(path): pages
            for path, pages in self.files.items()
            if os.path.basename(path) == "nr_hugepages"
        }
        return {**boot, **files}

    def as_dict(self) -> dict[str, Any]:
        """For results; configured_in() reads it."""
        boot = [
            {"page_size": size, "node": node, "pages": pages}
            for size, counts in self.boot.items()
            for node, pages in counts.items()
        ]
        return {"files": dict(self.files), "boot": boot, "unit": self.unit}


def configured_in(data: Mapping[str, Any]) -> PersistentPools:
    """What as_dict() gave.

    :raises KeyError, TypeError, ValueError: it is something else.
    """
    boot: dict[int, dict[int, int]] = {}
    for item in data["boot"]:
        boot.setdefault(int(item["page_size"]), {})[int(item["node"])] = int(item["pages"])
    files = {str(path): int(number) for path, number in data["files"].items()}
    return PersistentPools(files, boot, str(data["unit"]))


@dataclass(frozen=True)
class PersistencePlan:
    """How our configuration changes. ``kind`` is tmpfiles, boot or none; ``provided`` says that the running command line has the pools."""

    kind: str
    before: PersistentPools
    after: PersistentPools
    means: BootMeans | None
    single_node: bool
    provided: bool = False
    tmpfiles: str = TMPFILES

    @property
    def changed(self) -> bool:
        return self.before != self.after

    def groups(self, pools: PersistentPools) -> list[str]:
        """Groups of boot parameters, one for each page size."""
        return [boot_words(size, pools.boot[size], self.single_node) for size in sorted(pools.boot)]

    def diff(self) -> dict[str, dict[str, Any]]:
        """Before and after by those of our files that change, for --diff."""
        sides: dict[str, dict[str, Any]] = {"before": {}, "after": {}}
        for side, pools in (("before", self.before), ("after", self.after)):
            if self.before.files != self.after.files:
                sides[side][self.tmpfiles] = tmpfiles_text(pools.files)
            if self.means and self.before.boot != self.after.boot:
                groups = self.groups(pools)
                sides[side][self.means.file] = self.means.text(groups) if groups else ""
            if self.before.unit != self.after.unit:
                sides[side][unit_path(UNIT)] = pools.unit
        return sides


def _node_file(page_size: int, node: int) -> str:
    return f"{node_directory(page_size, node)}/nr_hugepages"


def _overcommit_file(page_size: int) -> str:
    return f"{pool_directory(page_size)}/nr_overcommit_hugepages"


def boot_words(page_size: int, counts: Mapping[int, int], single_node: bool) -> str:
    """Boot parameters (Documentation/admin-guide/kernel-parameters.txt); by node since Linux 5.16, so not where there is but one.

    >>> boot_words(1 << 30, {0: 1, 1: 2}, False)
    'hugepagesz=1G hugepages=0:1,1:2'
    """
    by_node = ",".join(f"{node}:{counts[node]}" for node in sorted(counts))
    pages = sum(counts.values()) if single_node else by_node
    return f"hugepagesz={format_size(page_size)} hugepages={pages}"


def tmpfiles_text(files: Mapping[str, int]) -> str:
    """Our file for systemd-tmpfiles; ``!``: only at boot, never when somebody runs systemd-tmpfiles --create later."""
    if not files:
        return ""
    lines = [f"w! {path} - - - - {files[path]}" for path in sorted(files)]
    return "\n".join([f"{HEADER} (module hugepages)", *lines]) + "\n"


def persistent_pools(means: BootMeans | None, nodes: Sequence[int], tmpfiles: str = TMPFILES) -> PersistentPools:
    """What is configured now, of ours.

    :param nodes: of the host.
    :raises Refused: a file of our name is not ours.
    """
    boot: dict[int, dict[int, int]] = {}
    for group in our_groups(means) if means else []:
        for item in parse_boot_pools(group, 0):
            boot[item.page_size] = {nodes[0] if node is None else node: pages for node, pages in item.pages.items()}
    return PersistentPools(_read_tmpfiles(tmpfiles), boot)


def _read_tmpfiles(path: str) -> dict[str, int]:
    matches = [_LINE.fullmatch(line) for line in (read_own(path) or "").split("\n")]
    return {match.group(1): int(match.group(2)) for match in matches if match}


def choose(persist: str, page_size: int) -> str:
    """The means that fits the size, where the user leaves it open."""
    if persist != "auto":
        return persist
    return "boot" if gigantic(page_size) else "tmpfiles"


def plan_persistence(
    kind: str,
    page_size: int,
    counts: Mapping[int, int],
    overcommit: int | None,
    nodes: Sequence[int],
    foreseen: PersistentPools | None = None,
) -> PersistencePlan:
    """What it takes that the nodes have so many pages at each boot. Other nodes and sizes keep what they have.

    :param kind: tmpfiles, boot, or none (of ours).
    :param overcommit: limit of surplus pages for each boot; None leaves what there is.
    :param nodes: all of the host.
    :param foreseen: what tasks before would have configured, in check mode.
    :raises Refused: there is no such means on this host.
    """
    means = find_means(NAME)
    before = foreseen or replace(persistent_pools(means, nodes), unit=current_unit())
    files, boot = dict(before.files), {size: dict(pages) for size, pages in before.boot.items()}
    mine = boot.setdefault(page_size, {})
    for node, pages in counts.items():
        files.pop(_node_file(page_size, node), None)
        mine.pop(node, None)
        if pages and kind == "tmpfiles":
            files[_node_file(page_size, node)] = pages
        elif pages and kind == "boot":
            mine[node] = pages
    if overcommit is not None:
        files.pop(_overcommit_file(page_size), None)
        if overcommit and kind != "none":
            files[_overcommit_file(page_size)] = overcommit
    after = with_unit(PersistentPools(files, {size: pages for size, pages in boot.items() if pages}))
    plan = PersistencePlan(kind, before, after, means, len(nodes) == 1)
    if after.files != before.files and after.files:
        require_systemd("Setting huge pages at each boot", "Set persist to none, and set them by your own means.")
    if after.unit != before.unit:
        required("systemctl")
    if means and after.boot != before.boot:
        check_words(means)
    return _check_boot(plan, page_size, nodes) if after.boot != before.boot and after.boot else plan


def with_unit(pools: PersistentPools) -> PersistentPools:
    """With the unit that fits them."""
    return replace(pools, unit=wanted_unit(pools.by_directory))


def _check_boot(plan: PersistencePlan, page_size: int, nodes: Sequence[int]) -> PersistencePlan:
    """Words that somebody else has put on the command line already need no means of ours."""
    wanted = plan.after.boot.get(page_size, {})
    words = boot_words(page_size, wanted, plan.single_node)
    if plan.means is None and wanted:
        if running_pools(page_size, nodes) == wanted:
            return replace(plan, after=with_unit(replace(plan.after, boot=plan.before.boot)), provided=True)
        raise Refused(
            f"Huge pages of {format_size(page_size)} cannot be asked for at boot.",
            cause="None of update-grub, grubby and /etc/kernel/cmdline (kernel-install) is on this host to keep boot parameters.",
            cure=f"{how_to_have_means()} Or put {words} on the kernel's command line by your own means{_by_pbl(words)}, or set persist to none.",
        )
    if plan.means and plan.means.kind == "grubby":
        _check_grubby(plan, words)
    if plan.means and plan.means.kind == "grub":
        check_grub(plan.means)
    return plan


def _by_pbl(words: str) -> str:
    """SUSE's tool as a hint only: it edits the user's /etc/default/grub, takes away words of the same name whoever put them there, and knows no
    groups (add-option and del-option of openSUSE/perl-bootloader).
    """
    if find_program("pbl") is None:
        return ""
    return f" ({'; '.join(f'pbl --add-option {word}' for word in words.split())}; pbl --config), and reboot"


def check_grub(means: BootMeans) -> None:
    """Words of ours must not change what those mean that come after them.

    :raises Refused: they would; with file and line.
    """
    others = later_bare_counts(means.file)
    if others:
        raise Refused(
            f"Huge pages are not asked for at boot: {others[0].file}:{others[0].line} has hugepages= without hugepagesz= before it.",
            cause=f"GRUB puts it ({others[0].text}) after the words of {means.file}, so that the kernel would take it for their page size,"
            " and ignore it.",
            cure="Write hugepagesz= with its size before it, or set persist to none.",
        )


def _check_grubby(plan: PersistencePlan, words: str) -> None:
    """grubby replaces arguments of the same name, whoever put them there."""
    others = grubby_words()
    for group in plan.groups(plan.before):
        others = others.replace(group, "")
    if "hugepages=" in others or len(plan.after.boot) > 1:
        raise Refused(
            f"{words} is not put on the kernels' command lines.",
            cause="grubby would replace the parameters hugepagesz and hugepages that are there already.",
            cure="Remove those (grubby --info=ALL shows them), keep one page size by boot parameters, or set persist to none.",
        )


def running_pools(page_size: int, nodes: Sequence[int], path: str = "/proc/cmdline") -> dict[int, int]:
    """Pages by node that the running kernel was asked for at boot; those for the whole host count only where there is one node."""
    with open(path, encoding="utf-8", errors="replace") as file:
        pools = parse_boot_pools(file.read(), 0)
    found: dict[int, int] = {}
    for item in pools:
        if item.page_size == page_size:
            for node, pages in item.pages.items():
                if node is not None or len(nodes) == 1:
                    found[nodes[0] if node is None else node] = pages
    return found


def apply_persistence(plan: PersistencePlan) -> None:
    """Carry it out.

    :raises HostmemError: the boot loader's program failed, or systemctl.
    """
    if plan.after.files != plan.before.files:
        if plan.after.files:
            os.makedirs(os.path.dirname(plan.tmpfiles), mode=0o755, exist_ok=True)
            write_text(plan.tmpfiles, tmpfiles_text(plan.after.files), 0o644)
        else:
            remove_file(plan.tmpfiles)
    if plan.after.boot != plan.before.boot and plan.means:
        set_groups(plan.means, plan.groups(plan.after))
    if plan.after.unit != plan.before.unit:
        apply_check_unit(plan.after.by_directory)
