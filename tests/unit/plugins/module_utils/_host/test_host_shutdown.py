# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kind of a shutdown, from what systemctl list-jobs wrote in ExecStop on Debian 12 and 13 (parts of it)."""

from __future__ import annotations

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.host_shutdown import KINDS, kind_of

STOP = "239 web1.service                           stop  running\n"
GOING_DOWN = """\
261 {kind}.target                      start waiting
263 shutdown.target                    start waiting
343 user.slice                         stop  waiting
"""
RESCUE = """\
1210 rescue.target             start waiting
1300 web1.service              stop  running
"""


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_told_by_its_target(kind: str) -> None:
    assert kind_of(STOP + GOING_DOWN.format(kind=kind)) == kind


def test_another_way_down_is_told_too() -> None:
    assert kind_of(STOP + GOING_DOWN.format(kind="umount")) == "shutdown"


@pytest.mark.parametrize(
    "jobs",
    ["", STOP, "No jobs running.\n", RESCUE, "261 reboot.target stop waiting\n", "1 my-reboot.target start waiting\n"],
)
def test_a_host_that_stays_up(jobs: str) -> None:
    assert kind_of(jobs) == ""
