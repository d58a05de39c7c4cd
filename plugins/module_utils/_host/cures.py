# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What to do about what the kernel refuses, by its error numbers (errno(3)). Programs say the same in words (strerror(3))."""

from __future__ import annotations

import errno
import os

from .errors import HostmemError, Refused

UNKNOWN = "See the kernel's log (dmesg)."
_NOT_ROOT = "Run as root; in a playbook, set become to true."
# Root that may not is that of a container or of a service, or is held back by a security module.
_NOT_ALLOWED = "Do this on the host itself, not in a container or a service with fewer rights; the log of SELinux or AppArmor tells who forbids it."
_PATH = "Correct the path, or make what it names; what is missing below /sys and /proc this kernel or container does not have."
_CURES = {
    errno.EBUSY: "End what uses it (fuser -vm and lsof show who does), then try again.",
    errno.EEXIST: "Remove what is there, or choose another name.",
    errno.EIO: "Look for errors of the device in the kernel's log (dmesg).",
    errno.ELOOP: _PATH,
    errno.EMFILE: "Raise the limit of open files (ulimit -n, LimitNOFILE=).",
    errno.ENODEV: "Load the kernel's driver for it, or correct the device's name.",
    errno.ENOENT: _PATH,
    errno.ENOMEM: "Free memory, or ask for less.",
    errno.ENOSPC: "Make room there, or enlarge what it lies in.",
    errno.ENOTDIR: _PATH,
    errno.ENXIO: "Load the kernel's driver for it, or correct the device's name.",
    errno.EDQUOT: "Raise the quota of this user, or make room.",
    errno.EOPNOTSUPP: "Choose another file system or device: this one, or this kernel, does not have it.",
    errno.EROFS: "Mount it for writing; in a container, where /sys and /proc can be read-only, do this on the host itself.",
    errno.EISDIR: _PATH,
}
# Words of mount(8), umount(8) and ndctl(1) that are not those of strerror(3).
_WORDS = {"is busy": errno.EBUSY, "must be superuser": errno.EPERM, "permission denied": errno.EACCES}


def cure_of(code: int | None) -> str:
    """What to do about an error number; UNKNOWN where nothing is known to help."""
    if code in (errno.EPERM, errno.EACCES):
        return _NOT_ALLOWED if os.geteuid() == 0 else _NOT_ROOT
    return _CURES.get(code or 0, UNKNOWN)


def cure_in(text: str) -> str:
    """What to do about the first error that a program's words name; UNKNOWN where they name none, or nothing is known to help."""
    lowered = text.lower()
    names = {os.strerror(code).lower(): code for code in (errno.EPERM, errno.EACCES, *_CURES)}
    found = [(lowered.index(words), code) for words, code in {**names, **_WORDS}.items() if words in lowered]
    return cure_of(min(found)[1]) if found else UNKNOWN


def unreadable(path: str, error: OSError | ValueError, cure: str) -> HostmemError:
    """The error of a file that cannot be read, or holds something else.

    :param cure: what to do when it holds something else.
    """
    return HostmemError(
        f"{path} cannot be read.",
        cause=f"{error}.",
        cure=cure_of(error.errno) if isinstance(error, OSError) else cure,
    )


def refused_by_kernel(problem: str, error: OSError) -> Refused:
    """An error of the kernel's in words.

    :param problem: what was not done, and where.
    """
    return Refused(problem, cause=f"{error}.", cure=cure_of(error.errno))
