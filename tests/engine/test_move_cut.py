# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The network between two hosts breaks while a guest moves: a pre-copy is taken back, a post-copy goes on by itself."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time

import pytest

from support.engine import EngineHost, wait_until
from support.moves import TwoHosts, answer_of, hasty, impatient, result_of, two_hosts
from support.slow_wire import SlowWire
from support.sound import refuses
from support.wired_moves import PATIENT, begun_postcopy, wired


def wait_for_more(wire: SlowWire, before: int) -> None:
    """Until the two QEMUs are connected again."""
    wait_until(lambda: wire.connections > before, "they never found together again")


@pytest.mark.parametrize("times", [1, 2])
def test_postcopy_cut(host: EngineHost, times: int) -> None:
    with two_hosts(host, "11.1" if times == 1 else "10.0") as hosts:
        hosts.boot()
        with wired(hosts) as wire:
            receiving, sending = begun_postcopy(hosts)
            for _time in range(times):
                before = wire.connections
                wire.cut()
                wait_for_more(wire, before)
                time.sleep(0.5)
            wire.hasten(1e9)
            assert result_of(sending)["changed"]
            assert result_of(receiving)["how"] == "arrived"
        hosts.assert_arrived()


def test_postcopy_on_a_silent_network(host: EngineHost) -> None:
    """Nobody is told: that no page comes is all there is to see."""
    with two_hosts(host) as hosts, host.patched("_guest/departure.py", "STALL = 10.0", "STALL = 2.0"):
        hosts.boot()
        with wired(hosts) as wire:
            receiving, sending = begun_postcopy(hosts)
            before = wire.connections
            wire.fall_silent()
            wait_for_more(wire, before)
            wire.hasten(1e9)
            result_of(sending)
            result_of(receiving)
        hosts.assert_arrived()


def test_postcopy_cut_and_source_runtime_killed(host: EngineHost) -> None:
    """Its recovery leads the two QEMUs together again."""
    with two_hosts(host) as hosts:
        hosts.boot()
        with wired(hosts) as wire:
            receiving, sending = begun_postcopy(hosts)
            before = wire.connections
            hosts.kill_runtime(host)
            wire.cut()
            wait_for_more(wire, before)
            wire.hasten(1e9)
            sending.communicate()
            result_of(receiving)
        hosts.assert_arrived()


def switched_into_silence(hosts: TwoHosts, wire: SlowWire) -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
    """A post-copy whose switch has gone over the wire for no part: what QEMU sent for it is held there."""
    signs = hosts.source.root / "fake-signs"
    signs.mkdir()
    signs.chmod(0o777)
    come, go = signs / "come", signs / "go"
    wait = f"[time.sleep(0.01) for _look in iter(lambda: os.path.exists({str(go)!r}), True)]"
    act = f"import time; open({str(come)!r}, 'w').close(); {wait}"
    with hosts.source.at_command("migrate-continue", act, "before"):
        receiving = hosts.wait_for_guest()
        sending = hosts.source.begin(*hosts.words("postcopy", *PATIENT))
        wait_until(come.exists, "no switch came")
        wire.hasten(1e9)
        wait_until(lambda: not wire.held(), "the wire does not become empty")
        wire.fall_silent()
        go.touch()
        wait_until(wire.held, "nothing was sent")
    return receiving, sending


def test_cut_before_the_devices_are_there(host: EngineHost) -> None:
    """QEMU before 11 goes into post-copy with the last byte that it writes for it, and has no way back then: the guest is lost."""
    with two_hosts(host) as hosts:
        hosts.boot()
        with wired(hosts) as wire:
            receiving, sending = switched_into_silence(hosts, wire)
            journal = host.run_directory("g") / "journal.json"
            wait_until(lambda: '"ordered"' in journal.read_text(), "the source does not go into post-copy")
            wire.cut()
            sent = answer_of(sending)
            assert not sent["ok"]
            refuses(sent["error"], "Guest g is lost", "Post-copy had begun")
            hosts.gave_up(receiving)
        hosts.assert_lost()


