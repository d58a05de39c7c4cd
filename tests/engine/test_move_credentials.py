# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates for moves: the module on real files, and real QEMUs, OpenSSL and unprivileged users that read them."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host import tls_handshake
from ansible_collections.hostmem.qemu.plugins.module_utils._host.tls_handshake import FILES, KEYS
from ansible_collections.hostmem.qemu.plugins.plugin_utils._authority import make_authority, sign
from support.credentials import Controller
from support.engine import wait_until
from support.host import MACHINE, QEMU_TREES, USER, ensure_user
from support.modules import run_module
from support.qmp import QmpSession

NAMES = ["127.0.0.1", "fd00::1", "hv1.example.com"]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that other users can enter, on a machine that has QEMU's user."""
    ensure_user()
    new = Path(tempfile.mkdtemp(prefix="hm", dir="/tmp"))
    new.chmod(0o755)
    yield new
    shutil.rmtree(new)


@pytest.fixture
def controller(place: Path) -> Controller:
    return Controller(place / "controller" / "authority")


@pytest.fixture
def hv1(place: Path, controller: Controller) -> Path:
    """A host that has credentials."""
    made = place / "hv1"
    assert controller.give(made, NAMES)["changed"]
    return made


def content(directory: Path) -> dict[str, bytes]:
    return {name: (directory / name).read_bytes() for name in FILES}


