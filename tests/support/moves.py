# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two hosts on one machine between which guests move over TCP, each with its own runtime, directories, memory and QEMU."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.credentials import Authority
from support.engine import EngineHost, wait_until
from support.host import USER
from support.sound import assert_alive, assert_nothing_left, assert_sound

ADDRESS = "127.0.0.1"
# In their certificates.
SOURCE, TARGET = "hv1.example.com", "hv2.example.com"


class TwoHosts:
    """Guest ``name`` runs on ``source``; ``target`` has a definition of it, too."""

    def __init__(self, source: EngineHost, version: str = "10.0", name: str = "g") -> None:
        self.source = source
        self.name = name
        self.target = self._made = EngineHost(Path(tempfile.mkdtemp(prefix="hm", dir="/tmp")), version)
        self.authority = Authority(source.root / "fake-authority")
        for host, own in ((self.source, SOURCE), (self.target, TARGET)):
            self.equip(host, self.authority, own)
        let_use_userfaultfd()
        self.asked_no_more = self.target.root / "fake-asked-no-more"
        self.target.later.enter_context(self._lingering_until_then(self.target))
        self.options: list[str] = []
        # A busy machine may keep a guest waiting: that calls no move off.
        self.patience = ["--max-pause", "20"]
        self.page: Any = None
        self.counter = 0
        self.port = 0

    def equip(self, host: EngineHost, authority: Authority, own: str) -> str:
        """Give a host certificates of an authority for a name; those it had are not used any more. The directory."""
        directory = host.root / f"fake-tls-{len(list(host.root.glob('fake-tls-*')))}"
        host.configure(tls=str(authority.equip(directory, [own, ADDRESS], pwd.getpwnam(USER).pw_uid)))
        return str(directory)

    def _lingering_until_then(self, host: EngineHost) -> contextlib.AbstractContextManager[None]:
        """A host that gave a guest up tells so for a while: not when the test knows that nobody asks any more."""
        limit = "silent > LINGER"
        known = f'__import__("os").path.exists({str(self.asked_no_more)!r})'
        return host.patched("_guest/arrival.py", limit, f"{limit} or {known}")

    def boot(self, **changes: Any) -> None:
        """The guest on the source, and its definition on the target."""
        self.page = self.source.boot(self.name, **changes)
        self.target.define(self.target.heartbeat(self.name, **changes))

    def disk(self, **changes: Any) -> dict[str, Any]:
        """What a definition says of an empty disk, in a file that both hosts have."""
        path = self.source.root / "fake-disk.raw"
        path.write_bytes(b"\0" * (1 << 20))
        path.chmod(0o666)
        return {"id": "d0", "path": str(path), "format": "raw", **changes}

    # --- moves

    def look(self) -> Any:
        """The guest's status page on the source, mapped anew: nobody else may map the memory that a moved guest leaves."""
        self.page = self.source.page(self.name)
        return self.page

    def wait_for_guest(self, *options: str) -> subprocess.Popen[str]:
        """Let the target wait for the guest, until it listens."""
        if self.page is not None:
            self.counter = self.page.counter
            self.page.close()
            self.page = None
        with socket.socket() as probe:
            probe.bind((ADDRESS, 0))
            self.port = probe.getsockname()[1]
        words = ["--listen", ADDRESS, "--port", str(self.port), *self.options, *options]
        receiving = self.target.begin("receive", *words, self.name)
        self.target.later.callback(receiving.kill)
        wait_until(lambda: listens(self.port) or receiving.poll() is not None, "the target does not wait", 30)
        return receiving

    def words(self, method: str, *options: str) -> list[str]:
        """The verb that sends the guest."""
        words = ["migrate", "--to", ADDRESS, "--port", str(self.port), "--method", method]
        return [*words, *self.patience, *self.options, *options, self.name]

    def move(self, method: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Move the guest; the results of both verbs, which must succeed."""
        receiving = self.wait_for_guest()
        sent = self.source.one(*self.words(method))
        return sent, result_of(receiving)

    def gave_up(self, receiving: subprocess.Popen[str]) -> dict[str, Any]:
        """The error of the verb that waited on the target, which must fail. The source has nothing to ask any more."""
        self.asked_no_more.touch()
        answer = answer_of(receiving)
        assert not answer["ok"], answer
        error: dict[str, Any] = answer["error"]
        return error

    def assert_still_waits(self, receiving: subprocess.Popen[str]) -> None:
        """The target does; and not any more afterwards, as its runtime is killed."""
        assert receiving.poll() is None, receiving.communicate()
        assert listens(self.port)
        self.kill_runtime(self.target)
        output, errors = receiving.communicate(timeout=60)
        assert not json.loads(output)["results"][0]["ok"]
        assert errors == ""

    def has_come(self, receiving: subprocess.Popen[str]) -> bool:
        """Whether the guest has, to the verb that waits on the target. The source has nothing to ask any more."""
        with contextlib.suppress(FileNotFoundError):  # it is over
            journal = self.target.run_directory(self.name) / "journal.json"
            if not json.loads(journal.read_text()).get("token"):
                self.assert_still_waits(receiving)
                return False
        self.asked_no_more.touch()
        return bool(answer_of(receiving)["ok"])

    def kill_runtime(self, host: EngineHost) -> None:
        """Kill the program that wrote the last step of the journal on this host."""
        entry = json.loads((host.run_directory(self.name) / "journal.json").read_text())
        os.kill(entry["pid"], signal.SIGKILL)

    # --- looking from outside

    def assert_arrived(self) -> None:
        """The guest runs on the target, unharmed, and nowhere else; nothing of it is left on the source, where it stands still."""
        for host in (self.source, self.target):
            host.wait_quiet()
        assert self.source.qemu_pids(self.name) == []
        assert list(self.source.memory.rglob("*qemu_back_mem*")) == []
        assert not (self.source.run_directory(self.name) / "journal.json").exists()
        here = self.target.page(self.name)
        assert here.counter > self.counter
        self.target.baseline[self.name] = self.target.listing(self.name)
        assert_alive(here)
        assert_sound(self.target, self.name, here)
        self.assert_never_two()
        refused = self.source.refused("start", self.name)
        assert "was moved to" in refused["message"]

    def assert_stayed(self) -> None:
        """The guest runs on the source, unharmed, and nothing is left of what was tried."""
        for host in (self.source, self.target):
            host.wait_quiet()
        self.assert_target_empty()
        assert_nothing_left(self.source, self.name)
        assert_sound(self.source, self.name, self.look())
        self.assert_never_two()

    def assert_lost(self) -> None:
        """The guest runs nowhere, and did never twice; on the source it starts anew."""
        for host in (self.source, self.target):
            host.wait_quiet()
            assert host.qemu_pids(self.name) == []
        self.assert_never_two()
        assert self.source.one("start", self.name)["changed"]

    def assert_target_empty(self) -> None:
        """Neither QEMU nor memory, journal or mark of the guest."""
        assert self.target.qemu_pids(self.name) == []
        assert list(self.target.memory.rglob("*qemu_back_mem*")) == []
        left = {path.name for path in self.target.run_directory(self.name).iterdir()}
        assert left <= {"verb.lock", "guest.lock"}, left
        for mark in ("running.json", "moved.json"):
            assert not (Path(self.target.settings["state"]) / self.name / mark).exists(), mark

    def assert_never_two(self) -> None:
        """At no instant two QEMUs of the two hosts ran the guest, by the run states that they wrote down."""
        spans = sorted(span for host in (self.source, self.target) for span in running_spans(host, self.name))
        for (begin, end, one), (following, _end, other) in zip(spans, spans[1:]):
            assert end <= following, f"{one} ran from {begin} to {end}, {other} from {following}"

    def console_there(self) -> str:
        """The target's part of the console log."""
        log = Path(self.target.settings["log"]) / self.name / "console-c0.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def clean(self) -> None:
        self._made.clean()


def let_use_userfaultfd() -> None:
    """As the role does it: post-copy of an unprivileged QEMU needs the device (vm.unprivileged_userfaultfd is 0). It stays so."""
    shutil.chown("/dev/userfaultfd", group=USER)
    os.chmod("/dev/userfaultfd", 0o660)


def once(host: EngineHost, act: str) -> str:
    """Code for ``EngineHost.at_step`` and the like that does ``act`` the first time only: not in a recovery, which comes by there again."""
    place = host.root / f"fake-once-{len(list(host.root.glob('fake-once-*')))}"
    place.mkdir()
    place.chmod(0o777)
    mark = str(place / "done")
    return f"os.path.exists({mark!r}) or (open({mark!r}, 'w').close(), {act})"


def running_spans(host: EngineHost, name: str) -> list[tuple[float, float, str]]:
    """When QEMUs of a host ran the guest: begin, end (infinite for one that was killed, or still runs), and which."""
    spans: list[tuple[float, float, str]] = []
    begun: dict[int, float] = {}
    for state in host.run_states(name):
        if state.new == "running":
            begun[state.generation] = state.at
        elif state.old == "running":
            spans.append((begun.pop(state.generation), state.at, f"{host.root} {state.generation}"))
    return spans + [(at, float("inf"), f"{host.root} {generation}") for generation, at in begun.items()]


@contextlib.contextmanager
def impatient(hosts: TwoHosts) -> Iterator[None]:
    """The target with short deadlines for a source that is silent."""
    with (
        hosts.target.patched("_guest/arrival.py", "\nSILENCE = 15.0", "\nSILENCE = 4.0"),
        hosts.target.patched("_guest/arrival.py", "LINGER = 20.0", "LINGER = 6.0"),
    ):
        yield


@contextlib.contextmanager
def hasty(host: EngineHost) -> Iterator[None]:
    """A source that does not wait long for a target that is gone."""
    with (
        host.patched("_guest/departure.py", "REJOIN_TIMEOUT = 300.0", "REJOIN_TIMEOUT = 2.0"),
        host.patched("_guest/departure.py", "_REJOIN_ANSWER = 15.0", "_REJOIN_ANSWER = 2.0"),
        host.patched("_guest/departure.py", "ORDER_TIMEOUT = 30.0", "ORDER_TIMEOUT = 3.0"),
    ):
        yield


def not_dialling_long(host: EngineHost) -> contextlib.AbstractContextManager[None]:
    """A source that does not wait long for a target to which it has said nothing yet."""
    return host.patched("_guest/send.py", "_TERMS_TIMEOUT = 20.0", "_TERMS_TIMEOUT = 2.0")


def listens(port: int) -> bool:
    """Whether somebody waits for connections on this port, without connecting."""
    wanted = f":{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[1].endswith(wanted) and words[3] == "0A":
            return True
    return False


def result_of(verb: subprocess.Popen[str], seconds: float = 120.0) -> dict[str, Any]:
    """The result of a verb that runs in the background, which must succeed."""
    result = answer_of(verb, seconds)
    assert result["ok"], result
    return result


def answer_of(verb: subprocess.Popen[str], seconds: float = 120.0) -> dict[str, Any]:
    """The same, whatever it is."""
    output, errors = verb.communicate(timeout=seconds)
    assert output.strip(), errors
    answer: dict[str, Any] = json.loads(output)["results"][0]
    return answer


def asked(hosts: TwoHosts, **message: Any) -> dict[str, Any]:
    """What the target answers to a stranger."""
    with socket.create_connection((ADDRESS, hosts.port), 20) as line, line.makefile("rwb") as file:
        file.write(json.dumps(message).encode() + b"\n")
        file.flush()
        answer: dict[str, Any] = json.loads(file.readline())
        return answer


@contextlib.contextmanager
def two_hosts(source: EngineHost, version: str = "10.0", name: str = "g") -> Iterator[TwoHosts]:
    """The host of a test and another one."""
    hosts = TwoHosts(source, version, name)
    try:
        yield hosts
    finally:
        hosts.clean()
