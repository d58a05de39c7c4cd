# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other programs: their status and output, and their surroundings."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.errors import HostmemError
from ansible_collections.hostmem.qemu.plugins.module_utils._host.programs import (
    TimeoutExpired,
    find_program,
    required,
    run,
    spawn,
)


def python(code: str) -> list[str]:
    """Words that run a little program."""
    return [sys.executable, "-c", code]


def test_status_and_output_are_kept_apart() -> None:
    done = run(python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"))
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_words_are_passed_as_they_are() -> None:
    assert run([*python("import sys; print(sys.argv[1:])"), "a b", "$HOME;", ""]).stdout == "['a b', '$HOME;', '']\n"


def test_there_is_no_input() -> None:
    assert run(python("import sys; print(repr(sys.stdin.read()))")).stdout == "''\n"


def test_output_that_is_no_text_is_shown_nevertheless() -> None:
    assert run(python(r"import os; os.write(1, b'a\xffb')")).stdout == "a\ufffdb"


def test_a_program_that_takes_too_long_is_ended() -> None:
    with pytest.raises(TimeoutExpired):
        run(python("import time; time.sleep(60)"), 0.1)


def test_a_missing_program(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run([str(tmp_path / "missing")])
    with pytest.raises(FileNotFoundError), open(os.devnull, "wb") as output:
        spawn([str(tmp_path / "missing")], output, [])


REPORT = """
import os, sys
print(os.getsid(0) == os.getpid(), os.getcwd(), oct(os.umask(0)), repr(sys.stdin.read()))
print(sorted(int(name) for name in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + name)) == [0, 1, 2, int(sys.argv[1])])
print('err', file=sys.stderr)
"""


def test_a_started_program_has_a_session_of_its_own_and_only_what_it_inherits(tmp_path: Path) -> None:
    kept, other = os.open(os.devnull, os.O_RDONLY), os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(other, True)
    target = tmp_path / "output"
    try:
        with target.open("wb") as output:
            started = spawn([*python(REPORT), str(kept)], output, [kept])
        assert started.wait(60) == 0
    finally:
        os.close(kept)
        os.close(other)
    assert sorted(target.read_text().splitlines()) == ["True", "True / 0o77 ''", "err"]


def test_a_missing_program_is_an_error_that_names_its_package() -> None:
    assert find_program("sh") == required("sh")
    with pytest.raises(HostmemError, match="The program hostmem-none is not installed on this host"):
        required("hostmem-none")
    with pytest.raises(HostmemError, match="Install the package that has hostmem-none"):
        run(["hostmem-none"])


def test_programs_of_administrators_are_found_without_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert find_program("sh") is not None
