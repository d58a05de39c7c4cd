# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checkpoints that do not fit: each is refused with its reason, no QEMU is started, and the checkpoint stays what it was."""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.config import load_config
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.errors import HostmemError
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.restore import RestoreOptions, restore
from ansible_collections.hostmem.qemu.plugins.module_utils._host.users import run_as
from support.checkpoints import checkpoint, copy_of, put_back, save, went_on
from support.engine import EngineHost
from support.sound import refuses

NAME = "beat"


def saved_guest(host: EngineHost, **changes: Any) -> int:
    """Start and save a guest; its counter."""
    page = host.boot(NAME, **changes)
    save(host, NAME)
    counter: int = page.counter
    page.close()
    return counter


def refused(host: EngineHost, *texts: str, name: str = NAME) -> None:
    """Neither way brings the guest back, and nothing is changed by the attempt."""
    before = listing(checkpoint(host, name))
    refuses(host.refused("restore", name), *texts)
    refuses(host.refused("start", name), *texts)
    assert host.qemu_pids(name) == []
    assert listing(checkpoint(host, name)) == before
    assert host.info(name)["checkpoint"]["restorable"] is False


def listing(directory: Path) -> list[tuple[str, bytes]]:
    return sorted((path.name, path.read_bytes()) for path in directory.iterdir())


def in_process(host: EngineHost) -> str:
    """What the runtime would say of a restore now; empty when it would do it."""
    config = load_config(str(host.config))

    def ask() -> str:
        try:
            asyncio.run(restore(config, NAME, RestoreOptions(check=True)))
        except HostmemError as error:
            return str(error)
        return ""

    answer: str = run_as(config.user, ask)
    return answer


@pytest.fixture
def saved_once(host: EngineHost) -> EngineHost:
    saved_guest(host)
    assert in_process(host) == ""
    return host


@pytest.mark.parametrize("file", ["state", "manifest"])
def test_any_bit_and_any_length(saved_once: EngineHost, file: str) -> None:
    """Whatever bit is flipped, and wherever the file is cut or goes on, it is noticed."""
    path = checkpoint(saved_once, NAME) / file
    whole = path.read_bytes()

    def noticed(content: bytes) -> None:
        path.write_bytes(content)
        assert in_process(saved_once) != ""
        path.write_bytes(whole)

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(bit=st.integers(0, len(whole) * 8 - 1), length=st.integers(0, len(whole) - 1), more=st.binary(min_size=1))
    def try_all(bit: int, length: int, more: bytes) -> None:
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        noticed(bytes(flipped))
        noticed(whole[:length])
        noticed(whole + more)

    try_all()
    assert in_process(saved_once) == ""
    path.write_bytes(whole[:-3])
    refused(saved_once, "damaged" if file == "manifest" else "bytes instead of")


def test_asking_reads_no_state(host: EngineHost) -> None:
    """A state can be as large as the guest: what is told of a saved guest holds of its size, and the restore looks into it."""
    saved_guest(host)
    path = checkpoint(host, NAME) / "state"
    content = path.read_bytes()
    path.write_bytes(bytes(len(content)))
    assert host.info(NAME)["checkpoint"]["restorable"]
    refuses(host.refused("restore", "--check", NAME), "damaged")
    refuses(host.refused("restore", NAME), "damaged")
    path.write_bytes(content[:-1])
    assert not host.info(NAME)["checkpoint"]["restorable"]
    path.unlink()
    assert not host.info(NAME)["checkpoint"]["restorable"]


@pytest.mark.parametrize("file", ["state", "manifest"])
def test_missing_file(host: EngineHost, file: str) -> None:
    saved_guest(host)
    (checkpoint(host, NAME) / file).unlink()
    refused(host, f"{file}")


def test_bits_pass_without_the_digest(host: EngineHost) -> None:
    """What the digest protects from: QEMU loads a state with a flipped bit, and the guest runs on it."""
    saved_guest(host)
    path = checkpoint(host, NAME) / "state"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with host.patched(
        "_guest/checkpoint_checks.py", "elif digest not in (None, here.manifest.state_sha256)", "elif False"
    ):
        assert host.one("restore", NAME)["changed"]


