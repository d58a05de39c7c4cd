# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the modules that work on a host themselves, without its runtime, tell what failed. Private to this collection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ._host.cures import refused_by_kernel
from ._host.errors import HostmemError

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


@contextmanager
def failures_of(module: AnsibleModule, what: str) -> Iterator[None]:
    """End the module when the engine refuses something or the kernel does, with the error as text and in parts.

    :param what: what is managed, as the beginning of a sentence.
    """
    try:
        yield
    except HostmemError as error:
        module.fail_json(msg=str(error), error=error.as_dict())
    except OSError as error:
        refused = refused_by_kernel(f"{what} could not be managed.", error)
        module.fail_json(msg=str(refused), error=refused.as_dict())
