# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wanted of a DAX mount."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Wish:
    """A mount as somebody wants it.

    :param dax: ``always``, ``inode`` (each file by its own flag, FS_XFLAG_DAX) or ``never``.
    :param destroy: the device whose data may be lost, by the same name as ``device``.
    :param device_timeout: seconds that the boot waits for the device.
    """

    point: str
    device: str
    type: str
    dax: str
    options: tuple[str, ...]
    persistent: bool
    reflink: bool
    destroy: str
    device_timeout: int

    @property
    def mount_options(self) -> tuple[str, ...]:
        return (f"dax={self.dax}", *self.options)