def test_swapped_memory(host: EngineHost) -> None:
    """Two guests' RAM files exchanged: same size, same name, other content."""
    page = host.boot("other")
    other = host.ram_file("other")
    saved_guest(host)
    own = Path(host.info(NAME)["layout"][0]["path"])
    save(host, "other")
    page.close()
    swap(own, other)
    for mark_owner, directory in ((NAME, own.parent), ("other", other.parent)):
        assert list(directory.glob(f"hostmem_checkpoint.{mark_owner}.*"))
    refused(host, "is not the memory of block ram0", "inode")
    refused(host, "is not the memory of block ram0", name="other")
    swap(own, other)
    host.one("restore", NAME)
    host.one("restore", "other")


def swap(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def test_stale_state(host: EngineHost) -> None:
    """The guest went on after the copy of its state was taken: QEMU would load the copy to the newer memory."""
    counter = saved_guest(host)
    copy = copy_of(host, NAME)
    host.one("restore", NAME)
    went_on(host, NAME, counter).close()
    save(host, NAME)
    put_back(copy, checkpoint(host, NAME))
    refused(host, "no mark of this checkpoint", "has run since")


def test_stale_state_without_marks(host: EngineHost) -> None:
    """The same without the protection by marks and tokens: it loads."""
    saved_guest(host)
    copy = copy_of(host, NAME)
    host.one("restore", NAME)
    host.one("save", NAME)
    put_back(copy, checkpoint(host, NAME))
    with (
        host.patched("_guest/checkpoint_store.py", "if not os.path.exists(mark)]", "if False]"),
        host.patched("_guest/checkpoint_store.py", "return manifest.token in _spent(paths)", "return False"),
    ):
        assert host.one("restore", NAME)["changed"]


def edit(host: EngineHost, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the kept definition behind the runtime's back."""
    path = Path(host.settings["definitions"]) / f"{NAME}.json"
    data = json.loads(path.read_text())
    text = json.dumps(data)
    change(data["definition"])
    assert json.dumps(data) != text
    path.write_text(json.dumps(data))


def test_other_ram_size(host: EngineHost) -> None:
    saved_guest(host)

    def change(definition: dict[str, Any]) -> None:
        definition["memory"]["blocks"][0]["size"] = 128 << 20

    edit(host, change)
    with host.patched("_guest/store.py", "    check_argv(definition, argv)\n", ""):
        refused(host, "definition was changed since (memory)", "other memory")


def test_other_machine(host: EngineHost) -> None:
    saved_guest(host)
    edit(host, lambda definition: definition.update(machine="pc-q35-9.2"))
    with host.patched("_guest/store.py", "    check_argv(definition, argv)\n", ""):
        refused(host, "definition was changed since (machine)")


def test_no_such_machine(host: EngineHost) -> None:
    """A machine type that the installed QEMU does not have: 11.1 knows pc-q35-11.1, 10.0 does not."""
    host.install("11.1")
    saved_guest(host, machine="pc-q35-11.1")
    host.install("10.0")
    refused(host, "has no machine type pc-q35-11.1")
    refuses(host.refused("restore", "--older", NAME), "has no machine type pc-q35-11.1")


def test_older_qemu(host: EngineHost) -> None:
    """Refused, unless it is asked for by name: then QEMU takes it, for a machine type that both have."""
    host.install("11.1")
    counter = saved_guest(host)
    host.install("10.0")
    refused(host, "is older than 11.1")
    assert host.one("restore", "--older", NAME)["qemu"]["version"].startswith("10.0.")
    went_on(host, NAME, counter)


def test_memory_gone(host: EngineHost) -> None:
    saved_guest(host)
    ram = Path(host.info(NAME)["layout"][0]["path"])
    aside = ram.with_name("aside")
    ram.rename(aside)
    refused(host, "the memory of block ram0 is gone")
    shutil.copy(aside, ram)
    shutil.chown(ram, host.settings["user"], host.settings["user"])
    refused(host, "is not the memory of block ram0", "inode")


def test_memory_cut(host: EngineHost) -> None:
    saved_guest(host)
    os.truncate(Path(host.info(NAME)["layout"][0]["path"]), 32 << 20)
    refused(host, "its size is 33554432, not 67108864")


def test_memory_in_use(host: EngineHost) -> None:
    """By a process that can write it; whoever only reads does no harm."""
    page = host.boot(NAME)
    ram = host.ram_file(NAME)
    save(host, NAME)
    with ram.open("r+b") as file, mmap.mmap(file.fileno(), 0):
        for words in (["restore"], ["start"], ["restore", "--check"], ["start", "--check"]):
            refuses(host.refused(*words, NAME), f"is mapped by process {os.getpid()}")
    counter = page.counter
    host.one("restore", NAME)
    went_on(host, NAME, counter)


def test_disk_written_since(host: EngineHost) -> None:
    """Somebody used the disk meanwhile: the guest's memory would not fit it, and the guest would destroy it."""
    disk = host.root / "disks" / "d.raw"
    disk.parent.mkdir()
    disk.write_bytes(bytes(1 << 20))
    for path in (disk.parent, disk):
        shutil.chown(path, host.settings["user"], host.settings["user"])
    saved_guest(host, disks=[{"id": "d0", "path": str(disk), "format": "raw"}])
    state = disk.stat()
    with disk.open("r+b") as file:
        file.write(b"x")
    refused(host, f"disk image {disk} was written since")
    os.utime(disk, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert in_process(host) == ""
    disk.unlink()
    refused(host, f"disk image {disk} is gone")


def test_other_device(host: EngineHost) -> None:
    """A QEMU whose machine has one more device than the one that saved: its state would not fit."""
    saved_guest(host)
    host.install_altered('words += ["-device", "pci-testdev"]', version="10.0")
    refuses(host.refused("restore", NAME), "pci", "is not in the running guest")
    host.install("10.0")
    host.one("restore", NAME)


def test_marks_without_state(host: EngineHost) -> None:
    """Somebody removed the state: a start anew would destroy memory that a copy of it belongs to."""
    saved_guest(host)
    copy = copy_of(host, NAME)
    shutil.rmtree(checkpoint(host, NAME))
    refuses(host.refused("start", "--check", NAME), "is that of a saved guest")
    refuses(host.refused("start", NAME), "is that of a saved guest", "discard")
    put_back(copy, checkpoint(host, NAME))
    host.one("restore", NAME)


def test_not_enough_space(host: EngineHost) -> None:
    """For the state: the guest is not paused for it."""
    page = host.boot(NAME)
    small = "    free = free_space(paths.state)\n"
    with host.patched("_guest/save.py", small, "    free = 1 << 20\n"):
        refuses(host.refused("save", NAME), "too few for the state")
    assert [state.new for state in host.run_states(NAME)].count("paused") == 0
    assert page.boots == 1


def test_nothing_to_save(host: EngineHost) -> None:
    host.define(host.heartbeat(NAME))
    refuses(host.refused("save", NAME), "does not run")
    refuses(host.refused("restore", NAME), "is not saved")
    assert not host.one("discard", NAME)["changed"]


def test_changed_memory_is_not_saved(host: EngineHost) -> None:
    """A definition that is pending with other NICs could not be prepared when the guest comes back."""
    definition = host.heartbeat(NAME)
    page = host.boot_defined(definition)
    host.define({**definition, "nics": [{"id": "n0", "type": "user", "mac": "52:54:00:00:00:01"}]})
    refuses(host.refused("save", NAME), "has been changed", "NICs")
    host.define({**definition, "max_pause": 1.0})
    counter = page.counter
    save(host, NAME)
    page.close()
    host.one("restore", NAME)
    went_on(host, NAME, counter)
