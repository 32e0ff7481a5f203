# SPDX-License-Identifier: GPL-2.0-or-later
"""struct boot_params: the captures are booted kernels' (SeaBIOS with QEMU's own loader)."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.kernel.boot_params import parse, read
from kexecwatchd.kernel.firmware_map import BadFirmwareMap, Entry
from kexecwatchd.ranges import Range

from .test_firmware_map import LAB, boot_params, packed
from .trees import populate


def params(fields: dict[int, bytes], entries: bytes = boot_params(LAB)) -> bytes:
    """boot_params with these bytes in it."""
    page = bytearray(entries)
    for offset, value in fields.items():
        page[offset : offset + len(value)] = value
    return bytes(page)


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


#: What QEMU hands over of a 6.12 kernel.
FIELDS = {
    0x210: b"\xb0\x83",
    0x214: u32(0x100000),
    0x218: u32(0x2FED4000) + u32(0x10B15F),
    0x228: u32(0x20000),
    0x230: u32(0x200000),
    0x258: struct.pack("<Q", 0x1000000) + u32(0x37EE000),
}


def test_a_lab_guests() -> None:
    found = parse(params(FIELDS))
    assert found.entries[:2] == (Entry(0, 0x9FC00, 1), Entry(0x9FC00, 0x400, 2))
    assert len(found.entries) == len(LAB)
    assert found.initrd == Range(0x2FED4000, 0x2FFDF15F)
    assert (found.cmdline, found.loaded) == (0x20000, 0x100000)
    assert (found.randomised, found.efi, found.kexec) == (True, False, False)
    assert (found.setup_data, found.unplaced, found.extra) == (None, 0, ())


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ({0x0C0: u32(1), 0x0C4: u32(0)}, "initrd", Range(0x12FED4000, 0x12FFDF15F)),
        ({0x0C4: u32(1)}, "initrd", Range(0x2FED4000, 0x12FFDF15F)),
        ({0x21C: u32(0)}, "initrd", None),
        ({0x0C8: u32(2)}, "cmdline", 0x200020000),
        ({0x211: b"\x81"}, "randomised", False),
        ({0x1C0: b"EL64"}, "efi", True),
        ({0x1C0: b"EL32"}, "efi", True),
        ({0x210: b"\xd0"}, "kexec", True),
        ({0x210: b"\x72"}, "kexec", False),
    ],
)
def test_field(fields: dict[int, bytes], name: str, value: object) -> None:
    assert getattr(parse(params(FIELDS | fields)), name) == value


def test_setup_data(tmp_path: Path) -> None:
    """The kernel shows what is in each node, and of the first one where it lies."""
    where = "sys/kernel/boot_params"
    more = packed([(0x200000000, 0x1000, 1)])
    populate(
        tmp_path,
        {
            f"{where}/data": params(FIELDS | {0x250: struct.pack("<Q", 0x5000010)}),
            f"{where}/setup_data/0/type": "0x9\n",
            f"{where}/setup_data/0/data": bytes(32),
            f"{where}/setup_data/1/type": "0x1\n",
            f"{where}/setup_data/1/data": more,
        },
    )
    found = read(tmp_path)
    assert found
    assert found.setup_data == Range(0x5000010, 0x5000010 + 16 + 32)
    assert found.unplaced == 1
    assert found.extra == (Entry(0x200000000, 0x1000, 1),)


def test_half_of_what_tells_of_setup_data_is_nothing() -> None:
    assert parse(params(FIELDS), setup_data=[32]).setup_data is None
    assert parse(params(FIELDS | {0x250: u32(0x5000010)})).setup_data is None


def test_no_boot_params(tmp_path: Path) -> None:
    assert read(tmp_path) is None


@given(st.binary(max_size=4096), st.binary(max_size=60))
def test_any_bytes_parse_or_are_refused(data: bytes, more: bytes) -> None:
    with contextlib.suppress(BadFirmwareMap):
        parse(data, more)
