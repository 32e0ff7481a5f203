# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.kernel.srat import BadSrat, parse, read_immovable
from kexecwatchd.ranges import Range

from .trees import DATA, populate

GIB = 1 << 30


def memory(base: int, size: int, flags: int = 1, domain: int = 0) -> bytes:
    return struct.pack("<BBIHQQIIQ", 1, 40, domain, 0, base, size, 0, flags, 0)


def srat(*entries: bytes) -> bytes:
    body = b"".join(entries)
    return b"SRAT" + struct.pack("<I", 48 + len(body)) + bytes(40) + body


CPU = struct.pack("<BB14x", 0, 16)


def test_what_is_hot_pluggable_can_go(tmp_path: Path) -> None:
    table = srat(CPU, memory(0, 0xA0000), memory(4 * GIB, GIB, domain=1), memory(5 * GIB, GIB, 3))
    populate(tmp_path, {"sys/firmware/acpi/tables/SRAT": table})
    assert read_immovable(tmp_path) == (Range(0, 0xA0000), Range(4 * GIB, 5 * GIB))


def test_entries_are_not_merged_and_empty_ones_are_none() -> None:
    table = srat(memory(GIB, GIB), memory(0, GIB), memory(0, 0))
    assert parse(table) == (Range(GIB, 2 * GIB), Range(0, GIB))
    assert parse(srat()) == ()


def test_a_lab_guests() -> None:
    """As QEMU makes it for a machine with slots for DIMMs: the hot-pluggable range is the last."""
    assert parse((DATA / "kaslr-6.12/sys/firmware/acpi/tables/SRAT").read_bytes()) == (
        Range(0, 0xA0000),
        Range(1 << 20, 768 << 20),
        Range(4 * GIB, 4 * GIB + (768 << 20)),
    )


def test_no_table_is_no_limit(tmp_path: Path) -> None:
    assert read_immovable(tmp_path) == ()


@pytest.mark.parametrize(
    ("table", "wrong"),
    [
        (b"", "no SRAT"),
        (b"SSDT" + bytes(60), "no SRAT"),
        (srat()[:-1], "no SRAT"),
        (srat(b"\1\0" + bytes(38)), "without length"),
        (srat(memory(0, GIB))[:-9], "cut short"),
    ],
)
def test_a_damaged_one_is_refused_by_name(tmp_path: Path, table: bytes, wrong: str) -> None:
    populate(tmp_path, {"sys/firmware/acpi/tables/SRAT": table})
    with pytest.raises(BadSrat, match=f"tables/SRAT: .*{wrong}"):
        read_immovable(tmp_path)


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_are_refused(body: bytes) -> None:
    for table in (body, srat(body)):
        with contextlib.suppress(BadSrat):
            parse(table)
