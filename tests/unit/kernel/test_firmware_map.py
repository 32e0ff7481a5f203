# SPDX-License-Identifier: GPL-2.0-or-later
"""The e820 table in boot_params, laid out as in Documentation/arch/x86/zero-page.rst."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.kernel.firmware_map import BadFirmwareMap, parse, read
from kexecwatchd.ranges import RangeSet

from .trees import populate

Entry = tuple[int, int, int]

# A lab guest's on 6.12, as its kernel showed it, before and after a DIMM was hot-added.
LAB: Sequence[Entry] = (
    (0x0, 0x9FC00, 1),
    (0x9FC00, 0x400, 2),
    (0xF0000, 0x10000, 2),
    (0x100000, 0x2FEDA000, 1),
    (0x2FFDA000, 0x26000, 2),
    (0xFFFC0000, 0x40000, 2),
    (0x100000000, 0x10000000, 1),
    (0xFD00000000, 0x300000000, 2),
)
LAB_RAM = RangeSet.of((0, 0x9FC00), (0x100000, 0x2FFDA000), (0x100000000, 0x110000000))


def packed(entries: Sequence[Entry]) -> bytes:
    return b"".join(struct.pack("<QQI", *entry) for entry in entries)


def boot_params(entries: Sequence[Entry], count: int | None = None) -> bytes:
    page = bytearray(4096)
    page[0x1E8] = len(entries) if count is None else count
    table = packed(entries)
    page[0x2D0 : 0x2D0 + len(table)] = table
    return bytes(page)


def test_only_ram_counts() -> None:
    assert parse(boot_params(LAB)) == LAB_RAM


def test_entries_beyond_the_count_are_what_was_there_before() -> None:
    assert parse(boot_params(LAB, count=6)) == LAB_RAM - RangeSet.of((0x100000000, 0x110000000))


def test_no_boot_params_is_no_map(tmp_path: Path) -> None:
    assert read(tmp_path) is None


def test_entries_in_setup_data_count_too(tmp_path: Path) -> None:
    where = "sys/kernel/boot_params"
    more = packed([(0x200000000, 0x1000, 1), (0x300000000, 0x1000, 2)])
    populate(
        tmp_path,
        {
            f"{where}/data": boot_params(LAB),
            f"{where}/setup_data/0/type": "0x3\n",
            f"{where}/setup_data/0/data": b"a PCI option ROM",
            f"{where}/setup_data/1/type": "0x1\n",
            f"{where}/setup_data/1/data": more,
        },
    )
    assert read(tmp_path) == LAB_RAM | RangeSet.of((0x200000000, 0x200001000))


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        (b"", "0 bytes"),
        (boot_params(LAB)[:0x2D0], "cut short"),
        (boot_params(LAB, count=0), "no RAM"),
        (boot_params(LAB)[:0x300], "cut short"),
    ],
)
def test_a_bad_map_is_refused_by_name(tmp_path: Path, data: bytes, wrong: str) -> None:
    populate(tmp_path, {"sys/kernel/boot_params/data": data})
    with pytest.raises(BadFirmwareMap, match=f"boot_params/data: .*{wrong}"):
        read(tmp_path)


@given(
    st.lists(
        st.tuples(st.integers(0, 1 << 50), st.integers(0, 1 << 40), st.integers(1, 5)), max_size=128
    )
)
def test_any_table_gives_its_ram(entries: list[Entry]) -> None:
    ram = RangeSet.of(*((start, start + size) for start, size, kind in entries if kind == 1))
    if ram:
        assert parse(boot_params(entries)) == ram
    else:
        with pytest.raises(BadFirmwareMap):
            parse(boot_params(entries))


@given(st.binary(max_size=0x400), st.binary(max_size=60))
def test_any_bytes_parse_or_are_refused(data: bytes, more: bytes) -> None:
    with contextlib.suppress(BadFirmwareMap):
        assert parse(data, more)
