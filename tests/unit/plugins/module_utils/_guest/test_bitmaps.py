# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dirty bitmaps before and after a live update."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.bitmaps import Bitmap, disk_of, lost_bitmaps

CHAIN = Bitmap("disk-d0", "/srv/a", "chain", 65536, True, True, False, False)


@pytest.mark.parametrize("change", [{}, {"node": "#block123"}, {"busy": True}])
def test_what_is_still_there(change: dict[str, Any]) -> None:
    assert lost_bitmaps([CHAIN], [replace(CHAIN, name="other"), replace(CHAIN, **change)]) == []


@pytest.mark.parametrize(
    "change", [{"inconsistent": True}, {"recording": False}, {"persistent": False}, {"granularity": 4096}]
)
def test_what_is_not_what_it_was(change: dict[str, Any]) -> None:
    (sentence,) = lost_bitmaps([CHAIN], [replace(CHAIN, **change)])
    assert sentence.startswith("Dirty bitmap chain of /srv/a is not what it was")


@pytest.mark.parametrize("change", [{"name": "other"}, {"image": "/srv/b"}])
def test_what_is_gone(change: dict[str, Any]) -> None:
    (sentence,) = lost_bitmaps([CHAIN], [replace(CHAIN, **change)])
    assert sentence.startswith("Dirty bitmap chain of /srv/a is gone")


def test_the_disk_of_an_image() -> None:
    disks = {"d0": [{"path": "/srv/top"}, {"path": "/srv/a"}], "d1": [{"path": "/srv/b"}]}
    assert disk_of(CHAIN, disks) == "d0"
    assert disk_of(replace(CHAIN, image="/srv/c"), disks) == ""
