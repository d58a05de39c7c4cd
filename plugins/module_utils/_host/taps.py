# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Multi-queue tap interfaces by way of ip(8)."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any


_TUN = "/dev/net/tun"


class TapError(Exception):
    """ip(8) failed; the text is its message."""


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
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
    if not os.path.exists(f"/sys/class/net/{name}"):
        return None
    found = json.loads(_ip("-json", "-details", "link", "show", "dev", name))
    return dict(found[0]) if found else None


def ensure_tap(name: str, bridge: str, user: str) -> bool:
    """A persistent multi-queue tap that ``user`` may open, up, in ``bridge`` (if one is named); True when something changed.

    Only a multi-queue tap can be held by two QEMUs at once, which a live update needs.

    :raises TapError: an interface of this name is something else, or the bridge is missing.
    """
    if bridge and not os.path.isdir(f"/sys/class/net/{bridge}/bridge"):
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
        raise TapError(
            f"{name} exists and has a single queue, so that two QEMUs cannot hold it: remove it (ip link del {name})"
        )
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
