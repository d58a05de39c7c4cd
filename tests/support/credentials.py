# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts with TLS credentials: those of the module move_credentials, and of an authority of tests, in the files that QEMU wants."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.hostmem.qemu.plugins.plugin_utils._authority import find_authority, make_authority, sign
from support.host import USER
from support.modules import run_module


class Controller:
    """An authority in a directory; it does what the action plugin does, with whatever certificate a test wants."""

    def __init__(self, authority: Path) -> None:
        self.authority = authority

    def ask(self, host: Path, names: list[str], check: bool = False, **arguments: Any) -> dict[str, Any]:
        """One call of the module."""
        found = find_authority(str(self.authority))
        given = {"names": names, "_authority": found.pem if found else "", **arguments}
        answer = run_module("move_credentials", check, path=str(host), user=USER, group=USER, **given)
        answer.pop("foreseen", None)  # what only a check hands on
        return answer

    def give(self, host: Path, names: list[str], days: int = 730, **arguments: Any) -> dict[str, Any]:
        """The module, and once more with a certificate when it asks for one.

        :param days: how long that is valid.
        """
        answer = self.ask(host, names, **arguments)
        if "public_key" not in answer:
            return answer
        authority = make_authority(str(self.authority))
        certificate = sign(authority, answer["public_key"], sorted(names), days)
        return self.ask(host, names, **{**arguments, "_authority": authority.pem, "_certificate": certificate})


class Authority:
    """One that signs, as the controller's; hosts trust each other that have certificates of the same."""

    def __init__(self, directory: Path) -> None:
        self._made = make_authority(str(directory))

    def equip(self, directory: Path, names: Sequence[str], owner: int) -> Path:
        """Certificates and keys of one host, readable by one user only; the first name is the subject's."""
        key = ec.generate_private_key(ec.SECP256R1())
        openssh = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        certificate = sign(self._made, openssh.decode(), names, 1)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        directory.mkdir()
        for name, text in (
            ("ca-cert.pem", self._made.pem),
            *((f"{role}-cert.pem", certificate) for role in ("server", "client")),
            *((f"{role}-key.pem", private.decode()) for role in ("server", "client")),
        ):
            (directory / name).write_text(text)
            (directory / name).chmod(0o400)
            shutil.chown(directory / name, owner)
        return directory
