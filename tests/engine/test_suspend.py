# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real Linux guest suspends itself to RAM when its agent is told to, and wakes: what a guest with vfio devices does while it is saved.

There is no vfio device on a test machine (it takes an IOMMU and a PCI function to give away): which devices need this is a unit test's.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.config import load_config
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.errors import HostmemError, Refused
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.paths import GenerationPaths, guest_paths
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.qmp import Qmp, connect
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.suspend import check_suspend, suspend, wake
from support.engine import EngineHost
from support.linux import LINUX, NAME, LinuxGuest
from support.sound import assert_alive, refuses

_SECONDS = 30.0
_SHORT = 2.0

Act = Callable[[GenerationPaths, Qmp], Awaitable[Any]]


def generation(host: EngineHost, name: str) -> GenerationPaths:
    return guest_paths(load_config(str(host.config)), name).generation(host.generation(name))


def engine(host: EngineHost, name: str, act: Act) -> Any:
    """A part of the engine at work on the guest's QEMU."""

    async def work() -> Any:
        paths = generation(host, name)
        qmp = await connect(paths.qmp)
        try:
            return await act(paths, qmp)
        finally:
            await qmp.close()

    return asyncio.run(work())


def status(host: EngineHost, name: str) -> str:
    with host.qmp(name) as qmp:
        return str(qmp("query-status")["status"])


def linux(host: EngineHost, network: int, image: str = "vmlinuz", words: str = "", **changes: Any) -> LinuxGuest:
    guest_cmdline = f"{(LINUX / 'cmdline').read_text().strip()} hm.ip=10.98.{network}.2/24 {words}"
    kernel = {"image": str(LINUX / image), "initrd": str(LINUX / "initrd"), "cmdline": guest_cmdline}
    return LinuxGuest(host, network, kernel=kernel, **changes)


def checked(host: EngineHost, name: str, seconds: float = _SHORT) -> Any:
    definition = host.definition(name)
    return engine(host, name, lambda paths, qmp: check_suspend(paths, qmp, definition, time.monotonic() + seconds))


@contextmanager
def refused(host: EngineHost, name: str, *texts: str) -> Iterator[None]:
    """It is refused, and the guest runs on."""
    with pytest.raises(Refused) as caught:
        yield
    refuses(caught.value.as_dict(), *texts)
    assert status(host, name) == "running"


def test_a_guest_sleeps_and_wakes(host: EngineHost) -> None:
    guest = linux(host, 31)
    checked(host, NAME, _SECONDS)
    assert engine(host, NAME, lambda paths, qmp: suspend(paths, qmp, time.monotonic() + _SECONDS))
    assert status(host, NAME) == "suspended"
    checked(host, NAME)
    assert not engine(host, NAME, lambda paths, qmp: suspend(paths, qmp, time.monotonic() + _SECONDS))
    engine(host, NAME, lambda _paths, qmp: wake(qmp))
    with guest.stream():
        guest.assert_whole()


def test_an_agent_that_somebody_else_talks_to(host: EngineHost) -> None:
    linux(host, 32)
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(f"{generation(host, NAME).directory}/qga.sock")
        with refused(host, NAME, "does not answer", "another client holds"):
            checked(host, NAME)
    checked(host, NAME, _SECONDS)


def test_an_agent_that_does_not_run(host: EngineHost) -> None:
    page = host.boot("g", guest_agent=True)
    with refused(host, "g", "guest agent does not answer", "It does not run in the guest"):
        checked(host, "g")
    with refused(host, "g", "guest agent does not answer"):
        engine(host, "g", lambda paths, qmp: suspend(paths, qmp, time.monotonic() + _SHORT))
    assert_alive(page)


def test_no_channel(host: EngineHost) -> None:
    page = host.boot("g")
    with refused(host, "g", "has no channel for a guest agent", "Set guest_agent to true"):
        checked(host, "g")
    assert_alive(page)


def test_a_paused_guest_cannot_suspend_itself(host: EngineHost) -> None:
    host.boot("g", guest_agent=True)
    with host.qmp("g") as qmp:
        qmp("stop")
    with pytest.raises(Refused, match="is paused: it cannot suspend itself"):
        checked(host, "g")


def test_an_elf_kernel_is_loaded_again(host: EngineHost) -> None:
    """Why such a guest is refused."""
    guest = linux(host, 33, "vmlinux")
    with refused(host, NAME, "would not wake but boot anew", "bzImage"):
        checked(host, NAME)
    assert engine(host, NAME, lambda paths, qmp: suspend(paths, qmp, time.monotonic() + _SECONDS))
    engine(host, NAME, lambda _paths, qmp: wake(qmp))
    guest.wait_for_more("BOOT")


def test_a_machine_without_s3(host: EngineHost) -> None:
    guest = linux(host, 34, arguments=["-global", "ICH9-LPC.disable_s3=1"])
    with refused(host, NAME, "cannot be suspended to RAM", "disable_s3"):
        checked(host, NAME)
    guest.assert_whole()


def test_a_sleep_that_qemu_does_not_see(host: EngineHost) -> None:
    linux(host, 35, words="mem_sleep_default=s2idle")
    with pytest.raises(HostmemError, match=r"has not suspended itself in time.*s2idle"):
        engine(host, NAME, lambda paths, qmp: suspend(paths, qmp, time.monotonic() + 2 * _SHORT))
