# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Shared libraries of the host, beside libc."""

from __future__ import annotations

import ctypes

from .errors import HostmemError
from .packages import install


def load_library(name: str) -> ctypes.CDLL:
    """A library by the name that ld.so knows it by (its soname).

    :raises HostmemError: it is not installed, or cannot be loaded; with the package that has it on this distribution.
    """
    try:
        return ctypes.CDLL(name, use_errno=True)
    except OSError as error:
        raise HostmemError(f"The library {name} cannot be loaded.", cause=str(error), cure=install(name)) from error
