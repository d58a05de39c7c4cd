# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Saves and restores cut off: the guest runs on, or it is saved and can be restored, once, with nobody's help."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time

import pytest

from support.checkpoints import checkpoint, save, went_on
from support.cut_points import KILL, RESTORE_POINTS, fault, names
from support.engine import EngineHost, wait_until
from support.materials import small_tmpfs
from support.sound import assert_sound, refuses

NAME = "beat"
QEMU = 'os.kill(int(open(self.path.rpartition("/")[0].rpartition("/")[0] + "/pid").read()), 9)'
# The QEMU that is talked to, and no other test's.
NEW_QEMU = (
    "from .._host.processes import command_lines as _lines; "
    'os.kill(next(pid for pid, words in _lines() if any(f"unix:{self.path}," in word for word in words)), 9)'
)

# Where a save is cut off, and whether the guest is saved then.
SAVE_POINTS = [
    ("_guest/journal.py", "saving", "before", False),
    ("_guest/journal.py", "saving", "after", False),
    ("_guest/qmp.py", "migrate", "before", False),
    ("_guest/qmp.py", "migrate", "after", False),
    ("_guest/save.py", "sha256_of", "after", False),
    ("_guest/checkpoint_store.py", "write_new", "after", False),
    ("_guest/checkpoint_store.py", "_make_marks", "after", False),
    ("_guest/checkpoint_store.py", "commit", "before", False),
    ("_guest/checkpoint_store.py", "commit", "after", True),
]


@pytest.mark.parametrize(("path", "name", "when", "saved"), SAVE_POINTS, ids=names(SAVE_POINTS))
def test_save_killed(host: EngineHost, path: str, name: str, when: str, saved: bool) -> None:
    page = host.boot(NAME)
    pid = host.only_qemu(NAME)
    with fault(host, path, name, when):
        host.begin("save", NAME).communicate()
        host.wait_quiet()
    if not saved:
        assert host.only_qemu(NAME) == pid
        assert not checkpoint(host, NAME).exists()
        assert_sound(host, NAME, page)
        save(host, NAME)
    counter = page.counter
    page.close()
    assert host.qemu_pids(NAME) == []
    host.one("restore", NAME)
    went_on(host, NAME, counter)


@pytest.mark.parametrize(("path", "name", "when", "saved"), RESTORE_POINTS, ids=names(RESTORE_POINTS))
def test_restore_killed(host: EngineHost, path: str, name: str, when: str, saved: bool) -> None:
    page = host.boot(NAME)
    save(host, NAME)
    counter = page.counter
    page.close()
    with fault(host, path, name, when):
        host.begin("restore", NAME).communicate()
        host.wait_quiet()
    if saved:
        assert host.qemu_pids(NAME) == []
        assert checkpoint(host, NAME).exists()
        assert host.one("restore", NAME)["changed"]
    assert not checkpoint(host, NAME).exists()
    page = went_on(host, NAME, counter)
    assert_sound(host, NAME, page)


def test_killed_before_a_file_has_its_name(host: EngineHost) -> None:
    """What was written of it goes."""
    page = host.boot(NAME)
    save(host, NAME)
    counter = page.counter
    page.close()
    once = host.root / "once"
    rename = "        os.rename(temporary, path)\n"
    kill = f"        if 'spent' in path and not os.path.exists({str(once)!r}): os.mknod({str(once)!r}); {KILL}\n"
    os.chmod(host.root, 0o777)
    with host.patched("_host/files.py", rename, kill + rename):
        host.begin("restore", NAME).communicate()
        host.wait_quiet()
    assert once.exists()
    once.unlink()
    assert_sound(host, NAME, went_on(host, NAME, counter))


def test_qemu_killed_in_save(host: EngineHost) -> None:
    """A crash of the guest, not a checkpoint: nothing counts that was written."""
    host.boot(NAME).close()
    with fault(host, "_guest/qmp.py", "migrate", "after", QEMU):
        assert host.refused("save", NAME)
    assert host.qemu_pids(NAME) == []
    assert not checkpoint(host, NAME).exists()
    assert host.one("start", NAME)["how"] == "started"


@pytest.mark.parametrize("command", ["migrate-incoming", "migrate-set-capabilities"])
def test_qemu_killed_in_restore(host: EngineHost, command: str) -> None:
    page = host.boot(NAME)
    save(host, NAME)
    counter = page.counter
    page.close()
    with fault(host, "_guest/qmp.py", command, "before", NEW_QEMU):
        assert host.refused("restore", NAME)
    wait_until(lambda: host.qemu_pids(NAME) == [], "QEMU lives")
    host.one("restore", NAME)
    went_on(host, NAME, counter)


