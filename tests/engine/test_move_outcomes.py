# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The target keeps what became of each move, and tells it: after a kill at any step, and after it went down as a whole."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.move_outcomes import KEPT
from support.engine import EngineHost, wait_until
from support.host import USER
from support.moves import (
    ADDRESS,
    SOURCE,
    TwoHosts,
    answer_of,
    asked,
    hasty,
    impatient,
    listens,
    once,
    result_of,
    two_hosts,
)
from support.sound import refuses
from support.wired_moves import PATIENT, begun_postcopy, wired

METHODS = ["precopy", "postcopy"]
KILL = "os.kill(os.getpid(), 9)"
# For good: nobody recovers it either.
DOWN = "os.kill(os.getpid(), 19)"


def at_outcome(host: EngineHost, state: str, act: str, when: str = "after") -> contextlib.AbstractContextManager[None]:
    """The runtime doing ``act`` once, right before or after what became of a move is known to last."""
    path = f"arguments[{0 if when == 'before' else 1}]"
    seen = f"{json.dumps(state)!r} in open({path}).read() and ({once(host, act)})"
    return host.at_function("_guest/move_outcomes.py", "rename_durably", seen, when)


def kept(host: EngineHost) -> list[str]:
    """The states of all moves to this host."""
    places = (Path(host.settings["state"]) / "g" / "arrivals").iterdir()
    return [json.loads(place.read_text())["state"] for place in places if not place.name.endswith(".new")]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("state", ["begun", "ordered", "runs"])
