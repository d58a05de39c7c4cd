# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Moves of a guest between two hosts: it runs once, unharmed, and nothing is left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.credentials import Authority
from support.engine import EngineHost
from support.moves import SOURCE, TwoHosts, not_dialling_long, result_of, two_hosts
from support.sound import refuses, undisturbed

METHODS = ["precopy", "postcopy"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("here", "there"), [("10.0", "10.0"), ("10.0", "11.1"), ("11.1", "11.1")])
def test_moves(host: EngineHost, method: str, here: str, there: str) -> None:
    host.install(here)
    with two_hosts(host, there) as hosts:
        hosts.boot()
        sent, received = hosts.move(method)
        assert sent["changed"]
        assert sent["method"] == method
        assert sent["pause_ms"] > 0
        assert sent["qemu"]["to"].startswith(there)
        assert received["how"] == "arrived"
        assert received["pid"] == hosts.target.only_qemu("g")
        hosts.assert_arrived()


@pytest.mark.parametrize("method", METHODS)
def test_there_and_back(host: EngineHost, method: str) -> None:
    with two_hosts(host) as hosts:
        hosts.boot()
        hosts.move(method)
        hosts.source, hosts.target = hosts.target, hosts.source
        hosts.look()
        hosts.move(method)
        hosts.assert_arrived()


@pytest.mark.parametrize("method", METHODS)
def test_in_clear(host: EngineHost, method: str) -> None:
    """Only when both ends ask for it by name."""
    with two_hosts(host) as hosts:
        hosts.options = ["--plain"]
        for each in (hosts.source, hosts.target):
            each.configure(tls="/nonexistent")
        hosts.boot()
        hosts.move(method)
        hosts.assert_arrived()


@pytest.mark.parametrize("method", METHODS)
def test_a_paused_guest_stays_paused(host: EngineHost, method: str) -> None:
    with two_hosts(host) as hosts:
        hosts.boot()
        with hosts.source.qmp("g") as qmp:
            qmp("stop")
        sent, _received = hosts.move(method)
        assert sent["pause_ms"] is None
        with hosts.target.qmp("g") as qmp:
            assert qmp("query-status")["status"] == "paused"
            qmp("cont")
        hosts.assert_arrived()


def test_check_changes_nothing(host: EngineHost) -> None:
    with two_hosts(host) as hosts:
        hosts.boot()
        receiving = hosts.wait_for_guest()
        with undisturbed(host, "g", hosts.look()):
            told = host.one(*hosts.words("precopy", "--check"))
        assert told["changed"]
        hosts.page.close()
        assert host.one(*hosts.words("precopy"))["changed"]
        assert result_of(receiving)["ok"]
        hosts.assert_arrived()


def test_moved_guest_is_given_up(host: EngineHost) -> None:
    """On the host that it left it starts again only when somebody says that it does not exist any more."""
    with two_hosts(host) as hosts:
        hosts.boot()
        hosts.move("precopy")
        refuses(host.refused("start", "g"), "was moved to 127.0.0.1", "hostmem discard g")
        assert "start_refused" in host.info("g")
        refuses(host.refused("undefine", "g"), "is on another host, or may be", "hostmem discard g")
        hosts.target.one("stop", "--timeout", "0", "g")
        assert host.one("discard", "g")["changed"]
        assert host.one("start", "g")["changed"]


def test_who_waits_can_be_asked(host: EngineHost) -> None:
    with two_hosts(host) as hosts:
        hosts.boot()
        receiving = hosts.wait_for_guest()
        shown = hosts.target.info("g")
        assert shown["state"] == "busy"
        assert shown["move"]["port"] == hosts.port
        host.one(*hosts.words("postcopy"))
        result_of(receiving)


# --- refused beforehand: the guest is not touched


def refused(hosts: TwoHosts, *texts: str, method: str = "precopy") -> None:
    """A move that is refused, and disturbs neither the guest nor the target, which waits on."""
    receiving = hosts.wait_for_guest()
    with undisturbed(hosts.source, "g", hosts.look()):
        refuses(hosts.source.refused(*hosts.words(method)), *texts)
    hosts.assert_still_waits(receiving)
    hosts.assert_stayed()


