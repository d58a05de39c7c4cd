# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nox sessions: the stages of script/test, each by its name, for those who are used to nox.

script/test brings its own virtual environment, so that the sessions need none.
"""

from __future__ import annotations

import nox

nox.options.sessions = ["lint", "mypy", "sanity", "units"]
nox.options.default_venv_backend = "none"


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff, yamllint, ansible-lint, shellcheck, changelog, documentation, syntax of the playbooks."""
    session.run("script/test", "lint", external=True)


@nox.session
def mypy(session: nox.Session) -> None:
    """Types; strict in the engine."""
    session.run("script/test", "mypy", external=True)


@nox.session
def sanity(session: nox.Session) -> None:
    """All tests of ansible-test sanity, for every supported Python that is found."""
    session.run("script/test", "sanity", external=True)


@nox.session
def units(session: nox.Session) -> None:
    """Unit tests under ansible-test."""
    session.run("script/test", "units", external=True)


@nox.session
def engine(session: nox.Session) -> None:
    """The engine on real QEMU, without Ansible."""
    session.run("script/test", "engine", external=True)


@nox.session
def molecule(session: nox.Session) -> None:
    """Roles and playbooks against hosts: containers, and a virtual machine."""
    session.run("script/test", "molecule", external=True)


@nox.session
def dax(session: nox.Session) -> None:
    """Persistent memory on a kernel that has some."""
    session.run("script/test", "dax", external=True)
