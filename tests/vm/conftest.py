# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A virtual machine with an NVDIMM, and the runtime on it. Started once: everything on it is slow, and a guest there twice as slow."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.vm_host import VmHost
from support.vm_runtime import VmRuntime

VM = Path(__file__).resolve().parents[1] / "support" / "vm"
NAME = "guest8"


@pytest.fixture(scope="module", name="vm")
def fixture_vm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VmRuntime]:
    subprocess.run([VM, "start", NAME], check=True)
    try:
        runtime = VmRuntime(VmHost(NAME))
        runtime.install(tmp_path_factory.mktemp("runtime"))
        yield runtime
    finally:
        subprocess.run([VM, "stop", NAME], check=True)
