# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Persistent taps by way of ip(8), and their queues as descriptors for QEMU."""

from __future__ import annotations

import fcntl
import json
import os
import struct
from typing import Any

from .programs import run
from .sysfs import number

_TUN = "/dev/net/tun"
# linux/if_tun.h
_TUNSETIFF = 0x400454CA
_TUNGETVNETHDRSZ = 0x800454D7
_QUEUE_FLAGS = 0x0002 | 0x1000 | 0x4000 | 0x0100  # IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE


class TapError(Exception):
    """A tap cannot be made or opened; the text says why."""


def _ip(*words: str) -> str:
    done = run(["ip", *words])
    if done.returncode:
        raise TapError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def _open_tun_device() -> bool:
    """Give /dev/net/tun the mode that udev gives it (0666, 50-udev-default.rules) where no udev did; True when changed.

    Opening it grants nothing: TUNSETIFF lets a user attach only to taps that are its own (drivers/net/tun.c).
    """
    if os.stat(_TUN).st_mode & 0o666 == 0o666:
        return False
    os.chmod(_TUN, 0o666)
    return True


def find_interface(name: str) -> dict[str, Any] | None:
    """What ip(8) says of an interface; None when there is none."""
    if not interface_exists(name):
        return None
    found = json.loads(_ip("-json", "-details", "link", "show", "dev", name))
    return dict(found[0]) if found else None


def interface_exists(name: str) -> bool:
    """True when there is an interface of this name, in this network namespace."""
    return os.path.exists(f"/sys/class/net/{name}")


def is_bridge(name: str) -> bool:
    """Whether there is a bridge of this name."""
    return os.path.isdir(f"/sys/class/net/{name}/bridge")


def ensure_tap(name: str, bridge: str, user: str) -> bool:
    """A persistent multi-queue tap that ``user`` may open, up, in ``bridge`` (if one is named); True when something changed.

    :raises TapError: an interface of this name is something else, or the bridge is missing.
    """
    if bridge and not is_bridge(bridge):
        raise TapError(f"there is no bridge {bridge}")
    found = find_interface(name)
    changed = _open_tun_device()
    if found is None:
        _ip("tuntap", "add", "dev", name, "mode", "tap", "multi_queue", "user", user)
        found, changed = find_interface(name) or {}, True
    data = found.get("linkinfo", {}).get("info_data", {})
    if data.get("type") != "tap":
        raise TapError(f"{name} exists and is not a tap")
    if not data.get("multi_queue"):
        raise TapError(f"{name} exists and has a single queue: remove it (ip link del {name})")
    if bridge and found.get("master") != bridge:
        _ip("link", "set", "dev", name, "master", bridge)
        changed = True
    if "UP" not in found.get("flags", []):
        _ip("link", "set", "dev", name, "up")
        changed = True
    return changed


def remove_tap(name: str) -> bool:
    """Remove a tap; True when it was there. Anything that is not a tap is left alone."""
    found = find_interface(name)
    if found is None or found.get("linkinfo", {}).get("info_data", {}).get("type") != "tap":
        return False
    _ip("link", "delete", "dev", name)
    return True


def bridge_delay(bridge: str) -> float:
    """Seconds a new port of the bridge waits before it forwards: twice forward_delay with spanning tree, else none."""
    directory = f"/sys/class/net/{bridge}/bridge"
    try:
        spanning_tree = number(f"{directory}/stp_state")
        hundredths = number(f"{directory}/forward_delay")
    except OSError:
        return 0.0
    return 2 * hundredths / 100 if spanning_tree else 0.0


def open_queues(name: str, queues: int) -> list[int]:
    """Open so many queues of a tap, as its owner; no privilege is needed.

    :raises TapError: the tap is missing, somebody else's, or in use with all its queues.
    """
    opened: list[int] = []
    try:
        for _number in range(queues):
            opened.append(os.open(_TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
            if not interface_exists(name):  # TUNSETIFF would try to make it
                raise TapError(f"there is no tap {name}")
            fcntl.ioctl(opened[-1], _TUNSETIFF, struct.pack("16sH22x", name.encode(), _QUEUE_FLAGS))
    except (OSError, TapError) as error:
        for descriptor in opened:
            os.close(descriptor)
        raise TapError(f"tap {name} cannot be opened: {error}") from error
    return opened


def announce(descriptor: int, mac: str) -> None:
    """Send a reverse ARP frame with this source address into the network through a tap's queue, as the guest would.

    Bridges and switches then send what is meant for the guest to this tap (QEMU's qemu_announce_self() does the same).

    :raises OSError: the tap takes no frame.
    """
    address = bytes.fromhex(mac.replace(":", ""))
    (header,) = struct.unpack("i", fcntl.ioctl(descriptor, _TUNGETVNETHDRSZ, bytes(4)))
    ethernet = b"\xff" * 6 + address + b"\x80\x35"
    request = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 3) + address + bytes(4) + address + bytes(4)
    os.write(descriptor, bytes(header) + (ethernet + request).ljust(60, b"\0"))