def assert_did_not_go_on_by_itself(host: EngineHost) -> None:
    """QEMU does so with a guest that it has stopped itself, whenever a migration fails; of a post-copy the target may run it by then."""
    assert [state for state in host.run_states("g") if (state.old, state.new) == ("finish-migrate", "running")] == []


def test_cut_before_the_devices_are_there_from_qemu_11(host: EngineHost) -> None:
    """It stays postcopy-device until the target has them, and goes on with the guest by itself."""
    host.install("11.1")
    with two_hosts(host, "11.1") as hosts:
        hosts.boot()
        with wired(hosts) as wire:
            receiving, sending = switched_into_silence(hosts, wire)
            wire.cut()
            assert not answer_of(sending)["ok"]
            hosts.gave_up(receiving)
        assert_did_not_go_on_by_itself(host)
        hosts.assert_stayed()


def test_silence_before_the_devices_are_there_from_qemu_11(host: EngineHost) -> None:
    """Nobody is told of it: after the longest pause the channel is ended, and the guest goes on."""
    host.install("11.1")
    with two_hosts(host, "11.1") as hosts:
        hosts.boot()
        with (
            wired(hosts) as wire,
            host.patched("_guest/send.py", "self._progress.max_pause\n        await", "4.0\n        await"),
        ):
            receiving, sending = switched_into_silence(hosts, wire)
            assert not answer_of(sending)["ok"]
            wire.cut()
            hosts.gave_up(receiving)
        assert_did_not_go_on_by_itself(host)
        hosts.assert_stayed()


def test_silence_while_qemu_waits_for_a_page(host: EngineHost) -> None:
    """Its main loop does, right before it is to let the guest run: it answers nothing but what comes out of band, and only as long as there is
    not too much else that it has not come to."""
    with two_hosts(host) as hosts, host.patched("_guest/departure.py", "STALL = 10.0", "STALL = 2.0"):
        place = hosts.target.root / "fake-asked"
        place.mkdir()
        place.chmod(0o777)
        anchor = '            await self._qmp.execute("cont")\n'
        read = f"""            import os
            if not os.path.exists({str(place / "done")!r}):
                open({str(place / "done")!r}, "w").close()
                await self._qmp.send("pmemsave", {{"val": 0, "size": {64 << 20}, "filename": "/dev/null"}})
"""
        hosts.boot()
        with wired(hosts) as wire, hosts.target.patched("_guest/arrival.py", anchor, read + anchor):
            receiving = hosts.wait_for_guest()
            sending = host.begin(*hosts.words("postcopy", *PATIENT))
            wait_until((place / "done").exists, "no order came")
            before = wire.connections
            wire.fall_silent()
            wait_for_more(wire, before)
            wire.hasten(1e9)
            assert result_of(sending)["changed"]
            assert result_of(receiving)["how"] == "arrived"
        hosts.assert_arrived()


def test_order_that_takes_long(host: EngineHost) -> None:
    """Between the switch and the order of a post-copy the target keeps what the source cannot take back."""
    anchor = "            self.write(ORDERED)\n            try:\n                answer = await self.line.ask(CONTINUE"
    slow = anchor.replace("            try:", "            await asyncio.sleep(6)\n            try:", 1)
    with two_hosts(host) as hosts, impatient(hosts), host.patched("_guest/departure.py", anchor, slow):
        hosts.boot()
        with wired(hosts) as wire:
            receiving, sending = begun_postcopy(hosts)
            wire.hasten(1e9)
            assert result_of(sending)["changed"]
            result_of(receiving)
        hosts.assert_arrived()


