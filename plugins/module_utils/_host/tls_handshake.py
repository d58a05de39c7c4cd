# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A TLS handshake of a host with itself, in memory, by the files that QEMU's tls-creds-x509 reads.

What holds here holds between two hosts that have the same authority: chain, purposes, validity, keys, and the name the other one is called by.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from typing import Any

# Their names are QEMU's (crypto/tlscredsx509.c).
AUTHORITY = "ca-cert.pem"
SERVER = ("server-cert.pem", "server-key.pem")
CLIENT = ("client-cert.pem", "client-key.pem")
FILES = (AUTHORITY, *SERVER, *CLIENT)
KEYS = (SERVER[1], CLIENT[1])
# Each side has sent and read everything after two turns (TLS 1.3) or three (1.2).
_TURNS = 6


@dataclass(frozen=True)
class Seen:
    """What the handshake showed.

    :param ends: when the server's and the client's certificate cease to be valid, in seconds since 1970; the earlier one.
    :param authority_ends: the same of the authority's.
    :param names: what the server's certificate is for, as ``getpeercert()`` has it.
    """

    ends: int
    authority_ends: int
    names: tuple[str, ...]


class BadCredentials(ValueError):
    """They are missing, or no handshake succeeds with them; the text says why."""


def look(directory: str) -> Seen:
    """Both certificates, after a handshake by them.

    :raises BadCredentials: there is none.
    """
    server, client = _contexts(directory)
    client.check_hostname = False
    seen_by_client, seen_by_server = _shake_hands(server, client, None)
    ends = [ssl.cert_time_to_seconds(str(certificate["notAfter"])) for certificate in (seen_by_client, seen_by_server)]
    # Of several authorities, any of which may have signed, the last one counts.
    authorities = [ssl.cert_time_to_seconds(str(item["notAfter"])) for item in client.get_ca_certs()]
    names = tuple(str(value) for _kind, value in seen_by_client.get("subjectAltName", ()))
    return Seen(min(ends), max(authorities), names)


def answers_to(directory: str, name: str) -> bool:
    """Whether the server's certificate is for a name or an address.

    :raises BadCredentials: no handshake succeeds, by whatever name.
    """
    server, client = _contexts(directory)
    try:
        _shake_hands(server, client, name)
    except _OtherName:
        return False
    return True


def _contexts(directory: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.verify_mode = client.verify_mode = ssl.CERT_REQUIRED
    for context, names in ((server, SERVER), (client, CLIENT)):
        certificate, key = (os.path.join(directory, name) for name in names)
        _load(context, certificate, key, os.path.join(directory, AUTHORITY))
    return server, client


def _load(context: ssl.SSLContext, certificate: str, key: str, authority: str) -> None:
    for path in (authority, certificate, key):
        try:
            with open(path, "rb") as file:
                file.read(1)
        except OSError as error:
            raise BadCredentials(f"{path}: {error.strerror}") from error
    try:
        context.load_verify_locations(authority)
    except ssl.SSLError as error:
        raise BadCredentials(f"{authority} is no certificate ({_reason(error)})") from error
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except _Encrypted as error:
        raise BadCredentials(f"{key} is encrypted, and nobody is there to type its password") from error
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise BadCredentials(f"{key} is not the key of {certificate}") from error
        raise BadCredentials(f"{certificate} or {key} cannot be read ({_reason(error)})") from error


class _Encrypted(Exception):
    """A password was asked for."""


def _no_password() -> str:
    raise _Encrypted


class _OtherName(BadCredentials):
    """Everything holds but the name."""


def _shake_hands(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The certificate that the client sees, and the one that the server sees."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = {
        CLIENT[0]: client.wrap_bio(to_client, to_server, server_hostname=name),
        SERVER[0]: server.wrap_bio(to_server, to_client, server_side=True),
    }
    waiting = dict(ends)
    for _turn in range(_TURNS):
        for own, end in list(waiting.items()):
            try:
                end.do_handshake()
                del waiting[own]
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLCertVerificationError as error:
                other = SERVER[0] if own == CLIENT[0] else CLIENT[0]
                kind = _OtherName if error.verify_code in _NAME_CODES else BadCredentials
                raise kind(f"{other}: {error.verify_message}") from error
            except ssl.SSLError as error:
                raise BadCredentials(f"no TLS handshake by {own}: {_reason(error)}") from error
    if waiting:
        raise BadCredentials("the TLS handshake does not end")
    seen = [end.getpeercert() or {} for end in ends.values()]
    return seen[0], seen[1]


# X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH (openssl/x509_vfy.h).
_NAME_CODES = (62, 64)


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).lower().replace("_", " ")
