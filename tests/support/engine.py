# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host for engine tests whose guests tell every change of their run state, and whose engine can be broken on purpose."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.definition import Definition, parse_definition
from ansible_collections.hostmem.qemu.plugins.plugin_utils._render import render_argv
from support.host import QEMU_TREES, Host
from support.watch import STATUS_OFFSET, StatusPage

# QEMU writes each change of the run state to its log (-D), with the time in microseconds.
TRACE = ["-msg", "timestamp=on", "-trace", "runstate_set"]
# QEMU 10.0: `PID@SECONDS.MICROSECONDS:runstate_set ...`, 11.1: `2026-01-01T00:00:00.000000Z runstate_set ...`.
_STATE = re.compile(r"(?:\d+@(\d+\.\d+):|(\S+)Z )runstate_set current_run_state \d+ \((\S+)\) new_state \d+ \((\S+)\)")
_RAM_BLOCK = re.compile(r"^\s*(\S+)\s+\d+ [KMG]iB\s+0x[0-9a-f]+\s+0x[0-9a-f]+\s+0x([0-9a-f]+)\s+0x([0-9a-f]+)")


class RunState(NamedTuple):
    """One change of a QEMU's run state; ``at`` in seconds since the epoch."""

    at: float
    generation: int
    old: str
    new: str


class PrivatePage:
    """The status page of a guest whose RAM is mapped private: its file never sees what the guest writes."""

    def __init__(self, pid: int, address: int) -> None:
        self._file = open(f"/proc/{pid}/mem", "rb", buffering=0)  # noqa: SIM115  closed by close()
        self._address = address + STATUS_OFFSET

    def _words(self) -> tuple[int, ...]:
        return struct.unpack("<IIQIII", os.pread(self._file.fileno(), 28, self._address))

    boots = property(lambda self: self._words()[1])
    counter = property(lambda self: self._words()[2])
    errors = property(lambda self: self._words()[3])
    ready = property(lambda self: self._words()[4] == 1)

    def close(self) -> None:
        self._file.close()