def test_source_qemu_killed_in_postcopy(host: EngineHost) -> None:
    """With it the memory that it had not sent: the target's QEMU would wait for that for ever."""
    with two_hosts(host) as hosts, host.patched("_guest/move_orphan.py", "_NOTICE = 15.0", "_NOTICE = 1.0"):
        hosts.boot()
        with wired(hosts) as wire:
            receiving, sending = begun_postcopy(hosts)
            wire.fall_silent()
            os.kill(host.only_qemu("g"), signal.SIGKILL)
            sent = answer_of(sending)
            assert not sent["ok"]
            refuses(sent["error"], "Guest g is lost")
            hosts.gave_up(receiving)
        hosts.assert_lost()


LAST_PAGE = 'while (migration := await self.qmp.migration()).get("status") != "completed":'
FAILED = 'while (migration := {"status": "failed"}).get("status") != "completed":'


def test_postcopy_fails_at_its_end(host: EngineHost) -> None:
    """QEMU here goes on with the guest by itself then: it is ended, and the target's goes on when it has everything."""
    with two_hosts(host) as hosts:
        hosts.boot()
        failed = f"{LAST_PAGE}\n            await asyncio.sleep(0.1)\n        {FAILED}"
        with host.patched("_guest/departure.py", LAST_PAGE, failed):
            receiving = hosts.wait_for_guest()
            assert host.one(*hosts.words("postcopy", *PATIENT))["changed"]
            result_of(receiving)
        hosts.assert_arrived()


def test_stop_in_the_middle(host: EngineHost) -> None:
    """On either host it is refused before long, as a move may take hours; and the move goes on."""
    with two_hosts(host) as hosts:
        hosts.boot()
        with wired(hosts) as wire, contextlib.ExitStack() as stack:
            for each in (host, hosts.target):
                stack.enter_context(each.patched("_guest/verbs.py", "MOVE_WAIT = 60.0", "MOVE_WAIT = 2.0"))
            receiving = hosts.wait_for_guest()
            sending = host.begin(*hosts.words("precopy"))
            wait_until(wire.held, "no migration began")
            for each in (host, hosts.target):
                error = each.refused("stop", "--timeout", "0", "g")
                refuses(error, "goes to another host, or is waited for here", "hostmem info g")
            wire.hasten(1e9)
            assert result_of(sending)["changed"]
            result_of(receiving)
        hosts.assert_arrived()


def in_doubt_in_postcopy(hosts: TwoHosts, wire: SlowWire) -> tuple[subprocess.Popen[str], int]:
    """The guest runs on the target, a part of its memory is here, and the target's runtime does not answer: its verb, and that runtime."""
    receiving, sending = begun_postcopy(hosts)
    wait_until(lambda: hosts.target.info("g").get("move", {}).get("step") == "arrived", "no order came")
    runtime = json.loads((hosts.target.run_directory("g") / "journal.json").read_text())["pid"]
    os.kill(runtime, signal.SIGSTOP)
    wire.cut()
    assert not answer_of(sending)["ok"]
    return receiving, runtime


def test_stop_in_postcopy(host: EngineHost) -> None:
    """It would end a guest that runs on the other host."""
    with two_hosts(host) as hosts:
        hosts.boot()
        with wired(hosts) as wire:
            with hasty(host):
                receiving, runtime = in_doubt_in_postcopy(hosts, wire)
            error = host.refused("stop", "--timeout", "0", "g")
            refuses(error, "a part of its memory is in its QEMU here", "hostmem recover g", "hostmem stop --in-move g")
            assert host.only_qemu("g")
            os.kill(runtime, signal.SIGCONT)
            wire.hasten(1e9)
            assert host.one("recover", "g")["outcome"].startswith("finished the move")
            result_of(receiving)
        hosts.assert_arrived()


def test_stop_in_postcopy_that_is_asked_for(host: EngineHost) -> None:
    """The other host can still be asked, and ends what is left of the guest."""
    with two_hosts(host) as hosts:
        hosts.boot()
        with wired(hosts) as wire:
            with hasty(host):
                receiving, runtime = in_doubt_in_postcopy(hosts, wire)
            assert host.one("stop", "--in-move", "--timeout", "0", "g")["changed"]
            assert host.qemu_pids("g") == []
            refuses(host.refused("start", "g"), "was on its way to 127.0.0.1, and may run there")
            os.kill(runtime, signal.SIGCONT)
            assert host.one("recover", "g")["outcome"].startswith("the guest is lost: ")
            hosts.gave_up(receiving)
        hosts.assert_lost()


