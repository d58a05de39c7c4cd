# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation fragments for options that a module takes for the sake of its action group, and makes nothing of."""

from __future__ import annotations


class ModuleDocFragment:
    """The options of the fragment hostmem.qemu.runtime, for modules that need no runtime."""

    DOCUMENTATION = r"""
options:
  runtime:
    description:
      - Not used by this module, which needs no runtime. It is accepted so that one default can be set for the whole action group.
    type: path
"""

    # For modules that do not even read its configuration.
    CONFIG = r"""
options:
  config:
    description:
      - Not used by this module. It is accepted so that one default can be set for the whole action group.
    type: path
"""
