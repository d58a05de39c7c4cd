# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the runtime keeps what belongs to one guest."""

from __future__ import annotations

from dataclasses import fields

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.config import Config
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.paths import GenerationPaths, GuestPaths, guest_paths
from ansible_collections.hostmem.qemu.plugins.module_utils._host.users import User

CONFIG = Config(
    path="/etc/hostmem/config.json",
    manager="systemd",
    user=User("hostmem", 990, 990, "hostmem"),
    parallel=2,
    definitions="/etc/hostmem/guests",
    run="/run/hostmem",
    log="/var/log/hostmem",
    state="/var/lib/hostmem",
)
# sizeof(sun_path) - 1, linux/un.h
LONGEST_SOCKET = 107


def all_paths(places: GuestPaths | GenerationPaths) -> list[str]:
    """Every path an object tells: its fields and its properties."""
    names = [field.name for field in fields(places) if field.name not in ("name", "number", "log_directory")]
    names += [name for name, value in vars(type(places)).items() if isinstance(value, property)]
    return [getattr(places, name) for name in names]


def test_places_of_a_guest() -> None:
    paths = guest_paths(CONFIG, "web1")
    assert (paths.definition, paths.run, paths.log, paths.state) == (
        "/etc/hostmem/guests/web1.json",
        "/run/hostmem/web1",
        "/var/log/hostmem/web1",
        "/var/lib/hostmem/web1",
    )
    assert (paths.pid_file, paths.current) == ("/run/hostmem/web1/pid", "/run/hostmem/web1/current")


def test_places_of_a_generation() -> None:
    generation = guest_paths(CONFIG, "web1").generation(12)
    assert generation.number == 12
    assert generation.qmp == "/run/hostmem/web1/gen-12/qmp.sock"
    assert generation.output == "/var/log/hostmem/web1/qemu-12.log"
    assert generation.debug_log == "/var/log/hostmem/web1/qemu-12.debug.log"


def test_no_two_things_have_the_same_place() -> None:
    guests = [guest_paths(CONFIG, name) for name in ("web1", "web2")]
    found = [path for guest in guests for path in all_paths(guest)]
    found += [path for guest in guests for number in (0, 1, 10) for path in all_paths(guest.generation(number))]
    assert len(found) > 60
    assert len(set(found)) == len(found)


def test_sockets_of_the_longest_name_can_be_bound() -> None:
    generation = guest_paths(CONFIG, "w" * 32).generation(999999)
    console = f"{generation.directory}/{'c' * 26}.sock"
    for path in (generation.qmp, generation.cpr_socket, generation.main_socket, console):
        assert len(path) <= LONGEST_SOCKET
