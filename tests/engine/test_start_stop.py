# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cold starts, stops, definitions: changed only what changed, and nothing left behind."""

from __future__ import annotations

import json
import os
import pwd
import signal
import stat
from pathlib import Path

from support.engine import EngineHost, wait_until, waits_for_lock
from support.host import USER
from support.materials import small_tmpfs
from support.sound import assert_alive, assert_sound, refuses


def test_start(host: EngineHost) -> None:
    definition = host.heartbeat("g")
    assert host.define(definition)["changed"]
    assert not host.define(definition)["changed"]
    assert host.one("start", "--check", "g")["changed"]
    assert host.qemu_pids("g") == []
    result = host.one("start", "g")
    assert result["changed"]
    assert result["pid"] == host.only_qemu("g")
    assert not host.one("start", "--check", "g")["changed"]
    assert not host.one("start", "g")["changed"]
    assert result["pid"] == host.only_qemu("g")
    assert_alive(host.page("g"))


def test_unprivileged_and_hidden(host: EngineHost) -> None:
    """QEMU is not root, and nobody else may look into the guest's memory or talk to its QEMU."""
    host.boot("g")
    user = pwd.getpwnam(USER)
    assert os.stat(f"/proc/{host.only_qemu('g')}").st_uid == user.pw_uid
    file = host.ram_file("g")
    for path, mode in ((file, 0o600), (file.parent, 0o700), (host.run_directory("g"), 0o700)):
        found = path.stat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid) == (mode, user.pw_uid), path


def test_power_down(host: EngineHost) -> None:
    """The guest hears of it, and ends by itself."""
    host.boot("g").close()
    assert host.one("stop", "--check", "g")["changed"]
    assert host.one("stop", "g")["how"] == "powered down"
    assert host.console("g").endswith("P\n")
    assert host.qemu_pids("g") == []
    assert not host.memory.joinpath("g").exists()
    assert sorted(path.name for path in host.run_directory("g").iterdir()) == ["guest.lock", "verb.lock"]
    assert not host.one("stop", "--check", "g")["changed"]
    assert host.one("stop", "g")["how"] == "stopped already"


def test_quit_when_the_guest_is_deaf(host: EngineHost) -> None:
    host.boot("g").close()
    with host.qmp("g") as qmp:
        qmp("stop")
    assert host.one("stop", "--timeout", "1", "g")["how"] == "quit"
    assert host.qemu_pids("g") == []


def test_kill_when_qemu_is_deaf(host: EngineHost) -> None:
    host.boot("g").close()
    os.kill(host.only_qemu("g"), signal.SIGSTOP)
    with host.patched("_guest/qmp.py", "COMMAND_TIMEOUT = 10.0", "COMMAND_TIMEOUT = 2.0"):
        assert host.one("stop", "g")["how"] == "killed"
    assert host.qemu_pids("g") == []


def test_stop_and_start_keep_nothing(host: EngineHost) -> None:
    """A stopped guest's memory is gone; the console log goes on."""
    host.boot("g").close()
    host.one("stop", "g")
    page = host.boot("g")
    assert page.boots == 1
    assert host.console("g").count("B\n") == 2
    assert_sound(host, "g", page)


def test_start_after_a_killed_qemu(host: EngineHost) -> None:
    host.boot("g").close()
    os.kill(host.only_qemu("g"), signal.SIGKILL)
    page = host.boot("g")
    assert_alive(page)


def test_failed_start_leaves_nothing(host: EngineHost) -> None:
    host.define(host.heartbeat("g", kernel={"image": "/nonexistent"}))
    error = host.refused("start", "g")
    assert "could not open kernel file '/nonexistent'" in error["qemu"]
    assert host.qemu_pids("g") == []
    assert not host.memory.joinpath("g").exists()
    assert sorted(path.name for path in host.run_directory("g").iterdir()) == ["guest.lock", "verb.lock"]
    assert host.boot("g").boots == 1


def test_two_starts_at_once(host: EngineHost) -> None:
    host.define(host.heartbeat("g"))
    starts = [host.begin("start", "g") for _number in range(3)]
    for start in starts:
        start.communicate()
    assert [start.returncode for start in starts] == [0, 0, 0]
    assert_alive(host.page("g"))


def test_batch(host: EngineHost) -> None:
    """One of several that fails keeps none of the others from its turn; results come in the order of the names."""
    for name in ("a", "b", "c"):
        definition = host.heartbeat(name)
        if name == "b":
            definition["kernel"] = {"image": "/nonexistent"}
        host.define(definition)
    results = host.run("start", "c", "b", "a")
    assert [(item["guest"], item["ok"]) for item in results] == [("c", True), ("b", False), ("a", True)]
    assert [item["state"] for item in host.run("info")] == ["running", "stopped", "running"]
    assert [item["changed"] for item in host.run("stop", "--all")] == [True, False, True]


def test_undefine(host: EngineHost) -> None:
    host.boot("g").close()
    refuses(host.refused("undefine", "g"), "Guest g runs", "Stop it first")
    host.one("stop", "g")
    assert host.one("undefine", "--check", "g")["changed"]
    assert host.one("undefine", "g")["changed"]
    assert not host.one("undefine", "g")["changed"]
    left = [path for name in ("run", "log", "state", "definitions") for path in Path(host.settings[name]).glob("[!.]*")]
    assert left == []
    assert list(host.memory.iterdir()) == []


