# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Moves that nobody waits for: what they leave for who asks later, and how they are called off. (Their units: molecule/migrate.)"""

from __future__ import annotations

import os
from pathlib import Path

from support.engine import EngineHost, wait_until
from support.host import USER
from support.moves import answer_of, result_of, two_hosts
from support.sound import refuses
from support.wired_moves import PATIENT, in_postcopy, wired

JOB, OTHER = "0123456789abcdef" * 2, "fedcba9876543210" * 2


def test_results_are_kept(host: EngineHost) -> None:
    with two_hosts(host) as hosts:
        hosts.boot()
        receiving = hosts.wait_for_guest("--job", JOB)
        waits = hosts.target.one("outcome", "g")
        assert waits["move"]["port"] == hosts.port
        assert not waits["move"]["claimed"]
        sent = host.one(*hosts.words("precopy", "--job", OTHER))
        received = result_of(receiving)
        here, there = host.one("outcome", "g"), hosts.target.one("outcome", "g")
        assert (here["job"]["id"], here["job"]["state"], here["job"]["result"]) == (OTHER, "ended", sent)
        assert (there["job"]["id"], there["job"]["state"], there["job"]["result"]) == (JOB, "ended", received)
        assert (here["carried"], there["carried"]) == (False, True)
        for one in (host, hosts.target):
            kept = Path(one.settings["state"]) / "g" / "move-job.json"
            assert (kept.owner(), kept.stat().st_mode & 0o777) == (USER, 0o600)
            assert kept.parent.stat().st_mode & 0o777 == 0o700
        hosts.assert_arrived()


def test_errors_are_kept(host: EngineHost) -> None:
    with two_hosts(host) as hosts:
        hosts.boot()
        receiving = hosts.wait_for_guest("--timeout", "0.1", "--job", JOB)
        answer = answer_of(receiving)
        assert hosts.target.one("outcome", "g")["job"]["result"] == answer
        hosts.assert_stayed()


def test_one_that_waits_is_called_off(host: EngineHost) -> None:
    with two_hosts(host) as hosts:
        hosts.boot()
        receiving = hosts.wait_for_guest("--job", JOB)
        assert hosts.target.one("cancel", "g")["changed"]
        assert not answer_of(receiving)["ok"]
        assert not hosts.target.one("cancel", "g")["changed"]
        hosts.assert_stayed()


def test_one_that_sends_is_called_off(host: EngineHost) -> None:
    with two_hosts(host) as hosts:
        hosts.boot()
        with wired(hosts):
            receiving = hosts.wait_for_guest()
            sending = host.begin(*hosts.words("precopy", *PATIENT))
            wait_until(lambda: host.one("outcome", "g").get("move", {}).get("seen"), "no memory goes", 30)
            assert host.one("cancel", "g")["changed"]
            assert not answer_of(sending)["ok"]
            hosts.gave_up(receiving)
        hosts.assert_stayed()


def test_one_in_postcopy_is_not_called_off(host: EngineHost) -> None:
    with two_hosts(host) as hosts:
        hosts.boot()
        with wired(hosts) as wire:
            receiving = hosts.wait_for_guest()
            sending = host.begin(*hosts.words("postcopy", *PATIENT))
            in_postcopy(hosts, sending)
            wait_until(
                lambda: host.one("outcome", "g")["move"]["step"] == "ordered", "it was not ordered to run there", 30
            )
            for one in (host, hosts.target):
                refuses(one.refused("cancel", "g"), "cannot be called off any more", "told to run at the destination")
            wire.hasten(1e9)
            assert result_of(sending)["changed"]
            assert result_of(receiving)["how"] == "arrived"
        hosts.assert_arrived()


def test_a_job_is_a_number(host: EngineHost) -> None:
    host.define(host.heartbeat("g"))
    error = host.refused("begin", "../g", "recover", "g")
    refuses(error, "is no job")
    assert not os.path.exists(Path(host.settings["state"]) / "move-job.json")
