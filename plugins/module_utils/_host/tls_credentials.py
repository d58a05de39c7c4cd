# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host's TLS credentials against what is wanted of them: whether they do, what is wrong with them, and what will be there instead."""

from __future__ import annotations

import hashlib
import os
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import Refused
from .host_names import host_name
from .tls_files import permissions, readable_for_all, unreadable_for, wanted_permissions
from .tls_handshake import AUTHORITY, FILES, KEYS, BadCredentials, answers_to, look
from .users import User


@dataclass(frozen=True)
class Wish:
    """What is wanted.

    :param names: in the form of host_name(), sorted.
    :param validity: of a new certificate, in seconds.
    :param renew_before: its end, in seconds.
    :param authority: certificate in PEM; empty when the controller has none.
    :param replace_authority: a host that trusts another one is to trust this one.
    """

    directory: str
    names: tuple[str, ...]
    group: str
    validity: int
    renew_before: int
    authority: str
    replace_authority: bool


@dataclass(frozen=True)
class Credentials:
    """What there is, what is to be, and why.

    :param reasons: for new ones, as sentences without a full stop; none when those that there are do.
    """

    directory: str
    before: dict[str, Any]
    after: dict[str, Any]
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    @property
    def changed(self) -> bool:
        return bool(self.reasons) or self.before != self.after

    def as_dict(self, after: dict[str, Any] | None = None) -> dict[str, Any]:
        """The module's result.

        :param after: what there is by now, instead of what was planned.
        """
        after = self.after if after is None else after
        result: dict[str, Any] = {"changed": self.changed, "diff": {"before": self.before, "after": after}}
        if after:
            known = {name: after.get(name) for name in ("names", "valid_until", "authority")}
            result["credentials"] = {"path": self.directory, **known, "reasons": list(self.reasons)}
        return {**result, "warnings": list(self.warnings)}


def plan(wish: Wish, user: User | None) -> Credentials:
    """Whether new credentials are wanted, or other permissions, or nothing.

    :param user: QEMU's; None when it is still to be made.
    :raises Refused: the host trusts another authority, or one that is not on this controller and would be needed.
    """
    held = _authority_in(wish.directory)
    _refuse_other_authority(wish, held)
    before = describe(wish.directory)
    reasons, warnings = _reasons(wish), _ending_authority(wish)
    if held and wish.authority and not _same(held, wish.authority):
        reasons.append("they are of another authority")
    if held and not wish.authority:
        if wish.replace_authority:
            reasons.append("their authority is not on this controller")
        elif reasons:
            raise _not_here(wish, f"New credentials are needed: {_sentence(reasons)}")
        else:
            warnings.append(f"{_not_here(wish, '').message} The credentials hold, and cannot be renewed from here.")
    if reasons:
        return Credentials(wish.directory, before, _foretold(wish), tuple(reasons), tuple(warnings))
    after = {**before, "permissions": wanted_permissions(wish.group)}
    if before == after and user is not None and (unreadable := unreadable_for(user, wish.directory)):
        raise Refused(
            f"{user.name} cannot read the credentials.",
            cause=_sentence(unreadable),
            cure="Let it enter the directories above; other groups than its own, ACLs or a security module forbid it.",
        )
    return Credentials(wish.directory, before, after, (), tuple(warnings))


def check(wish: Wish, user: User | None) -> Credentials:
    """Credentials that somebody else puts there.

    :raises Refused: with all that is wrong with them.
    """
    problems = _reasons(wish, renew_before=0)
    if user is not None:
        problems += [text for text in unreadable_for(user, wish.directory) if text not in problems]
    keys = [os.path.join(wish.directory, name) for name in KEYS]
    problems += [f"{path} is readable for all users" for path in keys if readable_for_all(path)]
    if problems:
        raise Refused(
            f"{wish.directory}: no guest could move by these credentials.",
            cause=_sentence(problems),
            cure=f"Put right what issues them; these files are needed: {', '.join(FILES)}.",
        )
    found = describe(wish.directory)
    ending = [text for text in _reasons(wish) if text not in problems]
    return Credentials(wish.directory, found, found, (), tuple(f"{wish.directory}: {text}." for text in ending))


