# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Locks of a guest, all by flock(2): two on files in its run directory, and one on the directory.

``verb.lock``: exclusive, held by the program that works on the guest. ``guest.lock``: shared, held by every QEMU that carries
the guest, through a descriptor it inherits, so that the lock lives exactly as long as a QEMU does; a cold start demands it
exclusively first. QEMU itself locks no RAM file.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from types import TracebackType

from .._host.service_manager import still_at_work
from .errors import Busy, HostmemError
from .journal import Journal
from .paths import GuestPaths

_POLL = 0.02


def _open(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def busy_with_a_move(name: str) -> Busy:
    """For a verb that does not wait until it has ended."""
    return Busy(
        f"Guest {name} goes to another host, or is waited for here.",
        cause="That can take long, and is not cut off by other verbs.",
        cure=f"See how far it is (hostmem info {name}); to call it off, end hostmem migrate or hostmem receive (Ctrl-C), and try again.",
    )


class VerbLock:
    """Exclusive right to work on a guest; an asynchronous context manager.

    :param wait: seconds to wait for another verb to end, from when on it has not got on: while a step of its journal has time left
        it is waited for, however long that is, but for a move between hosts, which goes on for as long as it likes. A step that has none
        left is ended by the watchdog of the verb.
    :raises Busy: another verb still works on the guest.
    """

    def __init__(self, paths: GuestPaths, wait: float = 0.0) -> None:
        self._paths = paths
        self._wait = wait
        self._descriptor = -1

    async def __aenter__(self) -> VerbLock:
        self._descriptor = _open(self._paths.verb_lock)
        try:
            await self._wait_for_others()
        except BaseException:
            os.close(self._descriptor)
            raise
        return self

    async def _wait_for_others(self) -> None:
        journal = Journal(self._paths)
        deadline = time.monotonic() + self._wait
        while not self._taken():
            now = time.monotonic()
            moves = journal.moves()
            if journal.has_time() and not moves:
                deadline = now + self._wait
            if now >= deadline and moves:
                raise busy_with_a_move(self._paths.name)
            if now >= deadline:
                raise Busy(f"Another verb works on guest {self._paths.name}.", cure="Try again when it has ended.")
            still_at_work()
            await asyncio.sleep(_POLL)

    def _taken(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


@contextlib.contextmanager
def resource_locks(run_directories: Iterable[str]) -> Iterator[list[str]]:
    """Exclusive right to make or remove what guests need, for the root part of a start or stop and all it waits for.

    Gives the directories that are locked, which are those that exist: whoever makes one meanwhile starts that guest, and what he
    makes for it is not to be removed. Without the lock, a second start would find files that the first one's QEMU just maps.
    Waits for as long as another start or stop takes. Held on the directories themselves. With systemd what prepares a start and
    what starts are two programs that take it one after the other: the second looks whether all is still there.
    """
    locked = []
    with contextlib.ExitStack() as held:
        for path in sorted(set(run_directories)):
            with contextlib.suppress(FileNotFoundError):
                descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
                held.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                locked.append(path)
        yield locked


def lock_for_cold_start(paths: GuestPaths) -> int:
    """A descriptor that holds guest.lock for the first QEMU to inherit; the caller closes its own copy.

    :raises HostmemError: some QEMU still carries the guest.
    """
    descriptor = _open(paths.guest_lock)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise HostmemError(
            f"A QEMU still carries guest {paths.name} (it holds {paths.guest_lock}).",
            cure=f"Find it with: fuser {paths.guest_lock}",
        ) from None
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def lock_for_next_generation(paths: GuestPaths) -> int:
    """A descriptor that shares guest.lock, for the QEMU that takes the guest over; the caller closes its own copy."""
    descriptor = _open(paths.guest_lock)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor
