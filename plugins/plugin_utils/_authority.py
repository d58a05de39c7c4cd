# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The authority that signs hosts' certificates: a key and a certificate in a directory of the controller, for its user alone."""

from __future__ import annotations

import datetime
import fcntl
import ipaddress
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ansible_collections.hostmem.qemu.plugins.module_utils._host.durable import rename_durably, sync_file, write_new
from ansible_collections.hostmem.qemu.plugins.module_utils._host.files import remove_file

try:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    IMPORT_ERROR: ImportError | None = None
except ImportError as error:  # ansible-core requires it, but for tests of imports alone
    IMPORT_ERROR = error

KEY, CERTIFICATE = "ca-key.pem", "ca-cert.pem"
YEARS = 20
# A host's clock may be behind that of the controller.
_EARLIER = datetime.timedelta(days=1)
_UTC = datetime.timezone(datetime.timedelta(0))
_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


class AuthorityError(Exception):
    """The authority cannot be used; the text says why, and what to do."""


@dataclass(frozen=True)
class Authority:
    """Both in the memory of the controller's process only."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> str:
        """The certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def find_authority(directory: str) -> Authority | None:
    """The authority in a directory; None when there is none yet.

    :raises AuthorityError: it is damaged, or others can read its key.
    """
    if IMPORT_ERROR is not None:
        raise AuthorityError(f"The controller's Python has no cryptography ({IMPORT_ERROR}). ansible-core requires it.")
    key, certificate = os.path.join(directory, KEY), os.path.join(directory, CERTIFICATE)
    try:
        if not os.path.exists(certificate):
            return None
        for path in (directory, key):
            if stat.S_IMODE(os.stat(path).st_mode) & 0o077:
                raise AuthorityError(
                    f"{path} can be read by others than its owner. If nobody has, take that away: chmod go= {path}"
                )
        return Authority(_read_key(key), _read_certificate(certificate))
    except OSError as error:
        raise AuthorityError(f"The authority in {directory} cannot be read: {error}.") from error


def make_authority(directory: str) -> Authority:
    """The authority in a directory, which is made when it is missing. Several processes may call it at once.

    :raises AuthorityError: it is damaged, or cannot be made.
    """
    try:
        os.makedirs(os.path.dirname(directory) or "/", exist_ok=True)
        if not os.path.isdir(directory):
            _make_private(directory)
        with _alone(directory):
            found = find_authority(directory)
            if found is None:
                _make(directory)
                found = find_authority(directory)
    except OSError as error:
        raise AuthorityError(f"No authority can be made in {directory}: {error}.") from error
    if found is None:
        raise AuthorityError(f"The authority that was made in {directory} is gone.")
    return found


def sign(authority: Authority, public_key: str, names: Sequence[str], days: int) -> str:
    """A certificate in PEM, for a host to be both server and client.

    :param public_key: in OpenSSH's form.
    :param names: host names and addresses.
    :param days: how long it is valid; it ends with the authority's at the latest.
    :raises AuthorityError: the authority's has ended, or the key is none.
    """
    now = _now()
    ends = _ends(authority.certificate)
    if ends <= now:
        raise AuthorityError(
            f"The authority ended on {ends:%Y-%m-%d}. Name a new directory, and set replace_authority for all hosts."
        )
    try:
        key = serialization.load_ssh_public_key(public_key.encode("ascii"))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise AuthorityError(f"The host sent no public key: {error}.") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise AuthorityError("The host sent another kind of key than was asked for.")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    issuer_key = x509.SubjectKeyIdentifier.from_public_key(authority.key.public_key())
    # Key encipherment: QEMU wants it of every key (crypto/tlscredsx509.c), whether it can be used so or not.
    builder = (
        _builder(subject, authority.certificate.subject, key)
        .not_valid_before(now - _EARLIER)
        .not_valid_after(min(now + datetime.timedelta(days=days), ends))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage("digital_signature", "key_encipherment"), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key), critical=False)
    )
    return builder.sign(authority.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode("ascii")


def _make(directory: str) -> None:
    """The certificate last: without it there is no authority. A key that an interrupted run left has signed nothing."""
    path = os.path.join(directory, KEY)
    key = ec.generate_private_key(ec.SECP256R1())
    content = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(path, content, 0o600)
    now = _now()
    # Authorities of other controllers have other names.
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"hostmem.qemu authority {identifier.digest.hex()[:16]}")]
    )
    builder = (
        _builder(name, name, key.public_key())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + datetime.timedelta(days=YEARS * 365))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage("key_cert_sign", "crl_sign"), critical=True)
    )
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    _write(os.path.join(directory, CERTIFICATE), certificate, 0o644)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    """What every certificate says."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*wanted: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in wanted for name in _USAGES})


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _now() -> datetime.datetime:
    return datetime.datetime.now(_UTC)


def _ends(certificate: x509.Certificate) -> datetime.datetime:
    # cryptography 42 and later; before that the time came without a zone.
    if hasattr(certificate, "not_valid_after_utc"):
        return certificate.not_valid_after_utc
    return certificate.not_valid_after.replace(tzinfo=_UTC)


def _read_key(path: str) -> ec.EllipticCurvePrivateKey:
    with open(path, "rb") as file:
        content = file.read()
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (TypeError, ValueError) as error:
        raise AuthorityError(f"{path} is no private key, or one with a password: {error}.") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise AuthorityError(f"{path} is no key on an elliptic curve: this collection did not make it.")
    return key


def _read_certificate(path: str) -> x509.Certificate:
    with open(path, "rb") as file:
        content = file.read()
    try:
        return x509.load_pem_x509_certificate(content)
    except ValueError as error:
        raise AuthorityError(f"{path} is no certificate: {error}.") from error


def _make_private(directory: str) -> None:
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        return  # another process was first
    os.chmod(directory, 0o700)


@contextmanager
def _alone(directory: str) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: str, content: bytes, mode: int) -> None:
    """At once and for good: a reader sees all of it or nothing."""
    new = f"{path}.new"
    remove_file(new)
    write_new(new, content)
    os.chmod(new, mode)
    sync_file(new)
    rename_durably(new, path)