def test_qemu_and_runtime_killed_when_it_may_have_run(host: EngineHost) -> None:
    """From then on nobody can tell whether the memory is still the state's: said plainly, and never loaded again."""
    page = host.boot(NAME)
    save(host, NAME)
    page.close()
    with fault(host, "_guest/qmp.py", "cont", "after", f"{NEW_QEMU}; {KILL}"):
        host.begin("restore", NAME).communicate()
        host.wait_quiet()
    wait_until(lambda: host.qemu_pids(NAME) == [], "QEMU lives")
    for verb in ("restore", "start"):
        refuses(host.refused(verb, NAME), "may have run since", "discard")
    assert host.info(NAME)["state"] == "saved"
    assert host.one("discard", NAME)["changed"]
    assert host.one("start", NAME)["how"] == "started"


@pytest.mark.parametrize("function", ["rename_durably", "_write_spent", "remove_durably"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_device_that_fails_when_the_state_is_spent(host: EngineHost, function: str, when: str) -> None:
    """Until it is known to be spent the guest has not run: it does not, and is saved as before."""
    page = host.boot(NAME)
    save(host, NAME)
    counter = page.counter
    page.close()
    with fault(host, "_guest/checkpoint_store.py", function, when, "raise OSError(5, 'Input/output error')"):
        refuses(host.refused("restore", NAME), "Input/output error")
        host.wait_quiet()
    assert host.qemu_pids(NAME) == []
    assert checkpoint(host, NAME).exists()
    assert host.one("restore", NAME)["changed"]
    went_on(host, NAME, counter)


def test_refused_cont_takes_the_restore_back(host: EngineHost) -> None:
    """A QEMU that will not run the guest has not run it: the state is as good as before."""
    page = host.boot(NAME)
    save(host, NAME)
    counter = page.counter
    page.close()
    with fault(
        host, "_guest/qmp.py", "cont", "before", 'raise CommandRefused("QEMU refused cont.", cause="by a test")'
    ):
        refuses({**host.refused("restore", NAME), "cure": ""}, "QEMU refused cont")
    assert host.qemu_pids(NAME) == []
    assert host.info(NAME)["checkpoint"]["restorable"]
    host.one("restore", NAME)
    went_on(host, NAME, counter)


def test_full_disk(host: EngineHost) -> None:
    """QEMU finds no space for the state while the guest is paused: the guest goes on."""
    page = host.boot(NAME)
    small_tmpfs(host, host.root / "state" / NAME, "size=128k")
    shutil.chown(host.root / "state" / NAME, host.settings["user"], host.settings["user"])
    host.baseline[NAME] = host.listing(NAME)
    with host.patched("_guest/save.py", "if free < state_bytes:", "if False:"):
        refuses(host.refused("save", NAME), "did not save", "space")
    assert_sound(host, NAME, page)


def test_save_hangs(host: EngineHost) -> None:
    """A runtime that comes to nothing in the middle of a save is ended, and the guest goes on."""
    page = host.boot(NAME)
    with (
        host.patched("_guest/journal.py", "    SAVING: 60.0,", "    SAVING: -117.0,"),
        fault(host, "_guest/save.py", "sha256_of", "after", "os.kill(os.getpid(), 19)"),
    ):
        verb = host.begin("save", NAME)
        wait_until(host.stopped_runtimes, "nothing hangs", 30)
        verb.communicate()
        host.wait_quiet()
    assert_sound(host, NAME, page)


def test_killed_at_any_time(host: EngineHost) -> None:
    """Twenty saves and restores killed at moments that nobody chose."""
    page = host.boot(NAME)
    counter = page.counter
    page.close()
    for number in range(20):
        verb = host.begin("restore" if host.info(NAME)["state"] == "saved" else "save", NAME)
        time.sleep(0.1 + number * 0.05)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(verb.pid, signal.SIGKILL)
        verb.communicate()
        host.wait_quiet()
        state = host.info(NAME)["state"]
        assert (state, len(host.qemu_pids(NAME))) in [("running", 1), ("saved", 0)], state
    if host.info(NAME)["state"] == "saved":
        host.one("restore", NAME)
    assert_sound(host, NAME, went_on(host, NAME, counter))


def test_lost_without_recovery(host: EngineHost) -> None:
    """What the recovery protects from: a runtime killed in a save leaves the guest standing still for ever."""
    page = host.boot(NAME)
    with (
        host.patched("_guest/verbs.py", "lambda: _recover_all(config, names))", "lambda: None)"),
        fault(host, "_guest/save.py", "sha256_of", "after"),
    ):
        host.begin("save", NAME).communicate()
        host.wait_quiet()
    before = page.counter
    time.sleep(1)
    assert page.counter == before


def test_second_load_without_protection(host: EngineHost) -> None:
    """What the spent checkpoint protects from: killed after the guest ran, its state loads again to the memory it left behind."""
    page = host.boot(NAME)
    save(host, NAME)
    counter = page.counter
    page.close()
    with (
        host.patched("_guest/restore.py", "checkpoint_store.spend(self._paths, self._manifest)", "pass"),
        host.patched("_guest/restore.py", "        checkpoint_store.forget_spent(self._paths, self._definition)\n", ""),
    ):
        host.one("restore", NAME)
    went_on(host, NAME, counter).close()
    os.kill(host.only_qemu(NAME), 9)
    assert host.one("restore", NAME)["changed"]
