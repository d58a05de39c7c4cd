# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A move whose runtimes or QEMUs are killed, at each step of either journal: the guest runs once, on one of the two hosts, unharmed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time

import pytest

from support.engine import EngineHost, wait_until
from support.moves import TwoHosts, answer_of, impatient, once, result_of, two_hosts
from support.sound import refuses

METHODS = ["precopy", "postcopy"]
KILL = "os.kill(os.getpid(), 9)"
STOP = "os.kill(os.getpid(), 19)"
KILL_QEMU = "[os.kill(pid, 9) for pid in qemu(facts['generation'])]"
# Byte of an image that a writer locks when no other is to write: RAW_LOCK_SHARED_BASE and BLK_PERM_WRITE, block/file-posix.c, QEMU 10.0.
NOBODY_ELSE_WRITES = 201
WORDS = ["alive", "continue", "finish"]


def killed_source(hosts: TwoHosts, method: str) -> None:
    """Send the guest by a runtime that is killed on the way, and wait for its recovery."""
    hosts.source.begin(*hosts.words(method)).communicate()
    hosts.source.wait_quiet()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["sending", "ordered"])
def test_source_runtime_killed(host: EngineHost, step: str, when: str, method: str) -> None:
    """The order is the point of no return; of post-copy already the switch."""
    with two_hosts(host) as hosts, impatient(hosts):
        hosts.boot()
        receiving = hosts.wait_for_guest()
        with host.at_step(step, once(host, KILL), when):
            killed_source(hosts, method)
        moved = (step, when) == ("ordered", "after") or (step == "ordered" and method == "postcopy")
        assert hosts.has_come(receiving) == moved
        if moved:
            hosts.assert_arrived()
        else:
            hosts.assert_stayed()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("command", ["migrate", "migrate-continue"])
def test_source_runtime_killed_in_between(host: EngineHost, command: str, method: str) -> None:
    """The guest goes on in one of the two: which, that depends on how far QEMU got without its runtime."""
    with two_hosts(host) as hosts, impatient(hosts):
        hosts.boot()
        receiving = hosts.wait_for_guest()
        with host.at_command(command, once(host, KILL)):
            killed_source(hosts, method)
        if hosts.has_come(receiving):
            assert method == "postcopy"
            hosts.assert_arrived()
        else:
            hosts.assert_stayed()


@pytest.mark.parametrize("method", METHODS)
def test_source_runtime_killed_as_the_guest_runs_there(host: EngineHost, method: str) -> None:
    """After the answer to the order, before its own QEMU is ended."""
    with two_hosts(host) as hosts, impatient(hosts):
        hosts.boot()
        receiving = hosts.wait_for_guest()
        anchor = "        await self._all_sent()\n"
        with host.patched("_guest/departure.py", anchor, f"        import os; {once(host, KILL)}\n{anchor}"):
            killed_source(hosts, method)
        result_of(receiving)
        hosts.assert_arrived()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("word", WORDS)
def test_target_runtime_killed(host: EngineHost, word: str, when: str, method: str) -> None:
    """The two QEMUs do not need it: its recovery takes its place on the line, and the source asks again."""
    anchor = {
        "before": ("        return await answers[word]()\n", "await answers[word]()"),
        "after": ("            await link.say(answer)\n", "await link.say(answer)"),
    }[when]
    act = f"message.get('word') == {word!r} and ({once(host, KILL)})"
    with two_hosts(host) as hosts, impatient(hosts):
        hosts.boot()
        indent = anchor[0][: len(anchor[0]) - len(anchor[0].lstrip())]
        with hosts.target.patched("_guest/arrival.py", anchor[0], f"{indent}import os; {act}\n{anchor[0]}"):
            receiving = hosts.wait_for_guest()
            assert host.one(*hosts.words(method))["changed"]
            receiving.communicate()
        hosts.assert_arrived()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_target_runtime_killed_at_the_order(host: EngineHost, when: str, method: str) -> None:
    """Between the order and the guest's going on: it is carried out by the recovery."""
    with two_hosts(host) as hosts, impatient(hosts):
        hosts.boot()
        with hosts.target.at_step("arrived", once(host, KILL), when):
            receiving = hosts.wait_for_guest()
            assert host.one(*hosts.words(method))["changed"]
            receiving.communicate()
        hosts.assert_arrived()


@pytest.mark.parametrize("method", METHODS)
def test_target_qemu_killed_before_the_switch(host: EngineHost, method: str) -> None:
    with two_hosts(host) as hosts, impatient(hosts):
        hosts.boot()
        with hosts.target.at_step("arriving", f"facts.get('token') and {KILL_QEMU}"):
            receiving = hosts.wait_for_guest()
            host.refused(*hosts.words(method))
            hosts.gave_up(receiving)
        hosts.assert_stayed()


def test_target_qemu_killed_before_the_order(host: EngineHost) -> None:
    """Pre-copy: it had everything, and was never told to run. The source goes on."""
    with two_hosts(host) as hosts, impatient(hosts):
        hosts.boot()
        anchor = '            status, run_state = await self._status(), ""\n'
        kill = "            import os; os.kill(self._generation.alive.pid, 9)\n"
        with hosts.target.patched("_guest/arrival.py", anchor, kill + anchor):
            receiving = hosts.wait_for_guest()
            refuses(host.refused(*hosts.words("precopy")), "goes on here")
            answer_of(receiving)
        hosts.assert_stayed()


