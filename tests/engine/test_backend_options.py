# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What docs/definition.md says of QEMU's memory backends, held against the QEMUs themselves."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.backend_options import NOT_KEYS
from support.host import QEMU_TREES

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "definition.md"
VERSIONS = pytest.mark.parametrize("version", ["10.0", "10.0.13", "11.1"])


def command(version: str, option: str) -> list[str]:
    """A QEMU with one object and without a machine."""
    program = str(QEMU_TREES / version / "usr" / "bin" / "qemu-system-x86_64")
    return [program, *["-M", "none", "-nodefaults", "-display", "none", "-monitor", "stdio", "-S", "-object"], option]


def qemu(version: str, option: str) -> subprocess.CompletedProcess[str]:
    """Make it; it ends by itself."""
    return subprocess.run(command(version, option), input="quit\n", capture_output=True, text=True, check=False)


def documented() -> set[str]:
    """The options in the first column of the table."""
    lines = DOCUMENT.read_text().partition("| option of QEMU | key |\n")[2].splitlines()
    rows = [line for line in lines[: lines.index("")] if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}


@VERSIONS
def test_every_option_is_documented(version: str) -> None:
    found = set()
    for backend in ("file", "memfd", "ram"):
        said = qemu(version, f"memory-backend-{backend},help")
        assert said.returncode == 0, said.stderr
        found |= set(re.findall(r"^  ([a-z-]+)=", said.stdout, re.M))
    assert found == documented()
    assert set(NOT_KEYS) < found


ROM = [
    ("readonly=on,rom=off,share=on", "'rom' = 'off' is incompatible with 'readonly' = 'on' and 'share' = 'on'"),
    ("readonly=off,rom=on,share=on", "'rom' = 'on' is not supported with 'readonly' = 'off'"),
    ("readonly=off,rom=on,share=off", "'rom' = 'on' is not supported with 'readonly' = 'off'"),
    ("readonly=on,rom=off,share=off", ""),
]


@VERSIONS
@pytest.mark.parametrize(("options", "refusal"), ROM)
def test_rom_leaves_no_choice(tmp_path: Path, version: str, options: str, refusal: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(1 << 20))
    said = qemu(version, f"memory-backend-file,id=m,size=1M,mem-path={file},{options}")
    assert refusal in said.stderr
    assert (said.returncode == 0) == (not refusal)


@VERSIONS
@pytest.mark.parametrize("share", ["on", "off"])
def test_shared_ram_is_a_memfd(version: str, share: str) -> None:
    option = f"memory-backend-ram,id=m,size=16M,share={share}"
    with subprocess.Popen(
        command(version, option), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "monitor" in process.stdout.readline()  # it greets when it is set up
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        process.kill()
    assert ("/memfd:m " in maps) == (share == "on")
