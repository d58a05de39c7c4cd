# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A unit of ours that compares, at each boot, the pools that were asked for with what the kernel granted, which is silent when it grants less.

Neither systemd-tmpfiles nor the kernel's command line fails then: without it, the first to notice is a guest that does not start.
"""

from __future__ import annotations

from collections.abc import Mapping

from .._host.unit_files import enable, is_enabled, read_unit, remove_unit, systemd_runs, with_header, write_unit

UNIT = "hostmem-hugepages.service"
_DISABLED = "# disabled\n"
# Pages beyond the pool (surplus) count as pages in nr_hugepages. <3> is the journal's priority err (sd-daemon(3)).
_SCRIPT = (
    "status=0; "
    "while [ $# -gt 1 ]; do "
    "nr=$(cat $1/nr_hugepages) && surplus=$(cat $1/surplus_hugepages) || { nr=0; surplus=0; }; "
    "if [ $((nr - surplus)) -lt $2 ]; then "
    'echo "<3>$1: $2 huge pages were asked for at boot, the kernel granted $((nr - surplus))." >&2; status=1; fi; '
    "shift 2; "
    "done; "
    '[ $status -eq 0 ] || echo "<3>Ask for them by boot parameters (hostmem.qemu.hugepages, persist: boot), or for fewer." >&2; '
    "exit $status"
)


def unit_text(pools: Mapping[str, int]) -> str:
    """The unit for these pools, without our header; empty without any.

    :param pools: pages by directory of a pool of a node.
    """
    if not pools:
        return ""
    words = " ".join(f"{directory} {pools[directory]}" for directory in sorted(pools))
    script = _SCRIPT.replace("$", "$$")  # systemd.service(5), "Command lines"
    return (
        "[Unit]\n"
        "Description=Huge pages that were asked for at boot are there\n"
        "After=systemd-tmpfiles-setup.service\n"
        "\n"
        "[Service]\n"
        "Type=oneshot\n"
        f"ExecStart=/bin/sh -c '{script}' sh {words}\n"
        "\n"
        "[Install]\n"
        "WantedBy=multi-user.target\n"
    )


def wanted_unit(pools: Mapping[str, int]) -> str:
    """What current_unit() is to give; empty where no systemd runs, which could not tell anybody."""
    text = unit_text(pools) if systemd_runs() else ""
    return with_header(text) if text else ""


def current_unit() -> str:
    """The whole text of the unit as it is, with a line before it when it is not started at boot; empty when there is none.

    :raises Refused: there is a unit of that name which is not ours.
    """
    text = read_unit(UNIT)
    if text is None:
        return ""
    return text if is_enabled(UNIT) else _DISABLED + text


def apply_check_unit(pools: Mapping[str, int]) -> None:
    """Make the unit be as wanted_unit() says.

    :raises HostmemError: systemd did not take it.
    """
    if wanted_unit(pools):
        write_unit(UNIT, unit_text(pools))
        enable(UNIT)
    else:
        remove_unit(UNIT)