def absent(wish: Wish) -> Credentials:
    """What would be removed."""
    return Credentials(wish.directory, describe(wish.directory), {})


def describe(directory: str) -> dict[str, Any]:
    """What the files are, without what is secret; empty without any."""
    if not any(os.path.lexists(os.path.join(directory, name)) for name in FILES):
        return {}
    found: dict[str, Any] = {"permissions": permissions(directory), "authority": _fingerprint(_authority_in(directory))}
    try:
        seen = look(directory)
    except BadCredentials as error:
        return {**found, "problem": str(error)}
    return {**found, "names": sorted(map(_short, seen.names)), "valid_until": _day(seen.ends)}


def _reasons(wish: Wish, renew_before: int | None = None) -> list[str]:
    """Why the credentials do not do, but for who signed them."""
    margin = wish.renew_before if renew_before is None else renew_before
    try:
        seen = look(wish.directory)
        missing = [name for name in wish.names if not answers_to(wish.directory, name)]
    except BadCredentials as error:
        return [str(error)]
    found = [f"they are not for {', '.join(missing)}"] if missing else []
    # One that ends with its authority would not last longer if it were made anew.
    if seen.ends < seen.authority_ends and seen.ends - time.time() < margin:
        found.append(f"they end on {_day(seen.ends)}")
    return found


def _refuse_other_authority(wish: Wish, held: str) -> None:
    if not held or not wish.authority or wish.replace_authority or _same(held, wish.authority):
        return
    raise Refused(
        f"{wish.directory}: this host trusts another authority than the one in authority.",
        cause=f"It has that of SHA-256 {_fingerprint(held)[:16]}, and the controller that of {_fingerprint(wish.authority)[:16]}.",
        cure="Name the directory of the other one, or set replace_authority for all hosts that guests move between.",
    )


def _not_here(wish: Wish, cause: str) -> Refused:
    return Refused(
        f"{wish.directory}: the authority that this host trusts is not on this controller.",
        cause=cause,
        cure="Name its directory in authority, or set replace_authority for all hosts that guests move between.",
    )


def _ending_authority(wish: Wish) -> list[str]:
    ends = _end_of(wish.authority)
    if ends is None or ends - time.time() >= wish.renew_before:
        return []
    return [f"The authority ends on {_day(ends)}: make another one, and set replace_authority for all hosts."]


def _foretold(wish: Wish) -> dict[str, Any]:
    """What there will be."""
    ends, authority_ends = time.time() + wish.validity, _end_of(wish.authority)
    return {
        "permissions": wanted_permissions(wish.group),
        "authority": _fingerprint(wish.authority),
        "names": list(wish.names),
        "valid_until": _day(ends if authority_ends is None else min(ends, authority_ends)),
    }


def _authority_in(directory: str) -> str:
    try:
        with open(os.path.join(directory, AUTHORITY), encoding="ascii", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _same(one: str, other: str) -> bool:
    return _fingerprint(one) == _fingerprint(other)


def _fingerprint(pem: str) -> str:
    """SHA-256 of a certificate, or of whatever is there instead; empty of nothing."""
    if not pem:
        return ""
    try:
        content = ssl.PEM_cert_to_DER_cert(pem)
    except ValueError:
        content = pem.encode("utf-8", "replace")
    return hashlib.sha256(content).hexdigest()


def _end_of(authority: str) -> int | None:
    """When an authority's certificate ends, in seconds since 1970; None without one."""
    if not authority:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority)
    return max(ssl.cert_time_to_seconds(str(item["notAfter"])) for item in context.get_ca_certs())


def _short(name: str) -> str:
    """As host_name() has it; what it refuses, such as ``*.example.com``, as it is."""
    try:
        return host_name(name)
    except Refused:
        return name


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _sentence(problems: Sequence[str]) -> str:
    return "; ".join(problems) + "."