def test_source_qemu_killed_before_the_switch(host: EngineHost) -> None:
    """Its death is the guest's, as any QEMU's is; the target keeps nothing."""
    with two_hosts(host) as hosts, impatient(hosts):
        hosts.boot()
        receiving = hosts.wait_for_guest()
        with host.at_step("sending", KILL_QEMU):
            host.refused(*hosts.words("precopy"))
        hosts.gave_up(receiving)
        for each in (host, hosts.target):
            each.wait_quiet()
        hosts.assert_target_empty()
        assert host.info("g")["state"] == "stopped"
        assert host.one("start", "g")["changed"]


def test_start_before_anybody_has_recovered(host: EngineHost) -> None:
    """The source's QEMU and all its programs died: a start is refused, and names what helps."""
    with two_hosts(host) as hosts, impatient(hosts):
        hosts.boot()
        with host.at_command("migrate", STOP):
            receiving = hosts.wait_for_guest()
            sending = host.begin(*hosts.words("precopy"))
            wait_until(host.stopped_runtimes, "the move has not come as far")
            for pid in [*host.runtimes(), *host.qemu_pids("g")]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            sending.communicate()
        refuses(host.refused("start", "g"), "may run there", "hostmem recover g")
        assert host.one("recover", "g")["outcome"] == "QEMU was gone before the guest had moved: the guest is lost"
        hosts.gave_up(receiving)
        hosts.assert_target_empty()
        hosts.assert_lost()


def test_images_that_are_still_held(host: EngineHost) -> None:
    """As a QEMU before 10 does at the target, until its runtime, which hangs, ends it: the guest goes on at the source when it can."""
    with two_hosts(host) as hosts:
        disk = hosts.disk(shared=True)
        hosts.boot(disks=[disk])
        with host.at_step("ordered", once(host, STOP), "before"):
            receiving = hosts.wait_for_guest()
            sending = host.begin(*hosts.words("precopy"))
            wait_until(host.stopped_runtimes, "the move has not come as far")
            with open(disk["path"], "rb") as held:
                fcntl.lockf(held, fcntl.LOCK_SH, 1, NOBODY_ELSE_WRITES)
                for pid in host.stopped_runtimes():
                    os.kill(pid, signal.SIGKILL)
                time.sleep(15)
                assert host.run_states("g")[-1].new == "postmigrate"
            sending.communicate()
        hosts.gave_up(receiving)
        hosts.assert_stayed()


def test_who_waits_for_images_is_not_taken_to_hang(host: EngineHost) -> None:
    """Going back can take longer than a step of the journal has."""
    with two_hosts(host) as hosts, impatient(hosts), contextlib.ExitStack() as stack:
        hosts.patience = []  # which a step has in addition
        disk = hosts.disk(shared=True)
        hosts.boot(disks=[disk])
        loads = '            status, run_state = await self._status(), ""\n'
        dies = "            import os; os.kill(self._generation.alive.pid, 9)\n"
        stack.enter_context(hosts.target.patched("_guest/arrival.py", loads, dies + loads))
        stack.enter_context(host.patched("_guest/journal.py", "    ORDERED: 150.0,", "    ORDERED: 4.0,"))
        stack.enter_context(host.at_step("ordered", once(host, STOP), "before"))
        receiving = hosts.wait_for_guest()
        sending = host.begin(*hosts.words("precopy"))
        wait_until(host.stopped_runtimes, "the move has not come as far")
        with open(disk["path"], "rb") as held:
            fcntl.lockf(held, fcntl.LOCK_SH, 1, NOBODY_ELSE_WRITES)
            for pid in host.stopped_runtimes():
                os.kill(pid, signal.SIGCONT)
            wait_until(lambda: not hosts.target.qemu_pids("g"), "the target does not give it up")
            time.sleep(10)
            assert host.run_states("g")[-1].new == "postmigrate"
        answer = answer_of(sending)
        assert not answer["ok"]
        refuses(answer["error"], "goes on here")
        hosts.gave_up(receiving)
        hosts.assert_stayed()


def test_order_not_answered(host: EngineHost) -> None:
    """The line breaks as the order is given, and nobody answers any more: the guest stands still until it is known where it runs."""
    with two_hosts(host) as hosts, hosts.target.patched("_guest/arrival.py", "\nSILENCE = 15.0", "\nSILENCE = 90.0"):
        hosts.boot()
        hold = '            await self._try_to_go_on()\n        return {"running": self._runs'
        go = hosts.target.root / "fake-go"
        wait = f'            while not __import__("os").path.exists({str(go)!r}):\n                await asyncio.sleep(0.1)\n'
        deaf = f'            await self._try_to_go_on()\n{wait}        return {{"running": self._runs'
        with (
            host.patched("_guest/departure.py", "ORDER_TIMEOUT = 30.0", "ORDER_TIMEOUT = 2.0"),
            hosts.target.patched("_guest/arrival.py", hold, deaf),
        ):
            receiving = hosts.wait_for_guest()
            error = host.refused(*hosts.words("precopy"))
            refuses(error, "stands still here until that is known", "hostmem recover g")
            with host.qmp("g") as qmp:
                assert qmp("query-status")["status"] == "postmigrate"
            refuses(host.refused("start", "g"), "stands still here")
        go.touch()
        assert host.one("recover", "g")["outcome"].startswith("finished the move")
        result_of(receiving)
        hosts.assert_arrived()
