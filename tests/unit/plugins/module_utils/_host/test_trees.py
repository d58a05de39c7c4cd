# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trees of programs, replaced while programs run from them."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

from ansible_collections.hostmem.qemu.plugins.module_utils._host.trees import (
    in_use,
    read_tree,
    remove_tree,
    tree_digest,
    write_tree,
)

FILES = {"bin/program": b"#!/bin/sh\n", "library/part/one.py": b"ONE = 1\n", "library/empty.py": b""}


def test_digest_depends_on_paths_and_contents_alone() -> None:
    assert tree_digest(FILES) == tree_digest(dict(reversed(FILES.items())))
    assert tree_digest(FILES) != tree_digest({**FILES, "library/empty.py": b" "})
    assert tree_digest({"a": b"bc"}) != tree_digest({"ab": b"c"})


def test_tree_is_read_as_it_was_written(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    write_tree(str(tree), FILES)
    assert read_tree(str(tree)) == FILES


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    before = os.umask(0o077)
    try:
        write_tree(str(tree), FILES)
    finally:
        os.umask(before)
    modes = {path: (tree / path).stat().st_mode & 0o777 for path in ("", "bin", "bin/program", "library/part/one.py")}
    assert modes == {"": 0o755, "bin": 0o755, "bin/program": 0o755, "library/part/one.py": 0o644}


def test_compiled_files_do_not_count(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    write_tree(str(tree), FILES)
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(tree)], check=True)
    assert list(tree.rglob("__pycache__"))
    assert read_tree(str(tree)) == FILES


def test_tree_of_a_running_program_stays(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    write_tree(str(tree), FILES)
    descriptor = os.open(tree, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    assert in_use(str(tree))
    assert not remove_tree(str(tree))
    assert read_tree(str(tree)) == FILES
    os.close(descriptor)
    assert not in_use(str(tree))
    assert remove_tree(str(tree))
    assert list(tmp_path.iterdir()) == []