class EngineHost(Host):
    """A ``Host`` with a copy of the engine that a test may change, and a way to look at guests from outside."""

    def __init__(self, root: Path, version: str = "10.0") -> None:
        super().__init__(root, version)
        self.later = contextlib.ExitStack()
        self.baseline: dict[str, list[str]] = {}

    # --- guests

    def heartbeat(self, name: str, size: str = "64M", hertz: int = 1000, **changes: Any) -> dict[str, Any]:
        """A heartbeat guest whose QEMU logs its run states."""
        definition = super().heartbeat(name, size, hertz, **changes)
        definition["arguments"] = [*TRACE, *definition.get("arguments", [])]
        return definition

    def definition(self, name: str) -> Definition:
        """The definition as it lies on the host."""
        data = json.loads((Path(self.settings["definitions"]) / f"{name}.json").read_text())
        return parse_definition(data["definition"])

    def block(self, name: str, **changes: Any) -> dict[str, Any]:
        """One memory block of a guest, in the place the heartbeat's would lie."""
        return {"id": "ram0", "size": "64M", "backing": "tmpfs", "directory": str(self.memory / name), **changes}

    def boot(self, name: str, **changes: Any) -> Any:
        """Define and start a heartbeat guest; its status page once its memory is filled."""
        return self.boot_defined(self.heartbeat(name, **changes))

    def boot_defined(self, definition: dict[str, Any]) -> Any:
        """The same with a whole definition."""
        self.start(definition)
        name = definition["name"]
        page = self.page(name)
        wait_until(lambda: page.ready, f"{name} did not fill its memory")
        self.baseline[name] = self.listing(name)
        return page

    def page(self, name: str, block: str = "ram0") -> Any:
        """The status page in the block, wherever that lies."""
        pid = self.only_qemu(name)
        address = self._address(name, block)
        start, end, permissions = mapping(pid, address)
        if permissions.endswith("p"):
            page: Any = PrivatePage(pid, address)
        else:
            page = StatusPage(f"/proc/{pid}/map_files/{start:x}-{end:x}")
        self.later.callback(page.close)
        return page

    def ram_path(self, name: str, block: str = "ram0") -> Path:
        """A path to the RAM of the running guest that needs no file name."""
        pid = self.only_qemu(name)
        start, end, _permissions = mapping(pid, self._address(name, block))
        return Path(f"/proc/{pid}/map_files/{start:x}-{end:x}")

    def _address(self, name: str, block: str) -> int:
        with self.qmp(name) as qmp:
            text = qmp("x-query-ramblock")["human-readable-text"]
        for line in text.splitlines():
            match = _RAM_BLOCK.match(line)
            if match and match.group(1) == block:
                return int(line.split()[-2], 16)
        raise AssertionError(f"{name} has no RAMBlock {block}: {text}")

    def qemu_pids(self, name: str) -> list[int]:
        """All processes started with a place in the guest's run directory, whatever program they are."""
        wanted = f"{self.settings['run']}/{name}/gen-".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if wanted in (entry / "cmdline").read_bytes() and process_state(int(entry.name)) not in "ZX":
                        found.append(int(entry.name))
        return sorted(found)

    def only_qemu(self, name: str) -> int:
        """The process of the one QEMU that carries the guest."""
        pids = self.qemu_pids(name)
        if len(pids) != 1:
            raise AssertionError(f"{len(pids)} QEMUs carry {name}: {pids}")
        return pids[0]

    def run_directory(self, name: str) -> Path:
        return Path(self.settings["run"]) / name

    def generation(self, name: str) -> int:
        """The number of the current generation, from the link that users follow."""
        return int(os.readlink(self.run_directory(name) / "current").removeprefix("gen-"))

    def console(self, name: str, console: str = "c0") -> str:
        """The whole console log."""
        return (Path(self.settings["log"]) / name / f"console-{console}.log").read_text(errors="replace")

    def run_states(self, name: str) -> list[RunState]:
        """All changes of run state that the logs of the guest's QEMUs still tell, in their order."""
        found = []
        for path in (Path(self.settings["log"]) / name).glob("qemu-*.debug.log"):
            number = int(path.name.split(".")[0].removeprefix("qemu-"))
            for match in _STATE.finditer(path.read_text(errors="replace")):
                seconds, iso, old, new = match.groups()
                at = float(seconds) if seconds else datetime.fromisoformat(iso + "+00:00").timestamp()
                found.append(RunState(at, number, old, new))
        return sorted(found)

    # --- everything that a verb may leave

    def listing(self, name: str) -> list[str]:
        """All that exists because of the guest, generations without their numbers; logs of dead QEMUs, tokens of spent checkpoints and what
        became of moves are kept on purpose."""
        found = []
        places = [
            self.run_directory(name),
            Path(self.settings["state"]),
            Path(self.settings["definitions"]),
            self.memory,
        ]
        for place in places:
            for path in place.rglob("*"):
                found.append(re.sub(r"/gen-\d+", "/gen-N", str(path)))
        found += [str(path) for path in self.root.iterdir() if not path.name.startswith("fake-")]
        stems = tuple(f"{nic.tap}." for nic in self.definition(name).nics if nic.type == "tap")
        found += [f"tap {tap}" for tap in os.listdir("/sys/class/net") if stems and tap.startswith(stems)]
        return sorted(path for path in found if not re.search("/spent.json$|/arrivals(/|$)", path))

    def runtimes(self) -> list[int]:
        """Processes of this host's runtime: verbs and their watchdogs."""
        wanted = str(self.config).encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    if wanted in words and process_state(int(entry.name)) not in "ZX":
                        found.append(int(entry.name))
        return found

    def stopped_runtimes(self) -> list[int]:
        """Those that have stopped themselves (SIGSTOP)."""
        return [pid for pid in self.runtimes() if process_state(pid) == "T"]

    def wait_quiet(self) -> None:
        """Wait until no verb and no watchdog is at work any more, without doing anything."""
        wait_until(lambda: not self.runtimes(), "a verb or a watchdog never ended", 120)

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Run a verb in the background, in a process group of its own."""
        pipe = subprocess.PIPE
        return subprocess.Popen(self.command(*words), stdout=pipe, stderr=pipe, text=True, start_new_session=True)

    # --- breaking the installed QEMU

    def install_impostor(self, incoming: str, version: str = "11.1", asked: str = "") -> None:
        """A program that is QEMU when asked what it is, and runs other shell code when it is to take a guest over.

        :param incoming: code in the place of QEMU; ``$REAL`` is the real one.
        :param asked: code run before it answers what it is (``with_other_answers``).
        """
        real = QEMU_TREES / version / "usr" / "bin" / "qemu-system-x86_64"
        self.install_file(
            f'#!/bin/sh\nREAL={real}\ncase " $* " in\n*" -incoming "*)\n{incoming}\n;;\nesac\n{asked}\nexec "$REAL" "$@"\n'
        )

    def install_altered(self, code: str, version: str = "11.1") -> None:
        """A QEMU that differs from what it is asked for when it is to take a guest over.

        ``code`` is Python that may change ``words``, the arguments, or ``text``, all of them in lines.
        """
        real = QEMU_TREES / version / "usr" / "bin" / "qemu-system-x86_64"
        self.install_file(_ALTERED.format(real=str(real), code=code))

    # --- breaking the engine

    @contextlib.contextmanager
    def patched(self, path: str, old: str, new: str) -> Iterator[None]:
        """The runtime with one piece of ``_guest/FILE.py`` replaced; a piece that is not there once fails the test."""
        file = self.tree / "hostmem" / path
        original = file.read_text()
        if original.count(old) != 1:
            raise AssertionError(f"{path} has {original.count(old)} times: {old}")
        with self._written(file, original, original.replace(old, new)):
            yield

    @contextlib.contextmanager
    def appended(self, path: str, code: str) -> Iterator[None]:
        """The runtime with code added at the end of a file."""
        file = self.tree / "hostmem" / path
        original = file.read_text()
        with self._written(file, original, original + code):
            yield

    @contextlib.contextmanager
    def _written(self, file: Path, original: str, changed: str) -> Iterator[None]:
        self._write_source(file, changed)
        try:
            yield
        finally:
            self._write_source(file, original)

    def _write_source(self, file: Path, text: str) -> None:
        file.write_text(text)
        # Byte code is trusted by time and size of its source, which two writes within a second may share.
        for code in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):
            code.unlink(missing_ok=True)

    @contextlib.contextmanager
    def unchecked(self) -> Iterator[None]:
        """The runtime without its check of rendered arguments: what a template of a user's could do then."""
        with self.patched("_guest/store.py", "    check_argv(definition, argv)\n", ""):
            yield

    def define_altered(self, definition: dict[str, Any], old: str, new: str) -> dict[str, Any]:
        """Define a guest with a piece of its rendered arguments replaced, as by a template of a user's; the verb's result."""
        text = "\n".join(render_argv(parse_definition(definition)))
        if text.count(old) != 1:
            raise AssertionError(f"{text.count(old)} times in the arguments: {old}\n{text}")
        self.names.append(definition["name"])
        data = {"definition": definition, "argv": text.replace(old, new).split("\n")}
        return self.run("define", stdin=json.dumps(data))[0]

    def at_step(self, step: str, act: str, when: str = "after") -> contextlib.AbstractContextManager[None]:
        """The runtime doing ``act`` right before or after it writes a step of its journal.

        ``act`` is Python; it may use ``os``, ``qemu(number)`` (processes of a generation) and ``facts`` (of the entry).
        """
        return self.appended("_guest/journal.py", _AT_STEP.format(step=step, act=act, when=when))

    def at_command(self, command: str, act: str, when: str = "after") -> contextlib.AbstractContextManager[None]:
        """The runtime doing ``act``, Python that may use ``os``, right before or after QEMU carried a QMP command out."""
        return self.appended("_guest/qmp.py", _AT_COMMAND.format(command=command, act=act, when=when))

    def at_function(
        self, path: str, function: str, act: str, when: str = "after"
    ) -> contextlib.AbstractContextManager[None]:
        """The runtime doing ``act`` right before or after a function that stands, or is imported, in a file of the engine is called."""
        return self.appended(path, AT_FUNCTION.format(function=function, act=act, when=when))

    # --- the end

    def clean(self) -> None:
        for pid in self.runtimes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            super().clean()
        finally:
            self.later.close()
            for place in (self.root, self.memory):
                shutil.rmtree(place, ignore_errors=True)


