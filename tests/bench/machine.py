# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The machine that figures come from."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

from support.host import QEMU_TREES


def describe(versions: list[str]) -> dict[str, str]:
    """What a reader needs to judge the figures, as text by heading."""
    return {
        "CPU": f"{_field('/proc/cpuinfo', 'model name')}, {os.cpu_count()} cores{_hypervisor()}",
        "Memory": f"{available_mib('MemTotal') / 1024:.1f} GiB, tmpfs on /dev/shm, huge pages there: {_huge_pages()}",
        "Kernel": f"{platform.system()} {platform.release()}",
        "System": _os_release(),
        "QEMU": ", then ".join(_qemu_version(version) for version in versions),
        "Accelerator": "tcg",
        "Python of the runtime and the bare script": _output("/usr/bin/python3", "--version").removeprefix("Python "),
        "Python and Ansible of the controller": f"{platform.python_version()}, {_ansible()}",
    }


def available_mib(key: str = "MemAvailable") -> int:
    """A line of /proc/meminfo in MiB."""
    return int(_field("/proc/meminfo", key).split()[0]) // 1024


def load() -> float:
    """The number of processes that ran or wanted to, averaged over the last minute."""
    return os.getloadavg()[0]


def _field(path: str, key: str) -> str:
    match = re.search(rf"^{re.escape(key)}\s*:\s*(.*)$", Path(path).read_text(), re.MULTILINE)
    return match.group(1).strip() if match else "unknown"


def _hypervisor() -> str:
    return " of a virtual machine" if "hypervisor" in _field("/proc/cpuinfo", "flags").split() else ""


def _huge_pages() -> str:
    try:
        modes = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled").read_text()
    except OSError:
        return "unknown"
    return re.sub(r".*\[(\w+)\].*", r"\1", modes.strip())


def _os_release() -> str:
    match = re.search(r'^PRETTY_NAME="?([^"\n]*)', Path("/etc/os-release").read_text(), re.MULTILINE)
    return match.group(1) if match else "unknown"


def _qemu_version(version: str) -> str:
    text = _output(str(QEMU_TREES / version / "usr/bin/qemu-system-x86_64"), "--version")
    return text.splitlines()[0].removeprefix("QEMU emulator version ")


def _ansible() -> str:
    return _output("ansible", "--version").splitlines()[0].replace("[", "").replace("]", "")


def _output(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
