# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the files of a mount are mapped straight from persistent memory: a file in it is asked."""

from __future__ import annotations

from collections.abc import Sequence

from .._host.cures import UNKNOWN
from .._host.dax_probe import Probe, probe
from .._host.errors import HostmemError
from .._host.mounts import mount_at
from .dax_checks import cure_for
from .dax_mount_options import live_dax
from .dax_wish import Wish


def proved(wish: Wish, point: str, logged: Sequence[str]) -> Probe:
    """A new file in the mount is what was asked for.

    :raises HostmemError: it is not; with what the kernel logged.
    """
    mount = mount_at(point)
    live = live_dax(mount) if mount else "no mount"
    try:
        found = probe(point, wish.dax == "inode")
    except OSError as error:
        raise HostmemError(
            f"No file can be made at {point}, so that nothing shows whether DAX is on.",
            cause=str(error),
            cure="Look for errors of the file system in the kernel's log; it may have become read-only.",
        ) from error
    if mount is not None and live == wish.dax and found.dax == found.map_sync == (wish.dax != "never"):
        return found
    log = "; ".join(logged)
    raise HostmemError(
        f"The files at {point} are not what dax={wish.dax} promises.",
        cause=f"The kernel shows dax={live}; a new file there is {'' if found.dax else 'not '}DAX by statx, MAP_SYNC"
        f" {'works' if found.map_sync else 'is refused'}." + (f" The kernel's log: {log}" if log else ""),
        cure=cure_for(log or "dax mount option") or UNKNOWN,
    )