_AT_STEP = """

# --- planted by a test
import os
from .._host.processes import command_lines as _command_lines

_true_write = Journal.write


def _act(journal, facts):
    def qemu(number):
        wanted = f"unix:{{os.path.dirname(journal._path)}}/gen-{{number}}/qmp.sock,"
        return [pid for pid, words in _command_lines() if any(word.startswith(wanted) for word in words)]

    {act}


def _faulty_write(journal, step, **facts):
    if (step, "before") == ({step!r}, {when!r}):
        _act(journal, facts)
    _true_write(journal, step, **facts)
    if (step, "after") == ({step!r}, {when!r}):
        _act(journal, facts)


Journal.write = _faulty_write
"""


_AT_COMMAND = """

# --- planted by a test
import os

_true_send = Qmp.send


async def _faulty_send(self, command, arguments):
    if (command, "before") == ({command!r}, {when!r}):
        {act}
    answer = await _true_send(self, command, arguments)
    if (command, "after") == ({command!r}, {when!r}):
        {act}
    return answer


Qmp.send = _faulty_send
"""


# Appended to a file of the engine, on whatever host it lies.
AT_FUNCTION = """

# --- planted by a test
import os

_true_function = {function}


def {function}(*arguments, **options):
    if {when!r} == "before":
        {act}
    answer = _true_function(*arguments, **options)
    if {when!r} == "after":
        {act}
    return answer
"""


