# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole report, and its place in the documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .tables import (
    many_guests_tables,
    methods_table,
    one_guest_tables,
    prealloc_table,
    prealloc_verdicts,
    save_restore_tables,
    save_restore_verdicts,
    verdicts,
)

BEGIN = "<!-- figures: written by script/bench --write-docs -->"
END = "<!-- end of figures -->"


def markdown(raw: dict[str, Any]) -> str:
    """The report as Markdown: machine, tables, verdicts."""
    machine = "\n".join(f"* {key}: {value}" for key, value in raw["machine"].items())
    took = f"* This run: {raw['started']}, {raw['minutes']:.0f} minutes, load before it {raw['load']:.2f}"
    lines = verdicts(raw["one_guest"], raw["many_guests"])
    lines += save_restore_verdicts(raw["save_restore"]) + prealloc_verdicts(raw["prealloc"])
    parts = ["### Machine", f"{machine}\n{took}", "### One guest", one_guest_tables(raw["one_guest"])]
    if raw["many_guests"]:
        parallel = raw["many_guests"][0]["parallel"]
        parts += [f"### Many guests of 64 MiB, {parallel} at once", many_guests_tables(raw["many_guests"])]
    if raw["methods"]:
        parts += ["### Methods, one guest of 256 MiB, from QEMU 11.1 to itself", methods_table(raw["methods"])]
    if raw["save_restore"]:
        parts += ["### Save and restore, RAM on tmpfs", save_restore_tables(raw["save_restore"])]
    if raw["prealloc"]:
        parts += ["### Prealloc", prealloc_table(raw["prealloc"])]
    parts += ["### Verdicts", "\n".join(f"* {line}" for line in lines)]
    return "\n\n".join(parts) + "\n"


def write_docs(path: Path, text: str) -> None:
    """Put the report between the markers of a document.

    :raises ValueError: the document has no markers.
    """
    before, begin, rest = path.read_text().partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} lacks the lines {BEGIN} and {END}")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")