def test_other_definitions(host: EngineHost) -> None:
    with two_hosts(host) as hosts:
        hosts.boot()
        other = hosts.target.heartbeat("g", size="96M")
        other["cpu"] = {"model": "qemu64,-svm", "count": 1}
        hosts.target.define(other)
        refused(hosts, "blocks.ram0.size", "cpu.model", "RAMBlock ram0 has used 0x4000000", "Define the guest alike")


def test_older_qemu(host: EngineHost) -> None:
    host.install("11.1")
    with two_hosts(host, "10.0") as hosts:
        hosts.boot()
        refused(hosts, "is older than 11.1")


def test_local_disk(host: EngineHost) -> None:
    with two_hosts(host) as hosts:
        hosts.boot(disks=[hosts.disk()])
        with undisturbed(host, "g", hosts.look()):
            hosts.port = 1
            refuses(host.refused(*hosts.words("precopy")), "Disk d0", "A move does not copy disks", "shared: true")


def test_disk_of_another_file_system(host: EngineHost) -> None:
    """The same path, but not the same file: what the guest would find there is not its disk."""
    with two_hosts(host) as hosts:
        disk = hosts.disk(shared=True)
        hosts.boot(disks=[disk])
        with host.patched("_guest/move_terms.py", "{found.inode}", "{found.inode + 1}"):
            refused(hosts, f"{disk['path']} is another file here than there")


@pytest.mark.parametrize("method", METHODS)
def test_shared_disk(host: EngineHost, method: str) -> None:
    with two_hosts(host) as hosts:
        hosts.boot(disks=[hosts.disk(shared=True)])
        hosts.move(method)
        hosts.assert_arrived()


def test_other_authority(host: EngineHost) -> None:
    with two_hosts(host) as hosts:
        hosts.boot()
        hosts.equip(host, Authority(host.root / "fake-other-authority"), SOURCE)
        refused(hosts, "is not trusted", "certificates of the same authority")


def test_no_certificates(host: EngineHost) -> None:
    with two_hosts(host) as hosts:
        hosts.boot()
        host.configure(tls=str(host.root / "nowhere"))
        refused(hosts, "has no ca-cert.pem", "--plain")


def test_clear_against_tls(host: EngineHost) -> None:
    with two_hosts(host) as hosts:
        hosts.boot()
        receiving = hosts.wait_for_guest()
        hosts.options = ["--plain"]
        with undisturbed(host, "g", hosts.look()), not_dialling_long(host):
            host.refused(*hosts.words("precopy"))
        hosts.assert_still_waits(receiving)
        hosts.assert_stayed()


def test_nobody_waits(host: EngineHost) -> None:
    with two_hosts(host) as hosts:
        hosts.boot()
        hosts.port = 1
        with undisturbed(host, "g", hosts.look()), not_dialling_long(host):
            refuses(host.refused(*hosts.words("postcopy")), "cannot be reached", "hostmem receive")


def test_nobody_comes(host: EngineHost) -> None:
    with two_hosts(host) as hosts:
        hosts.boot()
        receiving = hosts.wait_for_guest("--timeout", "0.1")
        refuses(hosts.gave_up(receiving), "The source did not come in time")
        hosts.assert_stayed()


def test_runs_there_already(host: EngineHost) -> None:
    with two_hosts(host) as hosts:
        hosts.boot()
        hosts.target.one("start", "g")
        refuses(hosts.target.refused("receive", "--listen", "127.0.0.1", "g"), "runs here")


def test_capabilities_that_differ(host: EngineHost) -> None:
    """They would corrupt memory; each end is asked what it really has."""
    with two_hosts(host) as hosts:
        hosts.boot()
        receiving = hosts.wait_for_guest()
        post = '_POSTCOPY = ("postcopy-ram", "postcopy-preempt")'
        with host.patched("_guest/move_channel.py", post, '_POSTCOPY = ("postcopy-ram",)'):
            refuses(host.refused(*hosts.words("postcopy")), "not set up alike")
        hosts.gave_up(receiving)
        hosts.assert_stayed()


def test_memory_that_post_copy_cannot_have(host: EngineHost) -> None:
    """A file on a disk: QEMU there says so before anything is sent."""
    with two_hosts(host) as hosts:
        hosts.boot()
        directory = Path(hosts.target.root) / "fake-memory"
        block = hosts.target.block("g", backing="file", directory=str(directory))
        hosts.target.define(hosts.target.heartbeat("g", memory={"blocks": [block]}))
        refused(hosts, "TMPFS or HUGETLBFS", method="postcopy")
