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

from kexecwatchd.kernel.firmware_map import (
    BadFirmwareMap,
    Entry,
    FirmwareMap,
    parse,
    read,
    table,
    taken_out,
    usable,
)
from kexecwatchd.ranges import RangeSet

from .trees import populate

Triple = tuple[int, int, int]

# A lab guest's on 6.12, as its kernel showed it, before and after a DIMM was hot-added.
LAB: Sequence[Triple] = (
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


def packed(entries: Sequence[Triple]) -> bytes:
    return b"".join(struct.pack("<QQI", *entry) for entry in entries)


def boot_params(entries: Sequence[Triple], count: int | None = None) -> bytes:
    page = bytearray(4096)
    page[0x1E8] = len(entries) if count is None else count
    table = packed(entries)
    page[0x2D0 : 0x2D0 + len(table)] = table
    return bytes(page)


def test_only_ram_counts() -> None:
    assert parse(boot_params(LAB)) == LAB_RAM


def test_entries_beyond_the_count_are_what_was_there_before() -> None:
    assert parse(boot_params(LAB, count=6)) == LAB_RAM - RangeSet.of((0x100000000, 0x110000000))


def test_no_more_than_fit_into_boot_params() -> None:
    """What follows the 128 entries is another field."""
    page = boot_params([*LAB, *[(0, 0, 2)] * (128 - len(LAB)), (1 << 40, 0x1000, 1)], count=129)
    assert parse(page) == LAB_RAM
    assert parse(page[: 0x2D0 + 128 * 20]) == LAB_RAM


@pytest.mark.parametrize("more", [b"", packed([(1 << 40, 0x1000, 1)])])
def test_a_table_to_the_last_byte_is_whole(more: bytes) -> None:
    end = 0x2D0 + len(LAB) * 20
    data = boot_params(LAB)
    assert parse(data[:end], more) & LAB_RAM == LAB_RAM
    for shorter, longer in ((data[: end - 1], more), (data, more + b"x"), (data[: end - 1], b"x")):
        with pytest.raises(BadFirmwareMap, match="cut short"):
            parse(shorter, longer)


def test_no_boot_params_is_no_map(tmp_path: Path) -> None:
    assert read(tmp_path) is None


def test_entries_in_setup_data_count_too(tmp_path: Path) -> None:
    where = "sys/kernel/boot_params"
    more = packed([(0x200000000, 0x1000, 1), (0x300000000, 0x1000, 2)])
    populate(
        tmp_path,
        {
            "proc/cmdline": "ro quiet\n",
            f"{where}/data": boot_params(LAB),
            f"{where}/setup_data/0/type": "0x3\n",
            f"{where}/setup_data/0/data": b"a PCI option ROM",
            f"{where}/setup_data/1/type": "0x1\n",
            f"{where}/setup_data/1/data": more,
        },
    )
    expected = LAB_RAM | RangeSet.of((0x200000000, 0x200001000))
    assert read(tmp_path) == FirmwareMap(expected, RangeSet())
    populate(
        tmp_path,
        {
            f"{where}/setup_data/0/type": "0x1\n",
            f"{where}/setup_data/0/data": packed([(0x400000000, 0x1000, 1)]),
        },
    )
    both = RangeSet.of((0x200000000, 0x200001000), (0x400000000, 0x400001000))
    assert read(tmp_path) == FirmwareMap(LAB_RAM | both, RangeSet())


def test_what_the_command_line_takes_out_is_told_apart(tmp_path: Path) -> None:
    """As kexecwatchd has kexec-tools start a kernel: the loader's table has the hot-added DIMM."""
    table = boot_params([*LAB, (0x180000000, 0x20000000, 1)])
    cmdline = "ro memmap=0x20000000%0x180000000-1\n"
    populate(tmp_path, {"proc/cmdline": cmdline, "sys/kernel/boot_params/data": table})
    dimm = RangeSet.of((0x180000000, 0x1A0000000))
    assert read(tmp_path) == FirmwareMap(LAB_RAM | dimm, taken_out=dimm)


@pytest.mark.parametrize(
    ("cmdline", "expected"),
    [
        ("", []),
        ("memmap=512M%6G-1 ro", [(6 << 30, (6 << 30) + (512 << 20))]),
        (
            "a memmap=0x1000%0x2000-1 memmap=4k%1M-1",
            [(0x2000, 0x3000), (1 << 20, (1 << 20) + 4096)],
        ),
        # other forms do other things
        ("memmap=1G@4G memmap=1G$4G memmap=1G%4G-1+2 memmap=1G%4G-2 xmemmap=1G%4G-1", []),
        ("memmap=1X%4G-1 memmap=%-1 memmap=0x%0x-1", []),
    ],
)
def test_taken_out(cmdline: str, expected: list[tuple[int, int]]) -> None:
    assert taken_out(cmdline) == RangeSet.of(*expected)


@given(st.text(alphabet="memap=%-1 0123456789xKMGabc\n", max_size=60))
def test_any_command_line_will_do(cmdline: str) -> None:
    taken_out(f"memmap={cmdline}")


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
    populate(tmp_path, {"proc/cmdline": "\n", "sys/kernel/boot_params/data": data})
    with pytest.raises(BadFirmwareMap, match=f"boot_params/data: .*{wrong}"):
        read(tmp_path)


@given(
    st.lists(
        st.tuples(st.integers(0, 1 << 50), st.integers(0, 1 << 40), st.integers(1, 5)), max_size=128
    )
)
def test_any_table_gives_its_ram(entries: list[Triple]) -> None:
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


@pytest.mark.parametrize(
    ("cmdline", "expected"),
    [
        ("ro quiet", [(0x1000, 0x9F000), (0x100000, 0x2FFDA000), (1 << 32, 0x110000000)]),
        ("mem=512M", [(0x1000, 0x9F000), (0x100000, 512 << 20)]),
        ("memmap=512M", [(0x1000, 0x9F000), (0x100000, 512 << 20)]),
        (
            "mem=nopentium memmap=1M$0 memmap=0x2fe00000#0x100000",
            [(0x2FF00000, 0x2FFDA000), (1 << 32, 0x110000000)],
        ),
        (
            'memmap="4G!1M" memmap=1G@8G',
            [(0x1000, 0x9F000), (0x100100000, 0x110000000), (8 << 30, 9 << 30)],
        ),
        ("memmap=12G%1M-1", [(0x1000, 0x9F000)]),
    ],
)
def test_usable(cmdline: str, expected: list[tuple[int, int]]) -> None:
    assert usable(table(boot_params(LAB)), cmdline) == RangeSet.of(*expected)


def test_what_is_not_ram_wins() -> None:
    entries = [
        Entry(0x100000, 0x1000000, 1),
        Entry(0x200800, 0x400, 2),
        Entry(0x400000, 0x123, 128),
    ]
    assert usable(entries, "memmap=1M@2M") == RangeSet.of(
        (0x100000, 0x200000), (0x201000, 0x1100000)
    )


@pytest.mark.parametrize("value", ["exactmap", "1G%4G-1+2", "1G%4G", "1G$4Gx", "x"])
def test_a_memmap_that_is_not_known_here(value: str) -> None:
    with pytest.raises(BadFirmwareMap, match="is not known here"):
        usable(table(boot_params(LAB)), f"memmap={value}")


@given(
    st.lists(st.tuples(st.integers(0, 1 << 50), st.integers(0, 1 << 40), st.integers(1, 5))),
    st.text(alphabet="memap=%-1@$#! 0123456789xKMG"),
)
def test_any_map_and_command_line_will_do(entries: list[Triple], cmdline: str) -> None:
    with contextlib.suppress(BadFirmwareMap):
        usable([Entry._make(e) for e in entries], f"memmap={cmdline}")