def test_silent_qemu_has_the_whole_guest(host: EngineHost) -> None:
    """The source's QEMU is gone, and the target's does not answer: that is no reason to end it."""
    with two_hosts(host) as hosts, impatient(hosts):
        hosts.boot()
        go = host.root / "fake-go"
        wait = f"import os\n        while not os.path.exists({str(go)!r}):\n            await asyncio.sleep(0.1)\n        {FAILED}"
        with (
            host.patched("_guest/departure.py", LAST_PAGE, wait),
            host.patched("_guest/move_orphan.py", "_NOTICE = 15.0", "_NOTICE = 1.0"),
            hosts.target.patched("_guest/qmp.py", "COMMAND_TIMEOUT = 10.0", "COMMAND_TIMEOUT = 2.0"),
        ):
            receiving, sending = begun_postcopy(hosts)
            wait_until(lambda: host.run_states("g")[-1].new == "postmigrate", "not everything is sent")
            os.kill(hosts.target.only_qemu("g"), signal.SIGSTOP)
            go.touch()
            sent = answer_of(sending)
            assert not sent["ok"]
            refuses(sent["error"], "does not say whether it has the whole guest", "QEMU here does not answer")
        os.kill(hosts.target.only_qemu("g"), signal.SIGCONT)
        assert host.one("recover", "g")["outcome"].startswith("QEMU was gone here: the guest goes on")
        result_of(receiving)
        hosts.assert_arrived()


def test_postcopy_fails_on_its_way(host: EngineHost) -> None:
    """The same while a part of the memory is still here."""
    with two_hosts(host) as hosts:
        hosts.boot()
        with wired(hosts), host.patched("_guest/departure.py", LAST_PAGE, FAILED):
            receiving = hosts.wait_for_guest()
            refuses(host.refused(*hosts.words("postcopy", *PATIENT)), "Guest g is lost")
            hosts.gave_up(receiving)
        hosts.assert_lost()


def test_precopy_cut(host: EngineHost) -> None:
    with two_hosts(host) as hosts:
        hosts.boot()
        with wired(hosts) as wire:
            receiving = hosts.wait_for_guest()
            sending = host.begin(*hosts.words("precopy"))
            wait_until(wire.held, "no migration began")
            wire.cut()
            answer = answer_of(sending)
            assert not answer["ok"]
            refuses(answer["error"], "failed")
            hosts.gave_up(receiving)
        hosts.assert_stayed()


def test_precopy_on_a_silent_network(host: EngineHost) -> None:
    """QEMU would wait for ever."""
    with two_hosts(host) as hosts, host.patched("_guest/departure.py", "STALL = 10.0", "STALL = 3.0"):
        hosts.boot()
        with wired(hosts) as wire:
            receiving = hosts.wait_for_guest()
            sending = host.begin(*hosts.words("precopy"))
            # Earlier QEMU writes in its main loop, and answers nobody; the guest goes on all the same, with another reason.
            journal = host.run_directory("g") / "journal.json"
            wait_until(lambda: journal.exists() and '"transferred"' in journal.read_text(), "no page went over")
            wire.fall_silent()
            answer = answer_of(sending)
            assert not answer["ok"]
            refuses(answer["error"], "Nothing has gone over to 127.0.0.1")
            hosts.gave_up(receiving)
        hosts.assert_stayed()


def test_precopy_that_does_not_come_to_an_end(host: EngineHost) -> None:
    with two_hosts(host) as hosts:
        hosts.boot()
        with wired(hosts):
            receiving = hosts.wait_for_guest()
            refuses(host.refused(*hosts.words("precopy", "--timeout", "2")), "did not come to pre-switchover in time")
            hosts.gave_up(receiving)
        hosts.assert_stayed()
