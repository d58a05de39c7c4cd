# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Moves whose runtimes answer late, fail in the middle or hear strangers: no answer is taken for another, and no guest runs twice."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import pytest

from support.engine import EngineHost, wait_until
from support.host import USER
from support.moves import asked, impatient, not_dialling_long, once, result_of, two_hosts
from support.sound import refuses, undisturbed

METHODS = ["precopy", "postcopy"]


@pytest.mark.parametrize("method", METHODS)
def test_late_answers(host: EngineHost, method: str) -> None:
    """One to the question whether the target is there is on its way as the order is given."""
    status = '        return {"status": await self._status()}\n'
    with (
        two_hosts(host) as hosts,
        host.patched("_guest/send.py", "_WORD = 1.0", "_WORD = 0.0"),
        hosts.target.patched("_guest/arrival.py", status, f"        await asyncio.sleep(0.5)\n{status}"),
    ):
        hosts.boot()
        receiving = hosts.wait_for_guest()
        sent = host.one(*hosts.words(method))
        assert sent["pause_ms"] > 0, sent
        result_of(receiving)
        hosts.assert_arrived()


@pytest.mark.parametrize("method", METHODS)
def test_target_fails_to_run_it(host: EngineHost, method: str) -> None:
    """It says that the guest runs when it does, and not because it was told so before."""
    anchor = '            await self._qmp.execute("cont")\n'
    with two_hosts(host) as hosts:
        hosts.boot()
        fails = f"            import os; {once(hosts.target, 'os.stat(chr(47) + chr(110) * 9)')}\n"
        with hosts.target.patched("_guest/arrival.py", anchor, fails + anchor):
            receiving = hosts.wait_for_guest()
            assert host.one(*hosts.words(method))["changed"]
            result_of(receiving)
        hosts.assert_arrived()


@pytest.mark.parametrize("method", METHODS)
def test_target_qemu_killed_as_the_guest_runs_there(host: EngineHost, method: str) -> None:
    """It may have written to its disks: the memory that the source still has is older."""
    anchor = '            await self._qmp.execute("announce-self", **_ANNOUNCE)\n'
    kill = "            import os; os.kill(self._generation.alive.pid, 9)\n"
    with two_hosts(host) as hosts, impatient(hosts), hosts.target.patched("_guest/arrival.py", anchor, kill + anchor):
        hosts.boot()
        receiving = hosts.wait_for_guest()
        error = host.refused(*hosts.words(method))
        assert "lost" in json.dumps(error), error
        hosts.gave_up(receiving)
        hosts.assert_lost()


def test_order_that_the_source_has_forgotten(host: EngineHost) -> None:
    """Its journal is older than the order, and says that the guest may come back: the destination knows better."""
    with two_hosts(host) as hosts:
        hosts.boot()
        written = (
            "            self.write(ORDERED)\n            try:\n                answer = await self.line.ask(CONTINUE"
        )
        older = written.replace("self.write(ORDERED)", 'self.write("sending")')
        anchor = "        await self._all_sent()\n"
        kill = once(host, "os.kill(os.getpid(), 9)")
        with (
            host.patched("_guest/departure.py", written, older),
            host.patched("_guest/departure.py", anchor, f"        import os; {kill}\n{anchor}"),
        ):
            receiving = hosts.wait_for_guest()
            sending = host.begin(*hosts.words("precopy"))
            journal = host.run_directory("g") / "journal.json"
            wait_until(lambda: journal.exists() and '"ordered"' in journal.read_text(), "it does not learn of it")
        assert host.run_states("g")[-1].new == "postmigrate"
        assert host.one("recover", "g")["outcome"].startswith("finished the move")
        sending.communicate()
        result_of(receiving)
        hosts.assert_arrived()


