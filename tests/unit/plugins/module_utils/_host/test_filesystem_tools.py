# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Super blocks and signatures, as mkfs.ext4 1.47, mkfs.xfs 6.13 and wipefs 2.41 wrote them."""

from __future__ import annotations

import struct
import uuid

import pytest

from ansible_collections.hostmem.qemu.plugins.module_utils._host.filesystem_tools import (
    mkfs_arguments,
    parse_signatures,
    parse_super_block,
)

NUMBER = "6b0298ce-0fc6-4852-894d-0b82e03b7ab2"


def ext4(block_log: int = 2, incompatible: int = 0x2C2, options: int = 0xC, stride: int = 0, width: int = 0) -> bytes:
    data = bytearray(1024)
    struct.pack_into("<I", data, 0x18, block_log)
    data[0x38:0x3A] = b"\x53\xef"
    struct.pack_into("<I", data, 0x60, incompatible)
    data[0x68:0x78] = uuid.UUID(NUMBER).bytes
    struct.pack_into("<I", data, 0x100, options)
    struct.pack_into("<HHQI", data, 0x164, stride, 5, 0, width)
    return bytes(1024) + bytes(data) + bytes(2048)


def xfs(block_size: int = 4096, unit: int = 0, features: int = 0xB) -> bytes:
    data = bytearray(4096)
    data[:4] = b"XFSB"
    struct.pack_into(">I", data, 4, block_size)
    data[32:48] = uuid.UUID(NUMBER).bytes
    struct.pack_into(">I", data, 184, unit)
    struct.pack_into(">I", data, 212, features)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        pytest.param(
            ext4(stride=512, width=512), ("ext4", 4096, 2 << 20, False, False, False), id="ext4 with a stripe"
        ),
        pytest.param(ext4(block_log=0), ("ext4", 1024, 0, False, False, False), id="ext4 with blocks of 1 KiB"),
        pytest.param(ext4(incompatible=0x82C2), ("ext4", 4096, 0, True, False, False), id="ext4 with inline data"),
        pytest.param(ext4(options=0x2C), ("ext4", 4096, 0, False, True, False), id="ext4 that journals data"),
        pytest.param(ext4(options=0x4C), ("ext4", 4096, 0, False, False, False), id="ext4 with ordered data"),
        pytest.param(xfs(unit=512), ("xfs", 4096, 2 << 20, False, False, False), id="xfs with a stripe"),
        pytest.param(xfs(block_size=1024), ("xfs", 1024, 0, False, False, False), id="xfs with blocks of 1 KiB"),
        pytest.param(xfs(features=0xF), ("xfs", 4096, 0, False, False, True), id="xfs with reflink"),
    ],
)
def test_super_blocks(data: bytes, wanted: tuple[object, ...]) -> None:
    found = parse_super_block(data)
    assert found is not None
    assert found.uuid == NUMBER
    assert (
        found.type,
        found.block_size,
        found.stripe,
        found.inline_data,
        found.journals_data,
        found.reflink,
    ) == wanted


@pytest.mark.parametrize("data", [b"", bytes(4096), b"XFS", b"\x00" * 1080 + b"\x53\xef"])
def test_no_super_block(data: bytes) -> None:
    assert parse_super_block(data) is None


def test_signatures() -> None:
    text = """{
       "signatures": [
          {"device":"pmem0", "offset":"0x438", "type":"ext4", "uuid":"d9a67466-af24-4094-8c1c-670e10ab2fed", "label":null},
          {"device":"pmem0", "offset":"0x200", "type":"gpt", "uuid":null, "label":null}
       ]
    }"""
    assert [str(item) for item in parse_signatures(text)] == ["ext4 at byte 1080", "gpt at byte 512"]
    assert parse_signatures('{"signatures": []}') == parse_signatures("") == []


def test_file_systems_are_laid_out_by_2_mib_with_blocks_of_a_page() -> None:
    (only,) = mkfs_arguments("ext4", NUMBER, False, 4096)
    assert only[only.index("-b") + 1] == "4096"
    assert "stride=512,stripe_width=512" in only
    tries = mkfs_arguments("xfs", NUMBER, False, 4096)
    assert [words[-1] for words in tries[:3]] == [
        "su=2097152,sw=1,agcount=4",
        "su=2097152,sw=1",
        "su=2097152,sw=1,agcount=2",
    ]
    assert all(f"uuid={NUMBER},reflink=0" in words for words in tries)
    assert f"uuid={NUMBER},reflink=1" in mkfs_arguments("xfs", NUMBER, True, 4096)[0]
