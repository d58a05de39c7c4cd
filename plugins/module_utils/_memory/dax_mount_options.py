# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of a DAX mount: what the kernel shows of them, held against what is wanted."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .._host.mounts import Mount
from .dax_wish import Wish

# Options that mountinfo shows when they are set, and never else.
_SHOWN = frozenset(
    {"ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "sync", "dirsync", "nosymfollow", "lazytime"}
)
# The same of the file systems' own (_ext4_show_options() in fs/ext4/super.c, xfs_fs_show_options() in fs/xfs/xfs_super.c).
_SHOWN_BY = {
    "ext4": frozenset({"discard", "nobarrier", "noauto_da_alloc", "nodelalloc", "minixdf"}),
    "xfs": frozenset({"discard", "wsync", "filestreams", "largeio", "swalloc", "ikeep", "nouuid"}),
}
_SHOWN_AS = {"barrier=0": "nobarrier", "auto_da_alloc=0": "noauto_da_alloc"}


def live_dax(mount: Mount) -> str:
    """What the kernel shows of DAX: ``always``, ``never``, or ``inode``, which it need not show at all."""
    options = {*mount.options, *mount.super_options}
    if options & {"dax", "dax=always"}:
        return "always"
    return "never" if "dax=never" in options else "inode"


def differences(present: Mount, wish: Wish) -> str:
    """What the kernel shows of a mount that is not what is wanted, in words; empty for nothing."""
    if live_dax(present) != wish.dax:
        return f"It is mounted with dax={live_dax(present)}, wanted is dax={wish.dax}, which a remount cannot change."
    found = _compared(present, wish)
    if found.missing or found.more:
        texts = [f"without {','.join(sorted(found.missing))}"] if found.missing else []
        texts += [f"with {','.join(sorted(found.more))} unasked"] if found.more else []
        return f"It is mounted {' and '.join(texts)}."
    for wanted, other in sorted(found.other.items()):
        return f"It is mounted with {other}, wanted is {wanted}."
    return ""


def wanted_options(wish: Wish) -> list[str]:
    """Options without dax=, as the kernel shows them."""
    return sorted(_SHOWN_AS.get(option, option) for option in wish.options)


def options_held_against(present: Mount, wish: Wish) -> list[str]:
    """What a mount has in the place of wanted_options(): the same list when there is no difference."""
    found = _compared(present, wish)
    same = set(wanted_options(wish)) - found.missing - found.other.keys()
    more = {"relatime"} if "strictatime" in found.missing else set()
    return sorted(same | found.more | more | set(found.other.values()))


@dataclass(frozen=True)
class _Compared:
    """Wanted options that are ``missing``, flags shown ``more`` than wanted, and the ``other`` value shown for a wanted one."""

    missing: frozenset[str]
    more: frozenset[str]
    other: Mapping[str, str]


def _compared(present: Mount, wish: Wish) -> _Compared:
    shown = {*present.options, *present.super_options}
    flags = _SHOWN | _SHOWN_BY.get(wish.type, frozenset())
    wanted = set(wanted_options(wish))
    missing = wanted & flags - shown - _defaults(present)
    if "strictatime" in wanted and "relatime" in shown:  # it shows by the absence of the others
        missing.add("strictatime")
    return _Compared(frozenset(missing), frozenset(shown & flags - wanted), _other_values(shown, wish.options))


def _other_values(shown: set[str], wanted: Sequence[str]) -> dict[str, str]:
    found = {}
    for option in wanted:
        if option in _SHOWN_AS:
            continue
        key, equals, _value = option.partition("=")
        others = sorted(item for item in shown if equals and item.startswith(f"{key}="))
        if others and option not in others:
            found[option] = others[0]
    return found


def _defaults(present: Mount) -> frozenset[str]:
    """Options that are on without being shown, as defaults in ext4's super block (tune2fs -o) are; /proc/fs/ext4 lists them all."""
    name = os.path.basename(os.path.realpath(f"/sys/dev/block/{os.major(present.device)}:{os.minor(present.device)}"))
    try:
        with open(f"/proc/fs/{present.type}/{name}/options", encoding="ascii", errors="replace") as file:
            return frozenset(file.read().split())
    except OSError:
        return frozenset()
