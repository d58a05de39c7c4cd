# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may send a guest: not whoever has a certificate of the authority."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.peer_link import MOST
from support.engine import EngineHost
from support.moves import ADDRESS, SOURCE, asked, result_of, two_hosts
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
        receiving = hosts.wait_for_guest("--from", STRANGER)
        with undisturbed(host, "g", hosts.look()):
            for option in ([], ["--check"]):
                error = host.refused(*hosts.words("precopy", *option))
                refuses(error, f"is expected from {STRANGER}", SOURCE, "hostmem receive --from")
        hosts.assert_still_waits(receiving)
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
        hosts.gave_up(receiving)
        hosts.assert_stayed()


def test_what_is_no_message(host: EngineHost) -> None:
    """The line ends, or an error is said; the guest is waited for all the same."""
    with two_hosts(host) as hosts:
        hosts.options = ["--plain"]
        hosts.boot()
        receiving = hosts.wait_for_guest()
        for line in (b"[" * 100_000, b"[]", b"7", b"null", b'{"word": {}}', b"{", b"\xff\xfe"):
            with socket.create_connection((ADDRESS, hosts.port), 20) as stranger, stranger.makefile("rwb") as file:
                file.write(line + b"\n")
                file.flush()
                answer = file.readline()
                assert answer == b"" or "error" in json.loads(answer), line[:20]
        assert host.one(*hosts.words("precopy"))["changed"]
        _output, errors = receiving.communicate()
        assert errors == ""
        hosts.assert_arrived()


def test_terms_that_are_none(host: EngineHost) -> None:
    with two_hosts(host) as hosts:
        hosts.options = ["--plain"]
        hosts.target.define(hosts.target.heartbeat("g"))
        receiving = hosts.wait_for_guest()
        none: list[Any] = [None, [], {"schema": 1}, "all", 7]
        for terms in none:
            error = asked(hosts, word="terms", token="a" * 32, serial=1, terms=terms)["error"]
            refuses(error, "cannot be understood")
        hosts.assert_still_waits(receiving)


def test_terms_whose_parts_are_others(host: EngineHost) -> None:
    """Each by itself, while the others are of their kind."""
    with two_hosts(host) as hosts:
        hosts.options = ["--plain"]
        hosts.target.define(hosts.target.heartbeat("g"))
        receiving = hosts.wait_for_guest()
        nothing: dict[str, Any] = {"inventory": {}, "ram_blocks": {}, "queue_sizes": {}, "images": {}}
        known = {"guest": "g", "method": "precopy", "was_running": True, "version": [1, 0, 0], **nothing}
        known = {"schema": 1, "definition": hosts.target.heartbeat("g"), **known}
        parts: list[Any] = ["x", 7, None, [], {"ram0": "x", "disks": "x", "io_limits": 7}]
        for name, part in itertools.product(known, parts):
            answer = asked(hosts, word="terms", token="a" * 32, serial=1, terms={**known, name: part})
            assert "error" in answer, (name, part, answer)
        hosts.assert_still_waits(receiving)


def test_many_connections(host: EngineHost) -> None:
    """The oldest are ended, and the source still comes through."""
    with two_hosts(host) as hosts, contextlib.ExitStack() as stack:
        hosts.options = ["--plain"]
        hosts.boot()
        receiving = hosts.wait_for_guest()
        lines = [stack.enter_context(socket.create_connection((ADDRESS, hosts.port), 20)) for _line in range(MOST + 4)]
        for line in lines[:4]:
            assert line.recv(1) == b""
        assert host.one(*hosts.words("precopy"))["changed"]
        result_of(receiving)
        hosts.assert_arrived()


def test_names_are_for_tls(host: EngineHost) -> None:
    with two_hosts(host) as hosts:
        hosts.target.define(hosts.target.heartbeat("g"))
        words = ["--listen", ADDRESS, "--plain", "--from", SOURCE]
        refuses(hosts.target.refused("receive", *words, "g"), "In clear nobody has a name")
