# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Memory of a node that pools must leave to everything else. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .._guest.sizes import parse_size

_PERCENT = re.compile(r"([0-9]{1,3})\s*%")
_LEAST = 256 << 20


@dataclass(frozen=True)
class Reserve:
    """Bytes, or a share of the node's memory in percent. Neither: 5 %, or 256 MiB where that is more, but not beyond 10 %."""

    size: int | None = None
    percent: int | None = None

    def of(self, total: int) -> int:
        """Bytes to keep on a node with so much memory."""
        if self.size is not None:
            return self.size
        if self.percent is not None:
            return total * self.percent // 100
        return max(total * 5 // 100, min(_LEAST, total * 10 // 100))


def parse_reserve(text: str | None) -> Reserve:
    """``1G``, ``10%``, ``0``; None for the default.

    :raises ValueError: neither a size nor a percentage up to 100.
    """
    if text is None:
        return Reserve()
    if text.strip() == "0":
        return Reserve(size=0)
    match = _PERCENT.fullmatch(text.strip())
    if match is None:
        return Reserve(size=parse_size(text))
    if int(match.group(1)) > 100:
        raise ValueError(f"{text!r} is more than 100%")
    return Reserve(percent=int(match.group(1)))
