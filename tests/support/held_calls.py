# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""System calls that fill memory, held by the kernel while a test looks at the thread that makes them (seccomp_unotify(2), x86-64).

A call then goes on, or gets the error that an older kernel has for it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_SECCOMP, _MADVISE, _FALLOCATE = 317, 28, 285  # asm/unistd_64.h
_POPULATE_WRITE = 23  # linux/mman.h
_NO_NEW_PRIVS = 38  # linux/prctl.h
_SET_FILTER, _NEW_LISTENER, _NOTIFY, _ALLOW, _CONTINUE = 1, 8, 0x7FC00000, 0x7FFF0000, 1  # linux/seccomp.h
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06  # linux/bpf_common.h
_NUMBER, _THIRD = 0, 32  # offsets in struct seccomp_data

_FILTER = [
    (_LOAD, 0, 0, _NUMBER),
    (_JUMP_EQUAL, 3, 0, _FALLOCATE),
    (_JUMP_EQUAL, 0, 3, _MADVISE),
    (_LOAD, 0, 0, _THIRD),
    (_JUMP_EQUAL, 0, 1, _POPULATE_WRITE),
    (_RETURN, 0, 0, _NOTIFY),
    (_RETURN, 0, 0, _ALLOW),
]
_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


@dataclass(frozen=True)
class HeldCall:
    """A call, the CPUs that its thread may run on, and the memory policy of the thread (numa(7)) as it made it."""

    name: str
    length: int
    cpus: frozenset[int]
    policy: str


def held_calls(run: Callable[[], None], populates: bool = True) -> list[HeldCall]:
    """MADV_POPULATE_WRITE and fallocate of ``run`` and of threads that it starts; what it raises is raised here.

    :param populates: False for a kernel that does not know MADV_POPULATE_WRITE (before Linux 5.14).
    """
    listener: list[int] = []
    failure: list[BaseException] = []
    ready = threading.Event()

    def filtered() -> None:
        try:
            listener.append(_listen())
            ready.set()
            run()
        except BaseException as error:
            failure.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=filtered)
    thread.start()
    ready.wait()
    calls = _answer(listener[0], populates) if listener else []
    thread.join()
    for error in failure:
        raise error
    return calls


def _listen() -> int:
    """Put the filter on this thread, and on those that it starts."""
    code = b"".join(struct.pack("HBBI", *line) for line in _FILTER)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(_FILTER), ctypes.addressof(buffer))
    if _libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    descriptor: int = _libc.syscall(_SECCOMP, _SET_FILTER, _NEW_LISTENER, ctypes.byref(program))
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return descriptor


def _answer(listener: int, populates: bool) -> list[HeldCall]:
    """Until the last filtered thread has ended."""
    calls = []
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    try:
        while poll.poll()[0][1] & select.POLLIN:
            notice = bytearray(80)
            fcntl.ioctl(listener, _RECEIVE, notice)
            number, thread, _flags, call, _arch, _ip, _first, second, _third, fourth = struct.unpack_from(
                "QIIiIQQQQQ", notice
            )
            known = call == _FALLOCATE or populates
            calls.append(
                HeldCall(
                    "fallocate" if call == _FALLOCATE else "madvise",
                    fourth if call == _FALLOCATE else second,
                    frozenset(os.sched_getaffinity(thread)),
                    _policy(thread),
                )
            )
            answer = struct.pack("QqiI", number, 0, 0 if known else -errno.EINVAL, _CONTINUE if known else 0)
            fcntl.ioctl(listener, _SEND, answer)
    finally:
        os.close(listener)
    return calls


def _policy(thread: int) -> str:
    """Of the thread: the kernel shows it for mappings that have none of their own, such as the heap."""
    lines = Path(f"/proc/self/task/{thread}/numa_maps").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.split()[2] == "heap")
