# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation fragment for the option by which modules learn in check mode what tasks before them would have made."""

from __future__ import annotations


class ModuleDocFragment:
    """Of modules that build upon each other: pools and mounts, namespaces and mounts."""

    DOCUMENTATION = r"""
options:
  foreseen:
    description:
      - What will be there by the time of a real run and is not yet in check mode, because tasks before this one make it. That is RV(foreseen) of another
        module of this collection, or of the same one. Lists of C(users), C(groups), C(files) and C(packages) that others make can be added, and
        of guests that are C(undefined) by then.
      - Without it, check mode refuses what a real run would refuse now. Whatever is presumed because of it is warned of.
      - Ignored outside of check mode.
    type: dict
    version_added: 1.0.0
"""