def test_lost_says_the_target_of_a_guest_that_it_gave_up(host: EngineHost) -> None:
    """It could not keep that it had: the guest goes on at the source by then, and is not ended there."""
    with two_hosts(host) as hosts, impatient(hosts):
        place = host.root / "fake-lost"
        place.mkdir()
        place.chmod(0o777)
        mark = str(place / "done")
        gone = '        return {"lost" if self._ordered else "given_up": self._given_up}\n'
        other = f'        return {{"lost" if os.path.exists({mark!r}) else "given_up": self._given_up}}\n'
        loads = '            status, run_state = await self._status(), ""\n'
        kill = f"os.path.exists({mark!r}) or (open({mark!r}, 'w').close(), os.kill(os.getpid(), 9))"
        goes = "            await self._continue()\n        await self._stay()\n"
        hosts.boot()
        with (
            hosts.target.patched("_guest/arrival.py", gone, f"        import os\n{other}"),
            hosts.target.patched(
                "_guest/arrival.py", loads, f"            import os; os.kill(self._generation.alive.pid, 9)\n{loads}"
            ),
            host.patched(
                "_guest/departure.py",
                goes,
                goes.replace("        await self._stay", f"        import os; {kill}\n        await self._stay"),
            ),
        ):
            receiving = hosts.wait_for_guest()
            host.begin(*hosts.words("precopy")).communicate()
            host.wait_quiet()
            hosts.gave_up(receiving)
        hosts.assert_stayed()


def test_mark_of_an_old_move(host: EngineHost) -> None:
    """The guest runs here: a move of it that fails is none that succeeded."""
    with two_hosts(host) as hosts:
        hosts.boot()
        mark = Path(host.settings["state"]) / "g" / "moved.json"
        mark.write_text(json.dumps({"to": "127.0.0.1", "token": "a" * 32, "left": True}))
        shutil.chown(mark, USER, USER)
        hosts.port = 1
        with undisturbed(host, "g", hosts.look()), not_dialling_long(host):
            refuses(host.refused(*hosts.words("precopy")), "cannot be reached")


def test_given_up_as_it_begins(host: EngineHost) -> None:
    """The first answer got lost, and the target's QEMU died since."""
    begun = "        self._write()\n        return await self._begun()\n"
    dies = "        self._write()\n        await self._dissolve('QEMU here ended.')\n        return self._gone()\n"
    with two_hosts(host) as hosts, impatient(hosts), hosts.target.patched("_guest/arrival.py", begun, dies):
        hosts.boot()
        receiving = hosts.wait_for_guest()
        refuses(host.refused(*hosts.words("precopy")), "gave the guest up", "QEMU here ended")
        hosts.gave_up(receiving)
        hosts.assert_stayed()


def test_no_token(host: EngineHost) -> None:
    with two_hosts(host) as hosts:
        hosts.options = ["--plain"]
        hosts.boot()
        receiving = hosts.wait_for_guest()
        for token in ("", "0" * 31, "g" * 32):
            error = asked(hosts, word="begin", token=token, serial=7, terms={})["error"]
            refuses(error, "needs a token")
        hosts.assert_still_waits(receiving)


def test_tls_that_neither_qemu_has(host: EngineHost) -> None:
    """Both in clear are alike, too: the guest's memory is sent so only when asked for by name."""
    line = 'tls_creds=QEMU_ID if credentials else ""'
    with two_hosts(host) as hosts, contextlib.ExitStack() as stack:
        for each in (host, hosts.target):
            stack.enter_context(each.patched("_guest/move_channel.py", line, 'tls_creds=""'))
        hosts.boot()
        receiving = hosts.wait_for_guest()
        refuses(host.refused(*hosts.words("precopy")), "sent in clear")
        hosts.gave_up(receiving)
        hosts.assert_stayed()


def test_stopped_in_doubt(host: EngineHost) -> None:
    """The target's runtime and QEMU died as the order came, and nobody says so: who has looked ends the QEMU here by a stop."""
    act = "([os.kill(pid, 9) for pid in qemu(facts['generation'])], os.kill(os.getpid(), 9))"
    with two_hosts(host) as hosts, host.patched("_guest/departure.py", "ORDER_TIMEOUT = 30.0", "ORDER_TIMEOUT = 2.0"):
        hosts.boot()
        with hosts.target.at_step("arrived", act, "before"):
            receiving = hosts.wait_for_guest()
            refuses(host.refused(*hosts.words("precopy")), "stands still here until that is known")
            receiving.communicate()
        assert host.only_qemu("g")
        host.one("stop", "--timeout", "0", "g")
        assert host.qemu_pids("g") == []
        refuses(host.refused("start", "g"), "was on its way to 127.0.0.1, and may run there")
        host.one("discard", "g")
        assert host.one("start", "g")["changed"]
