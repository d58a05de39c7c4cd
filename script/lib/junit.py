# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Count the test cases in the JUnit files below a directory: prints passed, failed and skipped; names the failed on stderr."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path


def outcome(case: ET.Element) -> str:
    """Tell how a test case ended, as pytest and ansible-test write it."""
    tags = {child.tag for child in case}
    if tags & {"failure", "error"}:
        return "failed"
    return "skipped" if "skipped" in tags else "passed"


def main() -> None:
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for path in sorted(Path(sys.argv[1]).rglob("*.xml")):
        # pytest writes an error at teardown as a second element of the same test case: one test, and failed.
        cases: dict[tuple[str | None, str | None, int], str] = {}
        for number, case in enumerate(ET.parse(path).getroot().iter("testcase")):
            key = (case.get("classname"), case.get("name"), 0 if case.get("classname") else number)
            if cases.get(key) != "failed":
                cases[key] = outcome(case)
        for (classname, name, _number), result in cases.items():
            counts[result] += 1
            if result == "failed":
                print(f"FAILED: {classname}::{name}", file=sys.stderr)
    print(counts["passed"], counts["failed"], counts["skipped"])


if __name__ == "__main__":
    main()
