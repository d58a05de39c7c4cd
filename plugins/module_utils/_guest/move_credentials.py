# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The X.509 certificates by which hosts trust each other in a move, for QEMU and for the runtime alike.

The directory has the names that QEMU wants (tls-creds-x509, docs/system/tls.rst): ca-cert.pem, server-cert.pem, server-key.pem,
client-cert.pem, client-key.pem.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from dataclasses import dataclass
from typing import Any

from .errors import Refused

QEMU_ID = "hostmem-move"
ADMITTED_ID = "hostmem-move-client"
_NAMES = ("ca-cert.pem", "server-cert.pem", "server-key.pem", "client-cert.pem", "client-key.pem")


@dataclass(frozen=True)
class Credentials:
    """A directory with certificates, readable by QEMU's user."""

    directory: str

    def qemu_object(self, endpoint: str) -> dict[str, Any]:
        """Arguments of object-add; ``endpoint`` is server or client. Both verify the other's certificate."""
        return {
            "qom-type": "tls-creds-x509",
            "id": QEMU_ID,
            "dir": self.directory,
            "endpoint": endpoint,
            "verify-peer": True,
        }

    def server_context(self) -> ssl.SSLContext:
        """Only clients with a certificate of the authority."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self._path("ca-cert.pem"))
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(self._path("server-cert.pem"), self._path("server-key.pem"))
        return context

    def client_context(self) -> ssl.SSLContext:
        """It verifies the server's name, too."""
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=self._path("ca-cert.pem"))
        context.load_cert_chain(self._path("client-cert.pem"), self._path("client-key.pem"))
        return context

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name)


# Of a subject, as GnuTLS names them (lib/x509/dn.c); Python has the long names of OpenSSL.
_SHORT = {
    "commonName": "CN",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "countryName": "C",
}


@dataclass(frozen=True)
class Peer:
    """Who is at the other end, by its certificate: its ``names``, and its ``subject`` as QEMU reads it to tell clients from each other
    (gnutls_x509_crt_get_dn() in crypto/tlssession.c); None for one that cannot be told so, or in clear."""

    names: frozenset[str] = frozenset()
    subject: str | None = None


def peer_of(certificate: Any) -> Peer:
    """:param certificate: as ssl.SSLSocket.getpeercert() has it; None in clear."""
    if not isinstance(certificate, dict):
        return Peer()
    pairs = [pair for part in certificate.get("subject", ()) for pair in part]
    names = {_plain(kind, name) for kind, name in certificate.get("subjectAltName", ())}
    names |= {value for key, value in pairs if key == "commonName"}
    simple = all(
        key in _SHORT and not set(value) & set(',+"\\<>;#=') and value == value.strip() for key, value in pairs
    )
    return Peer(
        frozenset(names), ",".join(f"{_SHORT[key]}={value}" for key, value in pairs) if simple and pairs else None
    )


def _plain(kind: str, name: str) -> str:
    """OpenSSL writes IPv6 addresses in full."""
    try:
        return str(ipaddress.ip_address(name)) if kind == "IP Address" else name
    except ValueError:
        return name


def find_credentials(directory: str) -> Credentials | None:
    """The host's credentials; None for no directory, which is a move in clear.

    :raises Refused: they are not complete, or cannot be read.
    """
    if not directory:
        return None
    missing = [name for name in _NAMES if not os.access(os.path.join(directory, name), os.R_OK)]
    if missing:
        raise Refused(
            f"{directory} has no {', '.join(missing)} that can be read here.",
            cause="Guests move between hosts over TLS, with certificates of both.",
            cure="Put them there, or ask for a move in clear by name (--plain).",
        )
    return Credentials(directory)


def refuse_stranger(name: str, expected: str, peer: Peer) -> None:
    """:param expected: a name in the certificate of who may ask, empty for anybody.
    :raises Refused: the one at the other end has another.
    """
    if expected and expected not in peer.names:
        raise Refused(
            f"Guest {name} is expected from {expected}.",
            cause=f"The certificate of who asks is for {', '.join(sorted(peer.names)) or 'nobody'}.",
            cure="Let the destination listen for that one (hostmem receive --from, hostmem answer --from), or for any.",
        )


def refuse_names_in_clear(plain: bool, expected: str) -> None:
    """:raises Refused: somebody is expected by name, and nobody shows one."""
    if plain and expected:
        raise Refused("In clear nobody has a name.", f"{expected} is expected.", "Give up --plain, or --from.")
