# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Starting one QEMU as a generation of a guest, and turning stored arguments into the ones it is started with."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._host.files import tail
from .._host.processes import Process, process
from .._host.programs import Started, spawn
from .arguments import GENERATION, LOG, file_driver
from .command_line import parse_command_line
from .errors import HostmemError
from .paths import GenerationPaths
from .qemu_options import format_options, parse_options


@dataclass
class QemuProcess:
    """A QEMU that is on its way to carry the guest. It outlives this program.

    ``popen`` when this program started it: in a session of its own, inheriting only the guest's lock and taps.
    """

    generation: GenerationPaths
    process: Process
    popen: Started | None = None

    def ended(self) -> bool:
        """Whether it runs no more."""
        return not self.process.alive() if self.popen is None else self.popen.poll() is not None

    def complaint(self, what: str) -> HostmemError:
        """An error with what QEMU wrote before it ended."""
        return HostmemError(
            what,
            cause=f"QEMU {self._fate()}.",
            cure="Correct what QEMU complains of. If it says nothing, see what its host does meanwhile (dmesg, vmstat).",
            qemu=qemu_output(self.generation),
        )

    def _fate(self) -> str:
        if not self.ended():
            return "still runs"
        if self.popen is None or self.popen.returncode is None:
            return "ended"
        status = self.popen.returncode
        return f"was killed by signal {-status}" if status < 0 else f"exited with {status}"

    def end(self) -> None:
        """SIGKILL: the files and sockets it made stay for whoever cleans up."""
        self.process.kill()
        self.ended()


def qemu_output(generation: GenerationPaths) -> str:
    """The end of what QEMU wrote to stderr and to its log."""
    return "\n".join(text for text in (tail(generation.output), tail(generation.debug_log)) if text)


def launch(binary: str, argv: list[str], generation: GenerationPaths, inherited: Sequence[int]) -> QemuProcess:
    """Start QEMU stopped (-S) with a QMP socket of its own.

    :param inherited: descriptors that QEMU keeps: of guest.lock and of the taps.
    :raises HostmemError: the program cannot be run.
    """
    words = command_line(binary, argv, generation)
    try:
        with open(generation.output, "ab") as output:
            popen = spawn(words, output, inherited)
    except OSError as error:
        raise HostmemError(
            f"QEMU {binary} cannot be started.",
            cause=str(error),
            cure="Check the package that provides it and the log directory.",
        ) from error
    started = process(popen.pid)
    return QemuProcess(generation, started or Process(popen.pid, -1), popen)


def command_line(binary: str, argv: list[str], generation: GenerationPaths) -> list[str]:
    """The words that start a generation: stopped (-S), with a QMP socket and a log of its own."""
    return [binary, *argv, "-S", "-qmp", f"unix:{generation.qmp},server=on,wait=off", "-D", generation.debug_log]


def fill_placeholders(argv: list[str], generation: GenerationPaths, others: Mapping[str, str]) -> list[str]:
    """Put the generation's directories, and the values of other placeholders (taps, devices), into stored arguments."""
    values = {GENERATION: generation.directory, LOG: generation.log_directory, **others}
    return [_filled(word, values) for word in argv]


def _filled(word: str, values: Mapping[str, str]) -> str:
    for placeholder, value in values.items():
        word = word.replace(placeholder, value)
    return word


def with_images(argv: list[str], images: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Let disks open other images: ``{"d0": {"path": …, "format": …}}``."""
    by_node = {f"disk-{key}": image for key, image in images.items()}

    def change(value: str) -> str:
        node = json.loads(value)
        image = by_node.get(str(node.get("node-name", "")))
        if image is None:
            return value
        node["driver"] = image["format"]
        node["file"] = {**node["file"], "driver": file_driver(image["path"]), "filename": image["path"]}
        return json.dumps(node, sort_keys=True)

    return _change_values(argv, "blockdev", change)


def for_incoming(argv: list[str], mem_paths: Mapping[str, str]) -> list[str]:
    """Arguments of a QEMU that takes a running guest over.

    Nothing is preallocated: kernels before 5.14 touch pages non-atomically while the old QEMU's guest still writes them.

    :param mem_paths: other paths to the same files, for blocks whose name is gone.
    """

    def change(value: str) -> str:
        options: dict[str, Any] = dict(parse_options(value, "qom-type"))
        kind = options.pop("qom-type", "")
        if not kind.startswith("memory-backend"):
            return value
        options["prealloc"] = "off"
        if "host-nodes" in options:
            options["host-nodes"] = options["host-nodes"].split(",")  # repeated keys were joined
        if options.get("id") in mem_paths:
            options["mem-path"] = mem_paths[options["id"]]
        return format_options(options, kind)

    return _change_values(argv, "object", change)


def _change_values(argv: list[str], name: str, change: Callable[[str], str]) -> list[str]:
    result = list(argv)
    for option in parse_command_line(argv):
        if option.name == name:
            result[option.index + 1] = change(option.value)
    return result
