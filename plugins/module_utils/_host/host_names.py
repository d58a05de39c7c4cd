# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names and addresses of hosts, each in one form, so that they can be compared."""

from __future__ import annotations

import ipaddress
import re

from .errors import Refused

# As in host names (RFC 1123), and with the underscore of inventories.
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\Z")


def host_name(text: str) -> str:
    """A name in small letters without a dot at its end, or an address in its short form.

    :raises Refused: it is neither.

    >>> host_name("HV1.example.com."), host_name("FD00:0:0::01")
    ('hv1.example.com', 'fd00::1')
    """
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        pass
    name = text[:-1] if text.endswith(".") else text
    if not _NAME.match(name):
        raise Refused(f"{text!r} is neither the name of a host nor an address.", cure="Correct names.")
    return name.lower()
