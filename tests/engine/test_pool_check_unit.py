# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The unit that looks at each boot whether the pools were granted: written by the module with the real systemctl, and run with the real kernel's pools.

No systemd is process 1 here: the module finds a /run/systemd/system, and systemctl works on files alone (SYSTEMD_OFFLINE).
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._memory.pool_check_unit import UNIT, unit_text
from support.boot_loaders import BootLoader
from support.huge_page_pool import HugePagePool, huge_page_pool, reserved
from support.modules import run_module

NODE0 = "/sys/devices/system/node/node0/hugepages/hugepages-2048kB"


@pytest.fixture(name="pool")
def fixture_pool() -> Iterator[HugePagePool]:
    with huge_page_pool() as pool:
        yield pool


class Host(BootLoader):
    """One that seems to be booted by systemd, with directories of a test in the places of its configuration."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.units, self.tmpfiles = root / "units", root / "tmpfiles"
        self.units.mkdir()
        self.tmpfiles.mkdir()
        (self.kernel / "cmdline").write_text("quiet\n")

    def before(self) -> list[str]:
        script = (
            "mkdir -p /run/systemd && mount -t tmpfs none /run/systemd && mkdir /run/systemd/system"
            f" && mount --bind '{self.units}' /etc/systemd/system && mount --bind '{self.tmpfiles}' /etc/tmpfiles.d"
            ' && exec "$@"'
        )
        return [*super().before(), "sh", "-c", script, "sh", "env", "SYSTEMD_OFFLINE=1"]

    @property
    def configured(self) -> list[str]:
        """Files and links of units, and lines for systemd-tmpfiles."""
        places = (self.units, self.tmpfiles)
        return sorted(
            str(path.relative_to(place)) for place in places for path in place.rglob("*") if not path.is_dir()
        )


def looked(text: str) -> tuple[int, list[str]]:
    """Status and complaints of what the unit runs, taken apart as systemd.service(5) says ("Command lines")."""
    (line,) = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    words = [word.replace("$$", "$") for word in shlex.split(line.removeprefix("ExecStart="))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def foretold(host: Host, **arguments: Any) -> dict[str, Any]:
    """A run, which a check told just so, and after which another changes nothing."""
    checked = host.hugepages(check=True, **arguments)
    checked.pop("foreseen", None)
    done = host.hugepages(**arguments)
    assert "failed" not in done, done
    assert checked == done
    assert not host.hugepages(**arguments)["changed"]
    return done


@pytest.mark.parametrize("persist", ["tmpfiles", "boot"])
def test_it_comes_with_the_pools_and_goes_with_them(pool: HugePagePool, tmp_path: Path, persist: str) -> None:
    host = Host(tmp_path)
    path = f"/etc/systemd/system/{UNIT}"
    lines = ["hostmem-hugepages.conf"] if persist == "tmpfiles" else []
    host.hugepages(check=True, **{**pool.with_more(2), "persist": persist})
    assert host.configured == []
    for pages in (2, 3):
        made = foretold(host, **{**pool.with_more(pages), "persist": persist})
        text = (host.units / UNIT).read_text()
        assert made["diff"]["after"][path] == text
        assert f"sh {NODE0} {pool.start + pages}\n" in text
        assert host.configured == sorted([UNIT, f"multi-user.target.wants/{UNIT}", *lines])
        verified = ["systemd-analyze", "verify", "--man=no", str(host.units / UNIT)]
        done = subprocess.run(verified, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert looked(text) == (0, [])
    subprocess.run([*host.before(), "systemctl", "disable", UNIT], check=True, capture_output=True)
    again = foretold(host, **{**pool.with_more(3), "persist": persist})
    assert again["diff"]["before"][path] == f"# disabled\n{text}"
    gone = host.hugepages(state="absent")
    assert gone["diff"]["after"][path] == ""
    assert host.configured == []
    assert list(host.units.iterdir()) == []
    assert pool.pages() == pool.start


def test_a_unit_of_somebody_else_is_refused(pool: HugePagePool, tmp_path: Path) -> None:
    host = Host(tmp_path)
    (host.units / UNIT).write_text("[Unit]\n")
    done = host.hugepages(**{**pool.with_more(2), "persist": "tmpfiles"})
    assert "somebody else made it" in done["msg"]
    assert pool.pages() == pool.start
    assert host.configured == [UNIT]


def test_a_grant_that_is_short_is_told_with_the_numbers(pool: HugePagePool) -> None:
    there = pool.pages() - pool.pages("surplus_hugepages")
    assert looked(unit_text({NODE0: there})) == (0, [])
    missing = f"{NODE0.replace('node0', 'node77')}"
    status, said = looked(unit_text({NODE0: there + 5, missing: 2}))
    assert status == 1
    assert f"<3>{NODE0}: {there + 5} huge pages were asked for at boot, the kernel granted {there}." in said
    assert f"<3>{missing}: 2 huge pages were asked for at boot, the kernel granted 0." in said
    assert "persist: boot" in said[-1]


def test_surplus_pages_are_not_taken_for_the_pool(pool: HugePagePool) -> None:
    """They are in nr_hugepages, and go with the mapping that made them."""
    pool.add(1)
    free = pool.whole("free_hugepages") - pool.whole("resv_hugepages")
    run_module("hugepages", **pool.with_more(1, surplus=pool.whole("nr_overcommit_hugepages") + 2))
    place = pool.mount()
    with reserved(place / "file", free + 2):
        there = pool.pages() - pool.pages("surplus_hugepages")
        assert pool.pages() >= there + 2
        assert looked(unit_text({NODE0: there + 1}))[0] == 1
    (place / "file").unlink()