def judged_by_openssl(directory: Path, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [
        "openssl",
        "verify",
        "-x509_strict",
        "-CAfile",
        str(directory / "ca-cert.pem"),
        *words,
        str(directory / name),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_host_gets_credentials(place: Path, controller: Controller) -> None:
    host = place / "hv1"
    foretold = controller.ask(host, NAMES, check=True)
    assert not host.exists()
    assert not controller.authority.exists()
    done = controller.give(host, NAMES)
    assert done["changed"]
    # The authority was still to be made.
    assert foretold["credentials"].pop("authority") == foretold["diff"]["after"].pop("authority") == ""
    authority = done["credentials"].pop("authority")
    assert done["diff"]["after"].pop("authority") == authority
    assert foretold == done
    assert done["credentials"]["names"] == NAMES
    assert done["diff"]["after"]["permissions"] == {
        ".": f"0750 root:{USER}",
        **dict.fromkeys(FILES, f"0640 root:{USER}"),
    }
    assert sorted(os.listdir(host)) == sorted(FILES)
    before = content(host)
    again = controller.give(host, NAMES)
    assert (again["changed"], again["diff"]["before"]) == (False, again["diff"]["after"])
    assert content(host) == before


def test_nothing_secret_is_told(place: Path, controller: Controller) -> None:
    told = [controller.ask(place / "hv1", NAMES, check=True), controller.ask(place / "hv1", NAMES)]
    told += [controller.give(place / "hv1", NAMES), controller.ask(place / "hv1", NAMES)]
    keys = [place / "hv1" / name for name in KEYS] + [controller.authority / "ca-key.pem"]
    for key in keys:
        lines = [line for line in key.read_text().splitlines() if not line.startswith("-----")]
        assert lines
        assert not any(line in json.dumps(told) for line in lines)


def test_who_can_read_them(hv1: Path) -> None:
    for user, group, can in ((USER, USER, True), ("nobody", "nogroup", False)):
        for name in FILES:
            words = ["setpriv", f"--reuid={user}", f"--regid={group}", "--init-groups", "cat", str(hv1 / name)]
            assert (subprocess.run(words, capture_output=True, check=False).returncode == 0) == can, (user, name)


def test_the_authority_is_its_users_alone(hv1: Path, controller: Controller) -> None:
    assert controller.authority.stat().st_mode & 0o777 == 0o700
    assert (controller.authority / "ca-key.pem").stat().st_mode & 0o777 == 0o600
    assert (controller.authority / "ca-cert.pem").read_bytes() == (hv1 / "ca-cert.pem").read_bytes()


def test_openssl_finds_nothing_wrong(hv1: Path) -> None:
    for name, purpose in (("server-cert.pem", "sslserver"), ("client-cert.pem", "sslclient")):
        for words in (["-verify_ip", "127.0.0.1"], ["-verify_ip", "fd00::1"], ["-verify_hostname", "hv1.example.com"]):
            done = judged_by_openssl(hv1, name, "-purpose", purpose, *words)
            assert done.returncode == 0, done.stderr
        assert judged_by_openssl(hv1, name, "-purpose", purpose, "-verify_hostname", "hv2").returncode != 0


def qemu(version: str, directory: Path, endpoint: str) -> subprocess.CompletedProcess[str]:
    """A QEMU with the credentials; it ends by itself."""
    program = str(QEMU_TREES / version / "usr" / "bin" / "qemu-system-x86_64")
    machine = ["-M", "none", "-nodefaults", "-display", "none", "-monitor", "stdio", "-S"]
    credentials = f"tls-creds-x509,id=tls0,dir={directory},endpoint={endpoint},verify-peer=on"
    words = [
        "setpriv",
        f"--reuid={USER}",
        f"--regid={USER}",
        "--init-groups",
        program,
        *machine,
        "-object",
        credentials,
    ]
    return subprocess.run(words, input="quit\n", capture_output=True, text=True, check=False)


@pytest.mark.parametrize("version", ["10.0", "11.1"])
@pytest.mark.parametrize("endpoint", ["server", "client"])
def test_qemu_loads_them(hv1: Path, place: Path, controller: Controller, version: str, endpoint: str) -> None:
    done = qemu(version, hv1, endpoint)
    assert done.returncode == 0, done.stderr
    other = Controller(place / "other")
    other.give(place / "hv2", NAMES)
    shutil.copy(place / "hv2" / "ca-cert.pem", hv1 / "ca-cert.pem")
    wrong = qemu(version, hv1, endpoint)
    assert wrong.returncode != 0
    assert "not signed by" in wrong.stderr or "issuer" in wrong.stderr, wrong.stderr


def listens(path: Path) -> bool:
    """The socket's name is there before anybody listens to it."""
    table = Path("/proc/net/unix").read_text()
    # SO_ACCEPTCON among the flags (net/unix/af_unix.c).
    return any(line.endswith(f" {path}") and line.split()[3] == "00010000" for line in table.splitlines())


@contextlib.contextmanager
def machine(place: Path, version: str, *words: str) -> Iterator[QmpSession]:
    """A QEMU with a machine and no guest, paused."""
    program = str(QEMU_TREES / version / "usr" / "bin" / "qemu-system-x86_64")
    path = place / f"{len(words)}.qmp"
    common = ["-M", MACHINE, "-accel", "tcg", "-m", "16", "-nodefaults", "-display", "none", "-S"]
    with subprocess.Popen([program, *common, "-qmp", f"unix:{path},server=on,wait=off", *words]) as process:
        try:
            wait_until(lambda: listens(path), "no QMP")
            session = QmpSession(path)
            yield session
            session.close()
        finally:
            process.kill()


def trust(session: QmpSession, directory: Path, endpoint: str, **parameters: str) -> None:
    """As to a QEMU that has been started without TLS."""
    session("object-add", qom_type="tls-creds-x509", id="tls0", dir=str(directory), endpoint=endpoint)
    session("migrate-set-parameters", tls_creds="tls0", **parameters)


@pytest.mark.parametrize(
    ("client", "name", "version", "outcome"),
    [
        ("hv2", "127.0.0.1", "10.0", ""),
        ("hv2", "hv1.example.com", "11.1", ""),
        ("hv2", "hv2", "11.1", "does not match the hostname hv2"),
        ("stranger", "127.0.0.1", "11.1", "hasn't got a known issuer"),
    ],
)
def test_qemus_know_each_other_by_them(
    hv1: Path, controller: Controller, client: str, name: str, version: str, outcome: str
) -> None:
    place = hv1.parent
    controller.give(place / "hv2", ["hv2"])
    Controller(place / "other").give(place / "stranger", ["hv2"])
    with machine(place, "10.0") as source, machine(place, version, "-incoming", "defer") as destination:
        trust(destination, hv1, "server")
        trust(source, place / client, "client", tls_hostname=name)
        destination("migrate-incoming", uri="tcp:127.0.0.1:0")
        port = destination("query-migrate")["socket-address"][0]["port"]
        source("migrate", uri=f"tcp:127.0.0.1:{port}")
        wait_until(lambda: source("query-migrate")["status"] in ("completed", "failed"), "the migration does not end")
        ended = source("query-migrate")
        assert ended["status"] == ("failed" if outcome else "completed"), ended
        assert outcome in ended.get("error-desc", "")


def renamed(name: str) -> Callable[[Path], object]:
    return lambda host: (host / name).rename(host / "gone")


def emptied(name: str) -> Callable[[Path], object]:
    return lambda host: (host / name).write_text("")


def key_of_another(host: Path) -> None:
    command = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"]
    subprocess.run([*command, str(host / KEYS[1])], capture_output=True, check=True)


def encrypted(host: Path) -> None:
    command = [
        "openssl",
        "pkcs8",
        "-topk8",
        "-passout",
        "pass:secret",
        "-in",
        str(host / KEYS[0]),
        "-out",
        str(host / "new"),
    ]
    subprocess.run(command, check=True)
    (host / "new").rename(host / KEYS[0])


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no server key": (renamed("server-key.pem"), "No such file"),
    "no certificate": (renamed("client-cert.pem"), "No such file"),
    "empty certificate": (emptied("server-cert.pem"), "cannot be read"),
    "another key": (key_of_another, "is not the key of"),
    "encrypted key": (encrypted, "is encrypted"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_what_does_not_do_is_made_anew(hv1: Path, controller: Controller, case: str) -> None:
    damage, reason = DAMAGES[case]
    key = (hv1 / KEYS[0]).read_bytes()
    damage(hv1)
    foretold = controller.ask(hv1, NAMES, check=True)
    done = controller.give(hv1, NAMES)
    assert foretold == done
    assert done["changed"]
    assert reason in done["credentials"]["reasons"][0]
    assert reason in done["diff"]["before"]["problem"]
    assert (hv1 / KEYS[0]).read_bytes() != key
    assert not controller.give(hv1, NAMES)["changed"]


def test_another_name(hv1: Path, controller: Controller) -> None:
    more = [*NAMES, "hv1"]
    done = controller.give(hv1, more)
    assert (done["changed"], done["credentials"]["reasons"]) == (True, ["they are not for hv1"])
    assert done["credentials"]["names"] == sorted(more)
    # Fewer are no reason: an address can be gone for a while.
    assert not controller.give(hv1, NAMES)["changed"]


@pytest.mark.parametrize(("days", "ends_soon"), [(179, True), (181, False)])
def test_an_end_that_is_near(place: Path, controller: Controller, days: int, ends_soon: bool) -> None:
    host = place / "hv1"
    assert controller.give(host, NAMES, days=days, renew_before=0)["changed"]
    done = controller.give(host, NAMES)
    assert done["changed"] == ends_soon
    if ends_soon:
        assert done["credentials"]["reasons"][0].startswith("they end on")
        assert not controller.give(host, NAMES)["changed"]


def test_a_certificate_that_has_ended_is_not_put_to_use(hv1: Path, controller: Controller) -> None:
    """As when the clock of the host is years ahead."""
    before = content(hv1)
    refused = controller.give(hv1, [*NAMES, "hv1"], days=0)
    assert refused["failed"]
    assert "certificate has expired" in refused["error"]["cause"]
    assert content(hv1) == before


def test_permissions_are_put_right_and_the_key_stays(hv1: Path, controller: Controller) -> None:
    before = content(hv1)
    (hv1 / KEYS[0]).chmod(0o644)
    os.chown(hv1 / KEYS[1], 0, 0)
    hv1.chmod(0o755)
    foretold = controller.ask(hv1, NAMES, check=True)
    done = controller.give(hv1, NAMES)
    assert foretold == done
    assert (done["changed"], done["credentials"]["reasons"]) == (True, [])
    assert done["diff"]["before"]["permissions"][KEYS[0]] == f"0644 root:{USER}"
    assert content(hv1) == before
    assert not controller.give(hv1, NAMES)["changed"]


def test_another_authority_is_not_put_in_the_place_of_the_one_in_use(hv1: Path, place: Path) -> None:
    before = content(hv1)
    other = Controller(place / "other")
    assert other.give(place / "hv2", NAMES)["changed"]
    for check in (True, False):
        refused = other.ask(hv1, NAMES, check=check)
        assert refused["failed"]
        assert "trusts another authority" in refused["error"]["message"]
    assert content(hv1) == before
    assert other.ask(hv1, NAMES, check=True, replace_authority=True)["changed"]
    assert other.give(hv1, NAMES, replace_authority=True)["changed"]
    assert (hv1 / "ca-cert.pem").read_bytes() == (other.authority / "ca-cert.pem").read_bytes()
    assert not other.give(hv1, NAMES, replace_authority=True)["changed"]


def test_a_controller_that_has_lost_the_authority(hv1: Path, place: Path) -> None:
    """As one in a container of AWX: credentials that hold stay, and new ones are not made by an authority that nobody else trusts."""
    before = content(hv1)
    lost = Controller(place / "lost")
    kept = lost.give(hv1, NAMES)
    assert not kept["changed"]
    assert any("is not on this controller" in text for text in kept["warnings"])
    for check in (True, False):
        refused = lost.ask(hv1, [*NAMES, "hv1"], check=check)
        assert refused["failed"]
        assert "not for hv1" in refused["error"]["cause"]
    assert content(hv1) == before
    assert not lost.authority.exists()
    assert lost.give(hv1, NAMES, replace_authority=True)["changed"]


def test_two_controllers_at_once(hv1: Path, controller: Controller) -> None:
    """One signs the key that the other one's run has replaced meanwhile. What is in use stays as it was."""
    before = content(hv1)
    more = [*NAMES, "hv1"]
    first = controller.ask(hv1, more)["public_key"]
    second = controller.ask(hv1, more)["public_key"]
    assert first != second
    assert content(hv1) == before
    signed = sign(make_authority(str(controller.authority)), first, sorted(more), 730)
    refused = controller.ask(hv1, more, _certificate=signed)
    assert refused["failed"]
    assert "is not the key of" in refused["error"]["cause"]
    assert content(hv1) == before
    assert controller.give(hv1, more)["changed"]


def checked(directory: Path, names: list[str], check: bool = False) -> dict[str, Any]:
    return run_module(
        "move_credentials", check, path=str(directory), user=USER, group=USER, names=names, state="checked"
    )


def test_files_of_others_are_only_checked(hv1: Path) -> None:
    hv1.chmod(0o751)
    before = content(hv1)
    found = checked(hv1, NAMES)
    assert (found["changed"], found["credentials"]["names"], found["warnings"]) == (False, NAMES, [])
    assert content(hv1) == before
    assert hv1.stat().st_mode & 0o777 == 0o751


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    **DAMAGES,
    "readable for all": (lambda host: (host / KEYS[0]).chmod(0o644), "is readable for all users"),
    "not readable for QEMU": (lambda host: (host / KEYS[1]).chmod(0o600), "client-key.pem: Permission denied"),
}


def found(path: Path) -> tuple[int, int, int, bytes]:
    seen = path.stat()
    return seen.st_ino, seen.st_mode, seen.st_mtime_ns, path.read_bytes()


@pytest.mark.parametrize("case", WRONG)
def test_files_of_others_that_do_not_do(hv1: Path, case: str) -> None:
    damage, reason = WRONG[case]
    damage(hv1)
    before = {path.name: found(path) for path in hv1.iterdir()}
    for check in (True, False):
        refused = checked(hv1, NAMES, check)
        assert refused["failed"]
        assert reason in refused["error"]["cause"]
    assert {path.name: found(path) for path in hv1.iterdir()} == before


def test_files_of_others_for_another_name(hv1: Path) -> None:
    refused = checked(hv1, [*NAMES, "hv2", "10.0.0.9"])
    assert "they are not for 10.0.0.9, hv2." in refused["error"]["cause"]


def test_taken_back(hv1: Path) -> None:
    (hv1 / "of-others").write_text("")
    arguments: dict[str, Any] = {"path": str(hv1), "user": USER, "group": USER, "state": "absent"}
    foretold = run_module("move_credentials", True, **arguments)
    assert foretold.pop("foreseen") == {}
    assert sorted(os.listdir(hv1)) == sorted([*FILES, "of-others"])
    assert foretold == run_module("move_credentials", **arguments)
    assert (foretold["changed"], os.listdir(hv1)) == (True, ["of-others"])
    assert not run_module("move_credentials", **arguments)["changed"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": []}, "names is empty"),
        ({"names": ["hv 1"]}, "'hv 1' is neither"),
        ({"renew_before": 730}, "renew_before is 730"),
        ({"group": "hostmem-none"}, "no group hostmem-none"),
    ],
)
def test_arguments_that_are_wrong(place: Path, arguments: dict[str, Any], message: str) -> None:
    given = {"path": str(place / "hv1"), "user": USER, "group": USER, "names": NAMES, **arguments}
    for check in (True, False):
        assert message in run_module("move_credentials", check, **given)["error"]["message"]
    assert not (place / "hv1").exists()


def test_a_user_who_is_still_to_be_made(place: Path) -> None:
    """In check mode, by tasks before."""
    names = {"user": "hostmem-none", "group": "hostmem-none"}
    foreseen = {"users": ["hostmem-none"], "groups": ["hostmem-none"]}
    given: dict[str, Any] = {"path": str(place / "hv1"), "names": NAMES, "foreseen": foreseen, **names}
    told = run_module("move_credentials", True, **given)
    assert (told["changed"], told["foreseen"]) == (True, foreseen)
    assert told["diff"]["after"]["permissions"]["server-key.pem"] == "0640 root:hostmem-none"
    assert "no group hostmem-none" in run_module("move_credentials", **given)["msg"]
    assert not (place / "hv1").exists()


PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - hostmem.qemu.move_credentials:
        authority: "{{ place }}/authority"
        path: "{{ place }}/{{ inventory_hostname }}"
        names: ["{{ inventory_hostname }}", 127.0.0.1]
        user: hostmem-test
        group: hostmem-test
"""


def played(place: Path, *words: str) -> str:
    """The output of a play for three hosts, all at once."""
    (place / "play.yml").write_text(PLAY)
    variables = {"ansible_python_interpreter": sys.executable, "ansible_connection": "local", "place": str(place)}
    command = [
        sys.executable,
        "-m",
        "ansible",
        "playbook",
        "-i",
        "hv1,hv2,hv3",
        "-vvv",
        "--diff",
        str(place / "play.yml"),
    ]
    done = subprocess.run(
        [*command, "-e", json.dumps(variables), *words],
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(Path(inspect.getfile(tls_handshake)).parents[6]),
            "ANSIBLE_LOCAL_TEMP": str(place / "local"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_play_for_hosts_that_trust_each_other(place: Path) -> None:
    """They are served in parallel, and one of them makes the authority."""
    assert played(place, "--check").count("changed=1") == 3
    assert not (place / "authority").exists()
    told = played(place)
    assert told.count("changed=1") == 3
    assert played(place).count("changed=0") == 3
    assert len({(place / name / "ca-cert.pem").read_bytes() for name in ("hv1", "hv2", "hv3")}) == 1
    keys = {(place / name / KEYS[0]).read_text() for name in ("hv1", "hv2", "hv3")}
    assert len(keys) == 3
    assert not any(key.splitlines()[1] in told for key in [*keys, (place / "authority" / "ca-key.pem").read_text()])
    for name in FILES[1:3]:
        shutil.copy(place / "hv2" / name, place / "hv1" / name)
    # A server hv2 and a client hv1.
    assert tls_handshake.answers_to(str(place / "hv1"), "hv2")
    assert not tls_handshake.answers_to(str(place / "hv1"), "hv1")