_ALTERED = """#!/usr/bin/python3 -IS
import os
import sys

words = sys.argv[1:]
if "-incoming" in words:
    text = "\\n".join(words)
    before = text, list(words)
    {code}
    if text != before[0]:
        words = text.split("\\n")
    if words == before[1]:
        sys.exit("the test changed nothing")
os.execv({real!r}, [{real!r}, *words])
"""


def with_other_answers(edit: str) -> str:
    """For ``install_impostor``: QEMU says something else of itself. ``edit`` is an expression of sed(1) for its lines of QMP."""
    return f'case " $* " in *" -qmp stdio "*) "$REAL" "$@" | sed -u -E \'{edit}\'; exit;; esac'


def as_version(version: str) -> str:
    """Such an expression: QEMU says that it is of this version."""
    major, minor, micro = version.split(".")
    numbers = f'"micro": {micro}, "minor": {minor}, "major": {major}'
    return 's/"qemu": \\{[^}]*\\}/"qemu": {' + numbers + "}/"


def wait_until(condition: Callable[[], Any], complaint: str, seconds: float = 60.0) -> None:
    """Wait for something that comes by itself."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            raise AssertionError(complaint)
        time.sleep(0.005)


def waits_for_lock(pid: int) -> bool:
    """Whether a process waits for a lock of flock(2), by the kernel's list."""
    with open("/proc/locks", encoding="ascii") as locks:
        return any(words[1:3] == ["->", "FLOCK"] and int(words[5]) == pid for words in map(str.split, locks))


def process_state(pid: int) -> str:
    """R, S, T, Z, …: the state letter of a process; X when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return "X"
    return text.rpartition(")")[2].split()[0]


def mapping(pid: int, address: int) -> tuple[int, int, str]:
    """Start, end and permissions of the mapping at an address of a process."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, permissions = line.split()[:2]
        start, end = (int(part, 16) for part in span.split("-"))
        if start <= address < end:
            return start, end, permissions
    raise AssertionError(f"process {pid} maps nothing at {address:#x}")
