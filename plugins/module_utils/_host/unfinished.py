# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What writers of files leave that are killed before they can rename what they have written (write_text() in files.py)."""

from __future__ import annotations

import os
import re

from .files import remove_file
from .processes import process

# FILE.PID.new
_UNFINISHED = re.compile(r".+\.(\d+)\.new")


def remove_unfinished(directory: str) -> None:
    """Remove such files of writers that do not live any more."""
    for name in os.listdir(directory):
        match = _UNFINISHED.fullmatch(name)
        if match and process(int(match.group(1))) is None:
            remove_file(f"{directory}/{name}")
