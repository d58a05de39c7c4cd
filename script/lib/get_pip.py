# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for the pip installer that ansible-test downloads: installs the pip asked for from the wheel beside this file."""

from __future__ import annotations

import glob
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(os.environ["GET_PIP"]))


def main() -> int:
    wanted = next(argument for argument in sys.argv[1:] if argument.startswith("pip=="))
    wheel = glob.glob(os.path.join(HERE, f"pip-{wanted[5:]}-*.whl"))[0]
    # A wheel of pip can run itself without being installed.
    return subprocess.call([sys.executable, f"{wheel}/pip", "install", "--no-index", "--find-links", HERE, wanted])


if __name__ == "__main__":
    sys.exit(main())
