# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of a hugetlbfs mount as a user writes them, as mount(8) takes them, and as the kernel shows them. Pure.

hugetlbfs_show_options() in fs/hugetlbfs/inode.c: ``pagesize`` in K or M (1G is 1024M), ``size`` and ``min_size`` in bytes, rounded down to
pages; what is unlimited is not shown. A percentage was taken of the pool as the mount was made, and is bytes from then on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .._guest.sizes import format_size, parse_size
from .._host.errors import Refused
from .arguments import wrong_argument

_PERCENT = re.compile(r"([0-9]{1,3})\s*%")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

# What others may say besides the options of WantedOptions: files can be mapped and written all the same, and the mount comes at each boot.
# Not among them: ro, noauto, and whatever is unknown.
_HARMLESS = frozenset(
    {"defaults", "auto", "nofail", "_netdev", "nouser", "silent", "loud"}
    | {"rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "async"}
    | {"atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime"}
    | {"symfollow", "nosymfollow"}
)
_TAKEN = frozenset({"pagesize", "size", "min_size", "nr_inodes", "uid", "gid", "mode"})


@dataclass(frozen=True)
class Limit:
    """A limit as it was written: bytes, or a percentage of the pool."""

    size: int = 0
    percent: int | None = None

    def option(self) -> str:
        """For mount(8)."""
        return f"{self.percent}%" if self.percent is not None else str(self.size)

    def effective(self, page_size: int, pool_pages: int) -> int:
        """Bytes that the kernel makes of it (hugetlbfs_size_to_hpages()), with so many pages in the pool."""
        if self.percent is not None:
            return pool_pages * self.percent // 100 * page_size
        return self.size // page_size * page_size


def parse_limit(name: str, text: str | None) -> Limit | None:
    """``1G``, ``50%``; None for no limit.

    :raises Refused: neither a size nor a percentage.
    """
    if text is None:
        return None
    match = _PERCENT.fullmatch(text.strip())
    try:
        if match is None:
            return Limit(size=parse_size(text))
        if not 0 < int(match.group(1)) <= 100:
            raise ValueError(f"{text!r} is not between 1% and 100%")
    except ValueError as error:
        raise wrong_argument(name, str(error), "limit") from error
    return Limit(percent=int(match.group(1)))


@dataclass(frozen=True)
class LiveOptions:
    """What the kernel shows of a mount: sizes in bytes, None for unlimited. These can only be changed by a fresh mount.

    ``ro`` is not among them: it is the one option that a remount changes.
    """

    page_size: int
    size: int | None
    min_size: int | None
    nr_inodes: int | None

    def words(self) -> list[str]:
        """In the kernel's words."""
        shown = [
            f"pagesize={self.page_size >> 20}M" if self.page_size >= 1 << 20 else f"pagesize={self.page_size >> 10}K"
        ]
        for name, value in (("size", self.size), ("min_size", self.min_size), ("nr_inodes", self.nr_inodes)):
            if value is not None:
                shown.append(f"{name}={value}")
        return shown


def live_options(super_options: Sequence[str]) -> LiveOptions:
    """From the options of the super block in mountinfo."""
    values = dict(option.partition("=")[::2] for option in super_options)
    pagesize = values.get("pagesize", "")
    number = [int(values[name]) if name in values else None for name in ("size", "min_size", "nr_inodes")]
    return LiveOptions(int(pagesize[:-1] or 0) * _UNITS.get(pagesize[-1:], 1), *number)


@dataclass(frozen=True)
class WantedOptions:
    """What a mount is to have. ``mode``, ``uid`` and ``gid`` of its root directory can be changed while it is mounted.

    In check mode, ``uid`` and ``gid`` are names where there is no such user or group yet.
    """

    page_size: int
    size: Limit | None
    min_size: Limit | None
    nr_inodes: int | None
    uid: int | str
    gid: int | str
    mode: int

    @property
    def of_pool(self) -> bool:
        """What becomes of it depends on the pool."""
        return self.min_size is not None or (self.size is not None and self.size.percent is not None)

    def live(self, pool_pages: int) -> LiveOptions:
        """What the kernel will show, with so many pages in the pool.

        :raises Refused: the limits contradict each other, or are less than a page.
        """
        size = self.size.effective(self.page_size, pool_pages) if self.size else None
        least = self.min_size.effective(self.page_size, pool_pages) if self.min_size else None
        for name, limit, value in (("size", self.size, size), ("min_size", self.min_size, least)):
            if limit and not value:
                raise Refused(
                    f"{name}={limit.option()} is less than one page of {format_size(self.page_size)}.",
                    cause=f"The pool has {pool_pages} pages."
                    if limit.percent is not None
                    else "The kernel rounds down.",
                    cure="Ask for more, or enlarge the pool.",
                )
        if size is not None and least is not None and least > size:
            raise Refused(
                f"min_size ({format_size(least)}) is more than size ({format_size(size)}).", cure="Correct one of them."
            )
        return LiveOptions(self.page_size, size, least, self.nr_inodes)

    def words(self) -> tuple[str, ...]:
        """For mount(8) and for a unit."""
        found = [f"pagesize={format_size(self.page_size)}"]
        found += [f"size={self.size.option()}"] if self.size else []
        found += [f"min_size={self.min_size.option()}"] if self.min_size else []
        found += [f"nr_inodes={self.nr_inodes}"] if self.nr_inodes is not None else []
        return (*found, f"uid={self.uid}", f"gid={self.gid}", f"mode={self.mode:04o}")


def wanted_options(words: Sequence[str], default_page_size: int) -> WantedOptions | None:
    """What a line of fstab or a unit asks for; None when it is more than is understood here, or does not give files to write at each boot.

    :param default_page_size: bytes; used without ``pagesize``.
    """
    if not all(_understood(word) for word in words):
        return None
    values = dict(word.partition("=")[::2] for word in words)
    try:
        return WantedOptions(
            page_size=parse_size(values.get("pagesize", default_page_size)),
            size=parse_limit("size", values.get("size")),
            min_size=parse_limit("min_size", values.get("min_size")),
            nr_inodes=int(values["nr_inodes"]) if "nr_inodes" in values else None,
            uid=int(values.get("uid", 0)),
            gid=int(values.get("gid", 0)),
            mode=int(values.get("mode", "0755"), 8),
        )
    except (ValueError, Refused):
        return None


def _understood(word: str) -> bool:
    """x-* are for programs in user space (fstab(5)); the one that mounts only when somebody comes is no mount at boot."""
    if word.startswith("x-"):
        return word != "x-systemd.automount"
    return word in _HARMLESS or word.partition("=")[0] in _TAKEN