def test_new_definition_waits_for_the_next_start(host: EngineHost) -> None:
    page = host.boot("g")
    changed = host.heartbeat("g", consoles=[])
    assert host.define(changed)["definition_pending"]
    assert host.info("g")["definition_pending"]
    assert_sound(host, "g", page)  # which updates, with the old definition
    assert "isa-serial" in Path(f"/proc/{host.only_qemu('g')}/cmdline").read_text()
    page.close()
    host.one("stop", "g")
    host.one("start", "g")
    assert "isa-serial" not in Path(f"/proc/{host.only_qemu('g')}/cmdline").read_text()
    assert not host.info("g")["definition_pending"]


def test_short_tmpfs(host: EngineHost) -> None:
    """The guest would be killed by SIGBUS, without a word, when it touches what is not there."""
    place = host.root / "small"
    small_tmpfs(host, place, "size=48M,mode=755")
    host.define(host.heartbeat("g", memory={"blocks": [host.block("g", directory=str(place / "g"))]}))
    refuses(host.refused("start", "g"), "not enough space", "64M", "Enlarge the pool or mount")
    assert list(place.iterdir()) == []


def test_tmpfs_promised_to_others(host: EngineHost) -> None:
    """What a running guest has not touched yet is not free."""
    place = host.root / "small"
    small_tmpfs(host, place, "size=120M,mode=755")
    page = host.boot("a", memory={"blocks": [host.block("a", directory=str(place / "a"))]})
    host.define(host.heartbeat("b", memory={"blocks": [host.block("b", directory=str(place / "b"))]}))
    refuses(host.refused("start", "b"), "not enough space", "not touched yet")
    assert_alive(page)


def test_starts_and_stops_at_once(host: EngineHost) -> None:
    """Whatever comes last, the guest runs whole or not at all."""
    host.define(host.heartbeat("g"))
    verbs = [host.begin(*words) for words in (("start", "g"), ("stop", "--timeout", "0", "g")) * 4]
    answers = [verb.communicate()[0] for verb in verbs]
    assert [verb.returncode for verb in verbs] == [0] * 8, answers
    if host.qemu_pids("g"):
        page = host.page("g")
        wait_until(lambda: page.ready, "the guest did not start")
        assert_alive(page)
    else:
        assert not (host.memory / "g").exists()


AWAIT = """
import time


def _await(path):
    while not os.path.exists(path):
        time.sleep(0.01)
"""


def test_stop_that_found_nothing_and_a_start(host: EngineHost) -> None:
    """What the start makes while the stop is under way is not the stop's to remove."""
    host.define(host.heartbeat("g"))
    looked, stopped = host.root / "looked", host.root / "stopped"
    act = f"open({str(looked)!r}, 'w').close(); _await({str(host.ram_file('g'))!r})"
    start = "    started = guarded("
    with (
        host.patched("_guest/verbs.py", start, f"    _await({str(stopped)!r})\n{start}"),
        host.at_function("_guest/verbs.py", "_stop", act, "before"),
        host.appended("_guest/verbs.py", AWAIT),
    ):
        stopping = host.begin("stop", "g")
        wait_until(looked.exists, "the stop did not begin")
        starting = host.begin("start", "g")
        said = stopping.communicate()[0]
        stopped.touch()
        said += starting.communicate()[0]
    assert (stopping.returncode, starting.returncode) == (0, 0), said
    page = host.page("g")
    wait_until(lambda: page.ready, "the guest did not start")
    assert_alive(page)


def test_undefine_and_a_start(host: EngineHost) -> None:
    """A guest that has not run since the host booted has no directory to lock until one of them makes it."""
    host.define(host.heartbeat("g"))
    begun, go = host.root / "begun", host.root / "go"
    act = f"open({str(begun)!r}, 'w').close(); _await({str(go)!r})"
    with (
        host.at_function("_guest/verbs.py", "undefine", act, "before"),
        host.appended("_guest/verbs.py", AWAIT),
    ):
        undefining = host.begin("undefine", "g")
        wait_until(begun.exists, "undefine did not begin")
        starting = host.begin("start", "g")
        wait_until(lambda: starting.poll() is not None or waits_for_lock(starting.pid), "the start does not wait")
        go.touch()
        undefining.communicate()
        answer = json.loads(starting.communicate()[0])
    assert (undefining.returncode, starting.returncode) == (0, 1)
    refuses(answer["results"][0]["error"], "There is no guest g")
    assert not host.qemu_pids("g")
    assert not (host.memory / "g").exists()


def test_memory_directory_that_may_not_be_read(host: EngineHost) -> None:
    """As the guarded mount point of a mount that is missing: the guest is off, and its facts say why it would not start."""
    host.define(host.heartbeat("g"))
    directory = host.memory / "g"
    directory.mkdir(parents=True)
    directory.chmod(0)
    info = host.info("g")
    assert info["state"] == "stopped"
    refuses(info["start_refused"], str(directory), "EACCES")