def test_target_runtime_killed(host: EngineHost, state: str, when: str, method: str) -> None:
    """Before the order is known to last it has not been given; from then on the recovery carries it out."""
    with two_hosts(host) as hosts, impatient(hosts):
        hosts.boot()
        with (
            at_outcome(hosts.target, state, KILL, when),
            host.patched("_guest/send.py", "_BEGIN_TIMEOUT = 30.0", "_BEGIN_TIMEOUT = 3.0"),
            host.patched("_guest/departure.py", "_GOOD_BYE = 5.0", "_GOOD_BYE = 1.0"),
        ):
            receiving = hosts.wait_for_guest()
            if state == "begun":
                host.refused(*hosts.words(method))
            else:
                assert host.one(*hosts.words(method))["changed"]
            receiving.communicate()
        if state == "begun":
            hosts.assert_stayed()
        else:
            hosts.assert_arrived()
            assert kept(hosts.target) == ["runs"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_target_runtime_killed_while_a_part_is_at_the_source(host: EngineHost, when: str) -> None:
    with two_hosts(host) as hosts, impatient(hosts):
        hosts.boot()
        with at_outcome(hosts.target, "runs-in-part", KILL, when):
            receiving = hosts.wait_for_guest()
            assert host.one(*hosts.words("postcopy"))["changed"]
            receiving.communicate()
        hosts.assert_arrived()
        assert kept(hosts.target) == ["runs"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_target_runtime_killed_as_it_gives_up(host: EngineHost, when: str) -> None:
    with two_hosts(host) as hosts, impatient(hosts):
        hosts.boot()
        with at_outcome(hosts.target, "given-up", KILL, when):
            receiving = hosts.wait_for_guest()
            host.refused(*hosts.words("precopy", "--timeout", "0"))
            receiving.communicate()
        hosts.assert_stayed()


def test_order_that_does_not_last(host: EngineHost) -> None:
    """The disk takes the name of what is kept, but not for good: the guest has not been ordered, and nobody reads that it was."""
    fails = "os.stat(chr(47) + chr(110) * 9)"
    seen = "open(arguments[0]).read()"
    act = f"'\"ordered\"' in {seen} and (os.rename(*arguments), {fails}), '\"given-up\"' in {seen} and {fails}"
    with two_hosts(host) as hosts, impatient(hosts):
        hosts.boot()
        with hosts.target.at_function("_guest/move_outcomes.py", "rename_durably", act, "before"):
            receiving = hosts.wait_for_guest()
            refuses(host.refused(*hosts.words("precopy")), "stands still here until that is known")
            os.kill(hosts.target.only_qemu("g"), signal.SIGKILL)
            assert host.one("recover", "g")["outcome"] == "took the move back: the guest goes on here"
            assert kept(hosts.target) == ["begun"]
            hosts.gave_up(receiving)
        hosts.assert_stayed()


# --- what is kept gets lost while the guest runs


def future(hosts: TwoHosts) -> None:
    """As many other moves as are kept, of a time that has not come: the clock was set back after them."""
    directory = Path(hosts.target.settings["state"]) / "g" / "arrivals"
    directory.mkdir(parents=True)
    for number in range(KEPT):
        place = directory / f"{number:032x}"
        place.write_text(json.dumps({"state": "given-up", "why": "", "at": 0.0}))
        os.utime(place, (2**32, 2**32))
    for place in (directory.parent, directory, *directory.iterdir()):
        shutil.chown(place, USER, USER)


def forget_outcomes(hosts: TwoHosts) -> None:
    shutil.rmtree(Path(hosts.target.settings["state"]) / "g" / "arrivals")


def forget_order(hosts: TwoHosts) -> None:
    """The journal, too, is older than the order."""
    forget_outcomes(hosts)
    journal = hosts.target.run_directory("g") / "journal.json"
    journal.write_text(journal.read_text().replace('"arrived"', '"arriving"'))


@pytest.mark.parametrize("forget", [None, forget_outcomes, forget_order])
def test_a_guest_that_runs_is_not_ended(host: EngineHost, forget: Callable[[TwoHosts], None] | None) -> None:
    """Its runtime is killed right as it has let it run, and the line is cut: nobody is told that it was given up, as it was not."""
    with two_hosts(host) as hosts, impatient(hosts):
        with host.patched("_guest/departure.py", "ORDER_TIMEOUT = 30.0", "ORDER_TIMEOUT = 2.0"):
            hosts.boot()
            if forget is None:
                future(hosts)
            with at_outcome(hosts.target, "runs", DOWN, "before"):
                receiving = hosts.wait_for_guest()
                refuses(host.refused(*hosts.words("precopy")), "stands still here until that is known")
        if forget is not None:
            forget(hosts)
        for pid in hosts.target.stopped_runtimes():
            os.kill(pid, signal.SIGKILL)
        receiving.communicate(timeout=60)
        hosts.target.wait_quiet()
        assert hosts.target.only_qemu("g")
        outcome, _told = recovered(hosts)
        assert outcome.startswith("finished the move")
        hosts.assert_arrived()


def test_a_guest_that_ran_and_was_paused_is_not_ended(host: EngineHost) -> None:
    """Nothing is kept of its order but the journal: QEMU does not say that it runs."""
    ran = '            await self._qmp.execute("announce-self", **_ANNOUNCE)\n'
    with two_hosts(host) as hosts, impatient(hosts):
        paused = f'            if ({once(hosts.target, "True")}) is not True: await self._qmp.execute("stop")\n'
        with (
            host.patched("_guest/departure.py", "ORDER_TIMEOUT = 30.0", "ORDER_TIMEOUT = 2.0"),
            hosts.target.patched("_guest/arrival.py", ran, f"            import os\n{ran}{paused}"),
            at_outcome(hosts.target, "runs", DOWN, "before"),
        ):
            hosts.boot()
            receiving = hosts.wait_for_guest()
            refuses(host.refused(*hosts.words("precopy")), "stands still here until that is known")
            forget_outcomes(hosts)
            for pid in hosts.target.stopped_runtimes():
                os.kill(pid, signal.SIGKILL)
            receiving.communicate(timeout=60)
            hosts.target.wait_quiet()
        assert hosts.target.only_qemu("g")
        assert recovered(hosts)[0].startswith("finished the move")
        hosts.assert_arrived()


def test_strangers_drive_nothing_out(host: EngineHost) -> None:
    """While a move is under way nothing is kept of others that are called off."""
    with two_hosts(host) as hosts:
        hosts.options = ["--plain"]
        hosts.boot()
        with hosts.target.patched("_guest/arrival.py", "\nSILENCE = 15.0", "\nSILENCE = 90.0"):
            receiving = hosts.wait_for_guest()
            with host.at_step("ordered", once(host, DOWN), "before"):
                sending = host.begin(*hosts.words("precopy"))
                wait_until(host.stopped_runtimes, "no order came")
                for number in range(KEPT + 1):
                    assert "given_up" in asked(hosts, word="give-up", token=f"{number:032x}", serial=1)
                assert kept(hosts.target) == ["begun"]
                for pid in host.stopped_runtimes():
                    os.kill(pid, signal.SIGCONT)
                assert result_of(sending)["changed"]
            result_of(receiving)
        hosts.assert_arrived()


# --- the target goes down with everything, and comes back


def go_down(host: EngineHost, verb: subprocess.Popen[str]) -> None:
    """All that a boot of a host would end; /run is empty afterwards."""
    for pid in [*host.runtimes(), *host.qemu_pids("g")]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    verb.communicate()
    wait_until(lambda: not host.runtimes() and not host.qemu_pids("g"), "something lives on")
    shutil.rmtree(host.run_directory("g"))
    for file in host.memory.rglob("*qemu_back_mem*"):
        file.unlink()


@contextlib.contextmanager
def gone_target(hosts: TwoHosts, state: str, when: str, method: str, *options: str) -> Iterator[dict[str, Any]]:
    """The target went down at a step, and nobody is there for the source; the error of its verb."""
    with hosts.source.patched("_guest/departure.py", "ORDER_TIMEOUT = 30.0", "ORDER_TIMEOUT = 1.0"):
        hosts.boot()
        with at_outcome(hosts.target, state, DOWN, when):
            receiving = hosts.wait_for_guest()
            sending = hosts.source.begin(*hosts.words(method, *options))
            wait_until(hosts.target.stopped_runtimes, "the move has not come as far")
            go_down(hosts.target, receiving)
            answer = answer_of(sending)
    assert not answer["ok"]
    yield answer["error"]


def recovered(hosts: TwoHosts) -> tuple[str, dict[str, Any]]:
    """The source asks, as the target tells; what they say."""
    answering = hosts.target.begin("answer", "--listen", ADDRESS, "--port", str(hosts.port), *hosts.options, "g")
    wait_until(lambda: listens(hosts.port) or answering.poll() is not None, "nobody listens")
    outcome = hosts.source.one("recover", "g")["outcome"]
    return outcome, result_of(answering)


def assert_has_told_nobody(answering: subprocess.Popen[str]) -> None:
    """It still waits for who is in doubt; and not any more afterwards."""
    assert answering.poll() is None, answering.communicate()
    os.killpg(answering.pid, signal.SIGKILL)
    answering.communicate()


def test_gone_before_the_order(host: EngineHost) -> None:
    """Asking gives it up: the guest goes on at the source."""
    with two_hosts(host) as hosts, gone_target(hosts, "ordered", "before", "precopy") as error:
        refuses(error, "stands still here until that is known", "hostmem answer g", "hostmem recover g")
        outcome, told = recovered(hosts)
        assert outcome == "took the move back: the guest goes on here"
        assert (told["changed"], list(told["told"].values())) == (True, ["given-up"])
        hosts.assert_stayed()


def test_gone_before_the_order_starts_nothing(host: EngineHost) -> None:
    """The source has the guest, and may go on with it: a start there would be a second one."""
    with two_hosts(host) as hosts, gone_target(hosts, "ordered", "before", "precopy"):
        refuses(hosts.target.refused("start", "g"), "was to come here", "hostmem discard g")
        assert hosts.target.qemu_pids("g") == []
        outcome, _told = recovered(hosts)
        assert outcome == "took the move back: the guest goes on here"
        hosts.assert_stayed()


def test_gone_before_the_order_and_started_all_the_same(host: EngineHost) -> None:
    """Somebody said that it does not exist elsewhere: the source does not get it back as long as it runs there."""
    with two_hosts(host) as hosts, gone_target(hosts, "ordered", "before", "precopy"):
        hosts.target.one("discard", "g")
        hosts.target.one("start", "g")
        words = ["answer", "--listen", ADDRESS, "--port", str(hosts.port), "g"]
        answering = hosts.target.begin(*words)
        wait_until(lambda: listens(hosts.port), "nobody listens")
        refuses(
            host.refused("recover", "g"), "stands still here until that is known", "runs here, and not by this move"
        )
        assert_has_told_nobody(answering)
        with host.qmp("g") as qmp:
            assert qmp("query-status")["status"] == "postmigrate"
        assert kept(hosts.target) == ["begun"]
        hosts.target.one("stop", "--timeout", "0", "g")
        assert recovered(hosts)[0] == "took the move back: the guest goes on here"


def test_gone_after_the_order(host: EngineHost) -> None:
    """It may have run there: it does not go on at the source, and that is said."""
    with two_hosts(host) as hosts, gone_target(hosts, "ordered", "after", "precopy") as error:
        refuses(error, "stands still here until that is known")
        outcome, told = recovered(hosts)
        assert outcome.startswith("the guest is lost: ")
        assert (told["changed"], list(told["told"].values())) == (False, ["ordered"])
        hosts.assert_lost()


def test_gone_as_it_ran(host: EngineHost) -> None:
    """It ran there: it is the target's, whatever became of that since."""
    with two_hosts(host) as hosts, gone_target(hosts, "runs", "after", "precopy") as error:
        refuses(error, "stands still here until that is known")
        outcome, told = recovered(hosts)
        assert outcome.startswith("finished the move")
        assert (told["changed"], list(told["told"].values())) == (False, ["runs"])
        assert host.qemu_pids("g") == []
        refuses(host.refused("start", "g"), "was moved to 127.0.0.1")
        hosts.assert_never_two()


def test_gone_in_postcopy_before_the_order(host: EngineHost) -> None:
    """The source's QEMU has no way back then, as long as it has not sent everything."""
    with (
        two_hosts(host) as hosts,
        wired(hosts),
        gone_target(hosts, "ordered", "before", "postcopy", *PATIENT) as error,
    ):
        refuses(error, "stands still here until that is known")
        outcome, _told = recovered(hosts)
        assert outcome.startswith("the guest is lost: ")
        hosts.assert_lost()


def test_gone_in_postcopy(host: EngineHost) -> None:
    """It ran there, and a part of its memory was still here: without the other one that is no guest any more."""
    with two_hosts(host) as hosts:
        hosts.boot()
        with wired(hosts) as wire, hasty(host):
            receiving, sending = begun_postcopy(hosts)
            wait_until(lambda: kept(hosts.target) == ["runs-in-part"], "it is not known to run there")
            wire.fall_silent()
            go_down(hosts.target, receiving)
            wire.cut()
            answer = answer_of(sending)
        assert not answer["ok"]
        refuses(answer["error"], "hostmem recover g")
        outcome, told = recovered(hosts)
        assert outcome.startswith("the guest is lost: ")
        assert list(told["told"].values()) == ["runs-in-part"]
        hosts.assert_lost()


def test_target_qemu_and_runtime_killed_in_postcopy(host: EngineHost) -> None:
    """The recovery there finds no QEMU, and keeps that."""
    with two_hosts(host) as hosts:
        hosts.boot()
        with wired(hosts) as wire, hasty(host):
            receiving, sending = begun_postcopy(hosts)
            wait_until(lambda: hosts.target.info("g").get("move", {}).get("step") == "arrived", "no order came")
            wait_until(lambda: kept(hosts.target) == ["runs-in-part"], "it is not known to run there")
            wire.fall_silent()
            runtime = json.loads((hosts.target.run_directory("g") / "journal.json").read_text())["pid"]
            os.kill(runtime, signal.SIGSTOP)
            os.kill(hosts.target.only_qemu("g"), signal.SIGKILL)
            wait_until(lambda: not hosts.target.qemu_pids("g"), "QEMU lives on")
            os.kill(runtime, signal.SIGKILL)
            wire.cut()
            receiving.communicate()
            assert not answer_of(sending)["ok"]
        hosts.target.wait_quiet()
        assert kept(hosts.target) == ["lost"]
        assert recovered(hosts)[0].startswith("the guest is lost: ")
        hosts.assert_lost()


def test_source_asks_twice(host: EngineHost) -> None:
    """The answer is the same, also when the first one got lost."""
    with two_hosts(host) as hosts, gone_target(hosts, "ordered", "before", "precopy"):
        say = '                await link.say({**said, "serial": message.get("serial")})\n'
        keep = "                await asyncio.sleep(60)\n"
        with (
            hosts.target.patched("_guest/answer.py", say, keep),
            host.patched("_guest/departure.py", "ORDER_TIMEOUT = 30.0", "ORDER_TIMEOUT = 3.0"),
        ):
            answering = hosts.target.begin("answer", "--listen", ADDRESS, "--port", str(hosts.port), "g")
            wait_until(lambda: listens(hosts.port), "nobody listens")
            refuses(host.refused("recover", "g"), "stands still here until that is known")
            os.killpg(answering.pid, signal.SIGKILL)
            answering.communicate()
        hosts.target.wait_quiet()
        assert kept(hosts.target) == ["given-up"]
        outcome, _told = recovered(hosts)
        assert outcome == "took the move back: the guest goes on here"
        hosts.assert_stayed()


def test_undefined_and_defined_again(host: EngineHost) -> None:
    """What the source may still ask for is kept; once it has, nothing is."""
    with two_hosts(host) as hosts, gone_target(hosts, "ordered", "before", "precopy"):
        refuses(hosts.target.refused("undefine", "g"), "is on another host, or may be", "hostmem discard g")
        hosts.target.one("discard", "g")
        hosts.target.one("undefine", "g")
        state = Path(hosts.target.settings["state"]) / "g"
        assert [path.name for path in state.iterdir()] == ["arrivals"]
        assert kept(hosts.target) == ["begun"]
        hosts.target.define(hosts.target.heartbeat("g"))
        assert recovered(hosts)[0] == "took the move back: the guest goes on here"
        hosts.assert_stayed()
        hosts.target.one("undefine", "g")
        assert not state.exists()


def test_strangers_ask(host: EngineHost) -> None:
    """They are answered, and the one who is in doubt is still waited for."""
    with two_hosts(host) as hosts:
        hosts.options = ["--plain"]
        with gone_target(hosts, "ordered", "before", "precopy"):
            words = ["answer", "--listen", ADDRESS, "--port", str(hosts.port), "--plain", "g"]
            answering = hosts.target.begin(*words)
            wait_until(lambda: listens(hosts.port), "nobody listens")
            assert "given_up" in asked(hosts, word="give-up", token="e" * 32, serial=1)
            assert host.one("recover", "g")["outcome"] == "took the move back: the guest goes on here"
            assert list(result_of(answering)["told"].values()) == ["given-up"]
            hosts.assert_stayed()


def test_one_is_expected_to_ask(host: EngineHost) -> None:
    with two_hosts(host) as hosts, gone_target(hosts, "ordered", "before", "precopy"):
        words = ["answer", "--listen", ADDRESS, "--port", str(hosts.port)]
        answering = hosts.target.begin(*words, "--from", "hv3.example.com", "g")
        wait_until(lambda: listens(hosts.port), "nobody listens")
        refuses(host.refused("recover", "g"), "is expected from hv3.example.com")
        assert_has_told_nobody(answering)
        assert kept(hosts.target) == ["begun"]
        answering = hosts.target.begin(*words, "--from", SOURCE, "g")
        wait_until(lambda: listens(hosts.port), "nobody listens")
        assert host.one("recover", "g")["outcome"] == "took the move back: the guest goes on here"
        result_of(answering)
        refuses(hosts.target.refused(*words, "--plain", "--from", SOURCE, "g"), "In clear nobody has a name")


def test_nobody_asks(host: EngineHost) -> None:
    with two_hosts(host) as hosts:
        hosts.boot()
        error = hosts.target.refused("answer", "--listen", ADDRESS, "--port", "0", "--timeout", "0.1", "g")
        refuses(error, "Nobody asked", "hostmem recover g")


# --- the source goes down with everything, and comes back


def test_source_gone_before_the_order(host: EngineHost) -> None:
    """In a pre-copy that takes long: the target gives it up, and tells so."""
    with two_hosts(host) as hosts, impatient(hosts):
        hosts.boot()
        with wired(hosts):
            receiving = hosts.wait_for_guest()
            sending = host.begin(*hosts.words("precopy"))
            journal = host.run_directory("g") / "journal.json"
            wait_until(lambda: journal.exists() and '"transferred"' in journal.read_text(), "no page went over")
            go_down(host, sending)
            hosts.gave_up(receiving)
        refuses(host.refused("start", "g"), "was on its way to 127.0.0.1, and may run there", "hostmem recover g")
        with host.patched("_guest/recovery_mark.py", "_ANSWER = 15.0", "_ANSWER = 2.0"):
            refuses(host.refused("recover", "g"), "does not say what became of the move", "hostmem answer g")
        outcome, told = recovered(hosts)
        assert outcome == "the guest had not run at 127.0.0.1: it can be started here again"
        assert list(told["told"].values()) == ["given-up"]
        hosts.assert_target_empty()
        assert host.one("start", "g")["changed"]


def test_source_gone_after_the_order(host: EngineHost) -> None:
    with two_hosts(host) as hosts, impatient(hosts):
        hosts.boot()
        receiving = hosts.wait_for_guest()
        anchor = "        await self._all_sent()\n"
        with host.patched("_guest/departure.py", anchor, f"        import os; {DOWN}\n{anchor}"):
            sending = host.begin(*hosts.words("precopy"))
            wait_until(host.stopped_runtimes, "the move has not come as far")
            go_down(host, sending)
        result_of(receiving)
        refuses(host.refused("start", "g"), "was on its way to 127.0.0.1, and may run there")
        assert recovered(hosts)[0] == "the guest goes on at 127.0.0.1"
        assert not host.one("recover", "g")["changed"]
        hosts.assert_arrived()


def test_source_gone_in_postcopy(host: EngineHost) -> None:
    """With a part of the guest's memory: the target's QEMU would wait for that for ever."""
    with two_hosts(host) as hosts:
        hosts.boot()
        with wired(hosts) as wire:
            receiving, sending = begun_postcopy(hosts)
            wire.fall_silent()
            go_down(host, sending)
            wire.cut()
            assert host.one("recover", "g")["outcome"].startswith("the guest is lost: ")
            hosts.gave_up(receiving)
        hosts.assert_lost()


# --- moves that are not under way


def test_a_move_that_was_called_off_does_not_begin(host: EngineHost) -> None:
    """Its beginning may come late, over a line of its own."""
    with two_hosts(host) as hosts:
        hosts.options = ["--plain"]
        hosts.boot()
        receiving = hosts.wait_for_guest()
        assert "given_up" in asked(hosts, word="give-up", token="a" * 32, serial=1)
        refuses(asked(hosts, word="begin", token="a" * 32, serial=2, terms={})["error"], "begins once")
        hosts.assert_still_waits(receiving)


def test_a_move_that_is_not_known(host: EngineHost) -> None:
    with two_hosts(host) as hosts:
        hosts.options = ["--plain"]
        hosts.target.define(hosts.target.heartbeat("g"))
        receiving = hosts.wait_for_guest()
        words = ["continue", "alive", "finish", "lost", "rejoin"]
        for word, token in itertools.product(words, ["b" * 32, "../../../../etc/passwd", ""]):
            error = asked(hosts, word=word, token=token, serial=1)["error"]
            refuses(error, "No such move of guest g is known here")
        hosts.assert_still_waits(receiving)
