# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU's option syntax."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest.command_line import parse_command_line
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.qemu_options import (
    format_options,
    format_value,
    parse_options,
    split_options,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "on"), (False, "off"), (7, "7"), ("a b", "a b"), ("a,b", "a,,b"), (",,", ",,,,"), ("a=b", "a=b"), ("", "")],
)
def test_values(value: Any, text: str) -> None:
    assert format_value(value) == text


@pytest.mark.parametrize("value", ["a\nb", "a\0b", "\n"])
def test_line_breaks_and_nul_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match="line break or NUL"):
        format_value(value)


def test_options_keep_their_order_and_leave_none_out() -> None:
    options = {"id": "ram0", "size": 4096, "share": True, "policy": None, "host-nodes": [0, 2], "mem-path": "/a, b"}
    assert format_options(options, "memory-backend-file") == (
        "memory-backend-file,id=ram0,size=4096,share=on,host-nodes=0,host-nodes=2,mem-path=/a,, b"
    )


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", [""]),
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        ("a,,b", ["a,b"]),
        ("a,,,b", ["a,", "b"]),
        ("a,,,,b", ["a,,b"]),
        ("a,", ["a", ""]),
    ],
)
def test_split(text: str, parts: list[str]) -> None:
    assert split_options(text) == parts


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("memory-backend-file,id=a,share=on", {"type": "memory-backend-file", "id": "a", "share": "on"}),
        ("socket,server,wait=off", {"type": "socket", "server": "on", "wait": "off"}),
        ("a,host-nodes=0,host-nodes=2", {"type": "a", "host-nodes": "0,2"}),
        ("a,mem-path=/x,,y=z", {"type": "a", "mem-path": "/x,y=z"}),
        ("id=a", {"id": "a"}),
        (
            '{"qom-type": "a", "share": true, "host-nodes": [0, 2]}',
            {"qom-type": "a", "share": "on", "host-nodes": "0,2"},
        ),
    ],
)
def test_parse(text: str, wanted: dict[str, str]) -> None:
    assert parse_options(text, "type") == wanted


@pytest.mark.parametrize(
    "options",
    [
        {"id": "a", "path": "/a,b,,c"},
        {"id": "a", "path": ","},
        {"id": "a", "path": "a=b,c=d"},
        {"id": "a", "path": " "},
    ],
)
def test_what_is_written_is_read_back(options: dict[str, str]) -> None:
    assert parse_options(format_options(options, "first"), "type") == {"type": "first", **options}


def test_command_line() -> None:
    options = parse_command_line(["-S", "--name", "web1", "-append", "-S", "-m", "1G"])
    assert [(option.index, option.name, option.value) for option in options] == [
        (0, "S", ""),
        (1, "name", "web1"),
        (3, "append", "-S"),
        (5, "m", "1G"),
    ]


@pytest.mark.parametrize("words", [["disk.img"], ["-S", "disk.img"], ["-m"], ["-"], [""], ["-name", "a", "b"]])
def test_command_line_that_qemu_would_read_otherwise(words: list[str]) -> None:
    with pytest.raises(ValueError, match=r"would take it for a disk image|lacks its argument"):
        parse_command_line(words)
