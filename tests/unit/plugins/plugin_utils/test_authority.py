# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The authority on the controller: whose it is, what it signs, and what it refuses."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ansible_collections.hostmem.qemu.plugins.plugin_utils import _authority
from ansible_collections.hostmem.qemu.plugins.plugin_utils._authority import (
    AuthorityError,
    find_authority,
    make_authority,
    sign,
)


def public_key() -> str:
    """A host's, in OpenSSH's form."""
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def test_an_authority_is_made_once(tmp_path: Path) -> None:
    place = tmp_path / "some" / "where"
    assert find_authority(str(place)) is None
    assert not place.exists()
    made = make_authority(str(place))
    found = find_authority(str(place))
    assert found is not None
    assert (found.pem, make_authority(str(place)).pem) == (made.pem, made.pem)
    assert sorted(path.name for path in place.iterdir()) == ["ca-cert.pem", "ca-key.pem"]
    assert [path.stat().st_mode & 0o777 for path in (place, place / "ca-key.pem")] == [0o700, 0o600]


def test_authorities_have_names_of_their_own(tmp_path: Path) -> None:
    names = {make_authority(str(tmp_path / name)).certificate.subject.rfc4514_string() for name in ("a", "b")}
    assert len(names) == 2


def test_a_key_that_an_interrupted_run_left_is_replaced(tmp_path: Path) -> None:
    made = make_authority(str(tmp_path / "a"))
    (tmp_path / "a" / "ca-cert.pem").unlink()
    assert find_authority(str(tmp_path / "a")) is None
    assert make_authority(str(tmp_path / "a")).pem != made.pem


@pytest.mark.parametrize("name", ["", "ca-key.pem"])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, name: str) -> None:
    place = tmp_path / "a"
    make_authority(str(place))
    (place / name).chmod(0o750)
    with pytest.raises(AuthorityError, match="can be read by others"):
        find_authority(str(place))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("ca-key.pem", None, "cannot be read"),
        ("ca-key.pem", "", "is no private key"),
        ("ca-cert.pem", "", "is no certificate"),
    ],
)
def test_a_damaged_authority_is_refused(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    """And not made anew: hosts trust it."""
    place = tmp_path / "a"
    make_authority(str(place))
    if content is None:
        (place / name).unlink()
    else:
        (place / name).write_text(content)
    for use in (find_authority, make_authority):
        with pytest.raises(AuthorityError, match=message):
            use(str(place))


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "a"
    make_authority(str(place))
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = serialization.Encoding.PEM
    (place / "ca-key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    with pytest.raises(AuthorityError, match="no key on an elliptic curve"):
        find_authority(str(place))


def test_what_is_signed(tmp_path: Path) -> None:
    authority = make_authority(str(tmp_path / "a"))
    key = public_key()
    signed = x509.load_pem_x509_certificate(sign(authority, key, ["10.0.0.1", "fd00::1", "hv1"], 30).encode())
    signed.verify_directly_issued_by(authority.certificate)
    names = signed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["hv1"]
    addresses = [ipaddress.ip_address(text) for text in ("10.0.0.1", "fd00::1")]
    assert names.get_values_for_type(x509.IPAddress) == addresses
    own = signed.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    assert own.decode() == key
    assert not signed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert signed.not_valid_after_utc - signed.not_valid_before_utc == datetime.timedelta(days=31)


def test_nothing_outlasts_its_authority(tmp_path: Path) -> None:
    authority = make_authority(str(tmp_path / "a"))
    signed = x509.load_pem_x509_certificate(sign(authority, public_key(), ["hv1"], 30 * 365).encode())
    assert signed.not_valid_after_utc == authority.certificate.not_valid_after_utc


def test_an_authority_that_has_ended_signs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_authority, "YEARS", 0)
    authority = make_authority(str(tmp_path / "a"))
    with pytest.raises(AuthorityError, match="The authority ended on"):
        sign(authority, public_key(), ["hv1"], 30)


@pytest.mark.parametrize("text", ["", "ssh-ed25519 AAAA", "no key"])
def test_what_is_no_key_is_not_signed(tmp_path: Path, text: str) -> None:
    with pytest.raises(AuthorityError, match="The host sent"):
        sign(make_authority(str(tmp_path / "a")), text, ["hv1"], 30)
