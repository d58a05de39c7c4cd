# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of a host's TLS credentials: whose they are, and how they are replaced. The private key is made here and never leaves the host."""

from __future__ import annotations

import grp
import os
import shutil
import stat

from .durable import sync_file
from .errors import HostmemError, Refused
from .files import make_directory, remove_file, set_owner_and_mode
from .programs import run
from .tls_handshake import AUTHORITY, CLIENT, FILES, SERVER, BadCredentials, look
from .users import User, group_name, run_as, user_name

# Of the directory and of the files: for root to write, for QEMU's group to read.
DIRECTORY_MODE, FILE_MODE = 0o750, 0o640
# Beside the files, on the same file system: what is not yet in their place.
_NEW = ".new"


def permissions(directory: str) -> dict[str, str]:
    """Mode, owner and group of the directory (by the name ``.``) and of each file that is there."""
    found = {}
    for name in (".", *FILES):
        try:
            seen = os.stat(os.path.join(directory, name))
        except OSError:
            continue
        found[name] = f"{stat.S_IMODE(seen.st_mode):04o} {user_name(seen.st_uid)}:{group_name(seen.st_gid)}"
    return found


def wanted_permissions(group: str) -> dict[str, str]:
    """The same, as they are to be."""
    modes = {".": DIRECTORY_MODE, **dict.fromkeys(FILES, FILE_MODE)}
    return {name: f"{mode:04o} {user_name(0)}:{group}" for name, mode in modes.items()}


def set_permissions(directory: str, group: str) -> None:
    """Bring the directory and all files to them.

    :raises OSError: one of them is missing, or is a link.
    """
    gid = grp.getgrnam(group).gr_gid
    for name, mode in ((".", DIRECTORY_MODE), *((name, FILE_MODE) for name in FILES)):
        descriptor = os.open(os.path.join(directory, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            set_owner_and_mode(descriptor, mode, 0, gid)
        finally:
            os.close(descriptor)


def unreadable_for(user: User, directory: str) -> list[str]:
    """The files that QEMU's user cannot read, each with the kernel's reason. It is really tried, as that user."""
    return list(run_as(user, lambda: _unreadable(directory)))


def _unreadable(directory: str) -> list[str]:
    found = []
    for name in FILES:
        path = os.path.join(directory, name)
        try:
            with open(path, "rb") as file:
                file.read(1)
        except OSError as error:
            found.append(f"{path}: {error.strerror}")
    return found


def readable_for_all(path: str) -> bool:
    """Whether users who are neither its owner nor in its group may read a file, by its own mode."""
    try:
        return bool(os.stat(path).st_mode & stat.S_IROTH)
    except OSError:
        return False


def make_key(directory: str, group: str) -> str:
    """Make a private key, beside those in use; its public key, in OpenSSH's form.

    PKCS #8 in PEM is what GnuTLS and OpenSSL read; ssh-keygen(1) is on each host that Ansible reaches by SSH.

    :raises HostmemError: it cannot be made.
    """
    gid = grp.getgrnam(group).gr_gid
    make_directory(directory, DIRECTORY_MODE, 0, gid)
    new = os.path.join(directory, _NEW)
    shutil.rmtree(new, ignore_errors=True)
    os.mkdir(new, 0o700)
    key = os.path.join(new, SERVER[1])
    done = run(["ssh-keygen", "-q", "-t", "ecdsa", "-b", "256", "-m", "PKCS8", "-N", "", "-C", "", "-f", key])
    if done.returncode:
        raise HostmemError(
            f"{key} cannot be made.",
            cause=done.stderr.strip() or done.stdout.strip() or "ssh-keygen does not say why.",
            cure=f"See whether root can write to {new}, and whether its file system has room.",
        )
    with open(f"{key}.pub", encoding="ascii") as file:
        return file.read().strip()


def put_in_place(directory: str, group: str, certificate: str, authority: str) -> None:
    """Complete the key that ``make_key`` made by what the controller signed, try a handshake, and only then replace the files.

    :param certificate: in PEM, as is ``authority``.
    :raises Refused: no handshake succeeds; the files in use are as they were.
    """
    new = os.path.join(directory, _NEW)
    key = os.path.join(new, SERVER[1])
    remove_file(f"{key}.pub")
    try:
        shutil.copyfile(key, os.path.join(new, CLIENT[1]))
        for name, text in ((AUTHORITY, authority), (SERVER[0], certificate), (CLIENT[0], certificate)):
            with open(os.path.join(new, name), "w", encoding="ascii") as file:
                file.write(text)
        look(new)
    except (BadCredentials, FileNotFoundError) as error:
        raise Refused(
            f"The new credentials in {directory} are not put to use.",
            cause=f"{error}. Another run may have made another key meanwhile.",
            cure="Run this again, from one controller at a time. The host's and the controller's clocks must agree.",
        ) from error
    set_permissions(new, group)
    for name in FILES:
        path = os.path.join(new, name)
        sync_file(path)
        os.rename(path, os.path.join(directory, name))
    os.rmdir(new)
    set_permissions(directory, group)


def remove(directory: str) -> None:
    """Remove the files, and the directory unless it holds something else."""
    shutil.rmtree(os.path.join(directory, _NEW), ignore_errors=True)
    for name in FILES:
        remove_file(os.path.join(directory, name))
    if os.path.isdir(directory) and not os.listdir(directory):
        os.rmdir(directory)
