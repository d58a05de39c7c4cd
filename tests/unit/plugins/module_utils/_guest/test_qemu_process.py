# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stored arguments turned into the ones a QEMU is started with."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._guest import arguments
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.definition import parse_definition
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.layout import layout
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.paths import GenerationPaths
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.qemu_options import parse_options
from ansible_collections.hostmem.qemu.plugins.module_utils._guest.qemu_process import (
    fill_placeholders,
    for_incoming,
    with_images,
)

from .definitions import disks, memory

GENERATION = GenerationPaths(3, "/run/hostmem/web1/gen-3", "/var/log/hostmem/web1")


def memory_argv(*blocks: dict[str, Any]) -> list[str]:
    """Arguments with memory objects between others."""
    objects = [arguments.memory_object(placed) for placed in layout(parse_definition(memory(*blocks)))]
    return [
        "-S",
        *(word for value in objects for word in ("-object", value)),
        "-object",
        "rng-builtin,id=r",
        "-m",
        "1G",
    ]


def blockdev_argv(*changes: dict[str, Any]) -> list[str]:
    """Arguments with disks' nodes between others."""
    nodes = [arguments.disk_blockdev(disk) for disk in parse_definition(disks(*changes)).disks]
    return ["-S", *(word for node in nodes for word in ("-blockdev", node)), "-append", "-blockdev"]


# --- placeholders


def test_directories_and_descriptors_are_filled_in() -> None:
    argv = ["-chardev", "socket,path=@generation@/c0.sock", "-netdev", "tap,fds=@tap-n0@", "a=@log@/x,b=@log@/y"]
    assert fill_placeholders(argv, GENERATION, {"@tap-n0@": "7:8", "@tap-n1@": "9"}) == [
        "-chardev",
        "socket,path=/run/hostmem/web1/gen-3/c0.sock",
        "-netdev",
        "tap,fds=7:8",
        "a=/var/log/hostmem/web1/x,b=/var/log/hostmem/web1/y",
    ]


def test_other_words_stay_as_they_are() -> None:
    argv = ["-append", "user@host @ @@ @gen@ {x} %s", ""]
    assert fill_placeholders(argv, GENERATION, {}) == argv


def test_filling_leaves_the_stored_arguments_alone() -> None:
    argv = ["@log@"]
    fill_placeholders(argv, GENERATION, {})
    assert argv == ["@log@"]


# --- disks that moved to other images


def test_a_followed_disk_opens_its_live_image() -> None:
    argv = blockdev_argv({}, {"id": "d1", "path": "/srv/b.raw", "format": "raw", "cache": "none"})
    changed = with_images(argv, {"d1": {"path": "/srv/over, lay.qcow2", "format": "qcow2"}})
    assert changed[:4] == argv[:4]
    assert changed[5:] == argv[5:]
    before, after = json.loads(argv[4]), json.loads(changed[4])
    assert after == {**before, "driver": "qcow2", "file": {**before["file"], "filename": "/srv/over, lay.qcow2"}}


def test_a_block_device_that_moved_to_an_overlay_is_opened_as_a_file() -> None:
    argv = blockdev_argv({"path": "/dev/vg0/web1", "format": "raw"})
    assert json.loads(argv[2])["file"]["driver"] == "host_device"
    (_s, _option, node, *_rest) = with_images(argv, {"d0": {"path": "/srv/overlay.qcow2", "format": "qcow2"}})
    assert json.loads(node)["file"]["driver"] == "file"


@pytest.mark.parametrize("images", [{}, {"d9": {"path": "/x", "format": "raw"}}], ids=["none", "of another disk"])
def test_disks_that_stayed_are_left_alone(images: dict[str, dict[str, str]]) -> None:
    assert with_images(blockdev_argv({}), images) == blockdev_argv({})


def test_only_a_disks_own_node_follows() -> None:
    argv = ["-blockdev", '{"driver": "null-co", "node-name": "my-disk-d0"}', "-blockdev", '{"driver": "null-co"}']
    assert with_images(argv, {"d0": {"path": "/x", "format": "raw"}}) == argv


# --- taking a running guest over


def options(argv: list[str], place: int) -> dict[str, str]:
    """The options of one value."""
    return parse_options(argv[place], "qom-type")


def test_nothing_is_preallocated() -> None:
    argv = memory_argv({"backing": "memfd", "prealloc": True})
    changed = for_incoming(argv, {})
    assert options(argv, 2)["prealloc"] == "on"
    assert options(changed, 2) == {**options(argv, 2), "prealloc": "off"}
    assert (changed[:2], changed[3:]) == (argv[:2], argv[3:])


def test_a_file_without_a_name_is_opened_by_another_path() -> None:
    argv = memory_argv({"numa_node": 0}, {"id": "ram1", "numa_node": 1, "backing": "file", "directory": "/srv/a, b"})
    changed = for_incoming(argv, {"ram0": "/proc/1, 2/fd/7"})
    assert options(changed, 2)["mem-path"] == "/proc/1, 2/fd/7"
    assert options(changed, 4) == options(argv, 4)


@pytest.mark.parametrize("nodes", [[0], [0, 2], [3, 1, 2]])
def test_host_nodes_stay_single_values(nodes: list[int]) -> None:
    (value,) = for_incoming(memory_argv({"host_nodes": nodes, "policy": "bind"}), {})[2:3]
    given = [part for part in value.split(",") if part.startswith("host-nodes=")]
    assert given == [f"host-nodes={node}" for node in nodes]
    assert ",," not in value


def test_a_memory_object_in_json() -> None:
    value = '{"qom-type": "memory-backend-memfd", "id": "ram0", "size": 4096, "prealloc": true, "host-nodes": [0, 2]}'
    assert for_incoming(["-object", value], {})[1] == (
        "memory-backend-memfd,id=ram0,size=4096,prealloc=off,host-nodes=0,host-nodes=2"
    )


def test_doing_it_twice_changes_nothing_more() -> None:
    argv = memory_argv({"prealloc": True, "host_nodes": [0, 1], "policy": "interleave"})
    once = for_incoming(argv, {"ram0": "/a, b"})
    assert for_incoming(once, {"ram0": "/a, b"}) == once
