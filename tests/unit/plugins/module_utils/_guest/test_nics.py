# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names of guests' taps."""

from __future__ import annotations

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest import nics as taps
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.definition import parse_definition

from .definitions import definition, nics

# IFNAMSIZ - 1, linux/if.h
LONGEST = 15
OTHER = {"id": "n1", "mac": "52:54:00:12:34:57", "bridge": "br1"}


def test_each_nic_has_two_taps_for_the_generations_in_turn() -> None:
    (nic,) = parse_definition(nics({"tap": "t0"})).nics
    assert taps.tap_names(nic) == ["t0.a", "t0.b"]
    assert [taps.tap_name(nic, slot) for slot in (0, 1)] == ["t0.a", "t0.b"]


@pytest.mark.parametrize("change", [{"tap": "t" * 13}, {}, {"queues": 256}], ids=str)
@pytest.mark.parametrize("name", ["a", "w" * 32])
def test_names_fit_the_kernel(change: dict[str, object], name: str) -> None:
    (nic,) = parse_definition({**nics(change), "name": name}).nics
    assert all(0 < len(tap) <= LONGEST for tap in taps.tap_names(nic))


def test_the_longest_name_is_used_whole() -> None:
    (nic,) = parse_definition(nics({"tap": "t" * 13})).nics
    assert max(map(len, taps.tap_names(nic))) == LONGEST


def test_all_taps_with_their_bridges() -> None:
    guest = parse_definition(nics({"tap": "t0"}, {**OTHER, "tap": "t1"}))
    assert list(taps.taps(guest)) == [("t0.a", "br0"), ("t0.b", "br0"), ("t1.a", "br1"), ("t1.b", "br1")]


def test_a_tap_may_be_in_no_bridge() -> None:
    guest = parse_definition(definition(nics=[{"id": "n0", "mac": "52:54:00:12:34:56", "tap": "t0"}]))
    assert list(taps.taps(guest)) == [("t0.a", ""), ("t0.b", "")]


def test_a_user_network_has_no_tap() -> None:
    guest = parse_definition(definition(nics=[{"id": "n0", "type": "user", "mac": "52:54:00:12:34:56"}]))
    assert list(taps.taps(guest)) == []


def test_no_two_taps_have_the_same_name() -> None:
    guests = [parse_definition({**nics({}, OTHER), "name": name}) for name in ("web1", "web2", "web11", "web1-1")]
    names = [name for guest in guests for name, _bridge in taps.taps(guest)]
    assert len(set(names)) == 16
