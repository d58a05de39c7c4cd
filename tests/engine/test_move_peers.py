# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may send a guest: not whoever has a certificate of the authority."""

from __future__ import annotations

import pytest

from support.engine import EngineHost
from support.moves import ADDRESS, SOURCE, answer_of, result_of, two_hosts
from support.sound import refuses, undisturbed

STRANGER = "hv3.example.com"


@pytest.mark.parametrize("method", ["precopy", "postcopy"])
@pytest.mark.parametrize("name", [SOURCE, ADDRESS])
def test_expected(host: EngineHost, name: str, method: str) -> None:
    with two_hosts(host, "11.1") as hosts:
        hosts.boot()
        receiving = hosts.wait_for_guest("--from", name)
        assert host.one(*hosts.words(method))["changed"]
        result_of(receiving)
        hosts.assert_arrived()


def test_not_expected(host: EngineHost) -> None:
    with two_hosts(host) as hosts:
        hosts.boot()
        receiving = hosts.wait_for_guest("--from", STRANGER, "--timeout", "6")
        with undisturbed(host, "g", hosts.look()):
            for option in ([], ["--check"]):
                error = host.refused(*hosts.words("precopy", *option))
                refuses(error, f"is expected from {STRANGER}", SOURCE, "hostmem receive --from")
        assert not answer_of(receiving)["ok"]
        hosts.assert_stayed()


@pytest.mark.parametrize("version", ["10.0", "11.1"])
def test_a_stranger_at_the_port_of_qemu(host: EngineHost, version: str) -> None:
    """The runtimes agree; and then a QEMU with another certificate of the same authority is first at the door."""
    with two_hosts(host, version) as hosts:
        ours = host.settings["tls"]
        other = hosts.equip(host, hosts.authority, STRANGER)
        host.configure(tls=ours)
        hosts.boot()
        line = '"dir": self.directory,'
        with host.patched("_guest/move_credentials.py", line, f'"dir": {other!r},'):
            receiving = hosts.wait_for_guest()
            refuses(host.refused(*hosts.words("precopy")), "The migration has failed")
        assert not answer_of(receiving)["ok"]
        hosts.assert_stayed()


def test_names_are_for_tls(host: EngineHost) -> None:
    with two_hosts(host) as hosts:
        hosts.target.define(hosts.target.heartbeat("g"))
        words = ["--listen", ADDRESS, "--plain", "--from", SOURCE]
        refuses(hosts.target.refused("receive", *words, "g"), "In clear nobody has a name")
