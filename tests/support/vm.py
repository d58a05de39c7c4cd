# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test hosts that are virtual machines: two NUMA nodes of 5 and 3 GiB, an NVDIMM of 1 GiB on node 1, Debian 13 with its kernel."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable

from support.vm_host import VmHost
from support.vm_template import Template, build_system


def main() -> int:
    """Do what the command line says; the exit status."""
    options = _parser().parse_args()
    try:
        status: int = options.act(options)
    except (OSError, RuntimeError, ValueError, subprocess.CalledProcessError) as error:
        print(f"vm: {error}", file=sys.stderr)
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vm", description=__doc__)
    verbs = parser.add_subparsers(required=True)
    start = _verb(
        verbs,
        "start",
        _start,
        "start a new host, from its saved state if it has one; prints the port of its SSH server",
    )
    start.add_argument("--cold", action="store_true", help="boot it instead")
    start.add_argument("--peer", help="the host at the other end of its private link")
    _verb(verbs, "stop", _stop, "end a host and remove all of it")
    ssh = _verb(verbs, "ssh", _ssh, "run a command on a host, or a shell")
    ssh.add_argument("command", nargs=argparse.REMAINDER)
    push = _verb(verbs, "push", _push, "copy files and directories into a directory on a host")
    push.add_argument("files", nargs="+")
    push.add_argument("target")
    _verb(verbs, "reboot", _reboot, "let a host reboot, and wait for the end of its boot")
    _verb(verbs, "reset", _reset, "cut a host's power, and wait for the end of its next boot")
    _verb(verbs, "wait", _wait, "wait for the end of a host's boot; prints running or degraded")
    _verb(verbs, "console", _console, "print what a host wrote to its serial console")
    return parser


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    act: Callable[[argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=text, description=text)
    parser.add_argument("name", help="letters and a number, such as hv4")
    parser.set_defaults(act=act)
    return parser


def _start(options: argparse.Namespace) -> int:
    template = Template(options.name, build_system())
    if template.host.pid:
        raise RuntimeError(f"{options.name} runs already")
    template.make()
    template.start(options.peer, cold=options.cold)
    if options.cold:
        template.host.wait()
    print(template.host.port)
    return 0


def _stop(options: argparse.Namespace) -> int:
    VmHost(options.name).stop()
    return 0


def _ssh(options: argparse.Namespace) -> int:
    return subprocess.run([*VmHost(options.name).ssh_words(), *options.command], check=False).returncode


def _push(options: argparse.Namespace) -> int:
    VmHost(options.name).push(options.files, options.target)
    return 0


def _reboot(options: argparse.Namespace) -> int:
    host = VmHost(options.name)
    return _next_boot(host, lambda: host.run("systemctl reboot", check=False))


def _reset(options: argparse.Namespace) -> int:
    host = VmHost(options.name)
    return _next_boot(host, host.power_cut)


def _next_boot(host: VmHost, end: Callable[[], object]) -> int:
    boot, began = host.boot_id(), time.monotonic()
    end()
    print(host.wait(not_boot=boot), f"after {time.monotonic() - began:.0f} s")
    return 0


def _wait(options: argparse.Namespace) -> int:
    print(VmHost(options.name).wait())
    return 0


def _console(options: argparse.Namespace) -> int:
    sys.stdout.buffer.write(VmHost(options.name).console.read_bytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
