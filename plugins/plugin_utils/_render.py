# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rendering a guest definition into QEMU's argument list, on the controller, with Jinja2.

The templates write one argument a line. The result is a list, never a shell string, and is held against the definition.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..module_utils._guest import arguments
from ..module_utils._guest.argv_check import check_argv
from ..module_utils._guest.definition import Definition
from ..module_utils._guest.qemu_options import format_options

DEFAULT_TEMPLATES = os.path.join(
    os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "roles", "guest", "templates"
)
MAIN_TEMPLATE = "qemu.argv.j2"

TEMPLATE_FILTERS: dict[str, Callable[..., Any]] = {
    "machine_options": arguments.machine_options,
    "memory_options": arguments.memory_options,
    "memory_objects": arguments.memory_objects,
    "numa_nodes": arguments.numa_nodes,
    "nvdimm_object": arguments.nvdimm_object,
    "nvdimm_device": arguments.nvdimm_device,
    "disk_blockdev": arguments.disk_blockdev,
    "disk_device": arguments.disk_device,
    "nic_netdev": arguments.nic_netdev,
    "nic_device": arguments.nic_device,
    "console_chardev": arguments.console_chardev,
    "qemu_options": format_options,
}


class _Templates(FileSystemLoader):
    """Templates that end with a line break, also where an editor left it out: what follows an include begins a new argument."""

    def get_source(self, environment: Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        text, path, current = super().get_source(environment, template)
        return text if text.endswith("\n") else f"{text}\n", path, current


def render_argv(definition: Definition, templates: Sequence[str] = ()) -> list[str]:
    """QEMU's arguments for a guest. The same definition and templates give the same list.

    :param templates: directories searched before the collection's own templates; a file there replaces the one of the same name.
    :raises DefinitionError: the templates contradict the definition.
    :raises jinja2.TemplateError: a template is wrong.
    """
    environment = Environment(
        loader=_Templates([*templates, DEFAULT_TEMPLATES]),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        keep_trailing_newline=True,
        lstrip_blocks=True,
    )  # no HTML anywhere near: escaping would change the arguments
    environment.filters.update({f"hostmem.qemu.{name}": function for name, function in TEMPLATE_FILTERS.items()})
    text = environment.get_template(MAIN_TEMPLATE).render(
        guest=definition, agent_chardev=arguments.agent_chardev(), vnc_display=arguments.vnc_display()
    )
    argv = [line for line in text.split("\n") if line]
    check_argv(definition, argv)
    return argv
