# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors that nobody worded where they came up: those of the kernel in its words, with the file and the cure; others with their place in the code."""

from __future__ import annotations

import errno
import os
import traceback

from .._host.cures import UNKNOWN, cure_of
from .errors import HostmemError


def as_hostmem_error(error: BaseException) -> HostmemError:
    """The error for the person who has to act on it."""
    if isinstance(error, HostmemError):
        return error
    if isinstance(error, OSError):
        return _of_the_kernel(error) if error.errno else HostmemError(f"{error}.", cure=UNKNOWN)
    text = "".join(traceback.format_exception_only(type(error), error)).strip()
    return HostmemError(
        f"Unexpected error: {text}",
        cause="".join(traceback.format_tb(error.__traceback__)[-3:]),
        cure="This is a fault of the collection's. Report it, with what is said here.",
    )


def _name(code: int | None) -> str:
    return errno.errorcode.get(code or 0, f"error {code}")


def _of_the_kernel(error: OSError) -> HostmemError:
    """What it was about, if the error tells; else what the program was doing."""
    places = [str(place) for place in (error.filename, error.filename2) if place is not None]
    frames = traceback.extract_tb(error.__traceback__)
    doing = f" ({os.path.basename(frames[-1].filename)}: {frames[-1].line})" if frames and not places else ""
    return HostmemError(
        f"{' to '.join(places) or 'A file or device'}: {error.strerror}.",
        cause=f"The kernel refused it with {_name(error.errno)}{doing}.",
        cure=cure_of(error.errno),
    )
