# SPDX-License-Identifier: GPL-2.0-or-later
"""The memory that firmware described when the kernel started (x86).

/sys/kernel/boot_params/data is the kernel's own copy of struct boot_params; its e820_table is what
the boot loader passed on (Documentation/arch/x86/zero-page.rst, Documentation/ABI/testing/
sysfs-kernel-boot_params). Unlike /sys/firmware/memmap it never gets an entry for memory that is
added later. Memory that only ACPI knows, such as a DIMM that a machine was started with, is not in
it. A kernel that kexec started has what its loader passed on: kexec_file_load passes the first
kernel's table, kexec-tools all memory of the moment of loading, out of which memmap=SIZE%START-1 on
the command line takes what is to count as absent (parse_memmap_one() in arch/x86/kernel/e820.c).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kexecwatchd.kernel.memparse import memparse, words
from kexecwatchd.ranges import RangeSet

# arch/x86/include/uapi/asm/bootparam.h and setup_data.h
_ENTRIES = 0x1E8  # e820_entries, one byte
_TABLE = 0x2D0  # e820_table
_MOST = 128  # E820_MAX_ENTRIES_ZEROPAGE; the rest is in setup_data
_SETUP_E820_EXT = 1

_ENTRY = struct.Struct("<QQI")  # addr, size, type
# E820_TYPE_RAM, and E820_TYPE_RESERVED_KERN: setup_data, which the kernel shows as System RAM too.
RAM = frozenset({1, 128})

_PAGE = 4096
# What trim_bios_range() (arch/x86/kernel/setup.c) takes out of every map.
_FIXED = RangeSet.of((0, _PAGE), (0xA0000, 0x100000))

_TAKEN_OUT = re.compile(r"(?:^|\s)memmap=(\w+)%(\w+)-1(?=\s|$)")


class Entry(NamedTuple):
    """An entry of an e820 table: bytes; `kind` is the type."""

    start: int
    size: int
    kind: int


class BadFirmwareMap(ValueError):
    """What boot_params holds is no e820 table with memory in it."""


@dataclass(frozen=True, slots=True)
class FirmwareMap:
    """`ram`: by the table that this kernel was handed. `taken_out`: what its command line says is
    not to count; the table that it hands on to the next kernel has it all the same
    (e820_table_kexec in arch/x86/kernel/e820.c)."""

    ram: RangeSet
    taken_out: RangeSet


def read(root: Path = Path("/")) -> FirmwareMap | None:
    """Firmware's map; None where the kernel shows no boot_params (not x86).

    Raises OSError or BadFirmwareMap.
    """
    directory = root / "sys/kernel/boot_params"
    path = directory / "data"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    cmdline = (root / "proc/cmdline").read_text(encoding="utf-8", errors="replace")
    try:
        ram = parse(data, extensions(directory / "setup_data"))
    except BadFirmwareMap as error:
        raise BadFirmwareMap(f"{path}: {error}") from error
    return FirmwareMap(ram, taken_out(cmdline))


def parse(data: bytes, more: bytes = b"") -> RangeSet:
    """RAM by the e820 table in struct boot_params and the entries `more` (SETUP_E820_EXT).

    Raises BadFirmwareMap.
    """
    ram = RangeSet.of(
        *(
            (entry.start, entry.start + entry.size)
            for entry in (*table(data), *unpack(more))
            if entry.kind in RAM
        )
    )
    if not ram:
        raise BadFirmwareMap("the e820 table has no RAM")
    return ram


def table(data: bytes) -> tuple[Entry, ...]:
    """The e820 table in struct boot_params, in its order. Raises BadFirmwareMap."""
    if len(data) < _TABLE:
        raise BadFirmwareMap(f"{len(data)} bytes are no struct boot_params")
    end = _TABLE + min(data[_ENTRIES], _MOST) * _ENTRY.size
    if len(data) < end:
        raise BadFirmwareMap("the e820 table is cut short")
    return unpack(data[_TABLE:end])


def unpack(entries: bytes) -> tuple[Entry, ...]:
    """Entries as they stand in the table. Raises BadFirmwareMap."""
    if len(entries) % _ENTRY.size:
        raise BadFirmwareMap("the e820 table is cut short")
    return tuple(Entry._make(entry) for entry in _ENTRY.iter_unpack(entries))


def taken_out(cmdline: str) -> RangeSet:
    """What memmap=SIZE%START-1 takes out of the map; other words take out nothing."""
    ranges = []
    for size, start in _TAKEN_OUT.findall(cmdline):
        try:
            ranges.append((_number(start), _number(start) + _number(size)))
        except ValueError:
            continue
    return RangeSet.of(*ranges)


def usable(entries: Iterable[Entry], cmdline: str) -> RangeSet:
    """The memory that the kernel takes into use: RAM, where nothing else is said of it, in whole
    pages, less what mem= and memmap= take out and more what memmap=SIZE@START adds (e820__*() in
    arch/x86/kernel/e820.c). Raises BadFirmwareMap for a memmap= that is not known here.
    """
    ram, other = RangeSet(), _FIXED
    for start, size, kind in entries:
        if kind in RAM:
            ram |= RangeSet.of((start, start + size))
        else:
            other |= RangeSet.of((start, start + size))
    for name, value in words(cmdline):
        if name == "mem" and value is not None and (size := memparse(value)[0]):
            ram &= RangeSet.of((0, size))
        elif name == "memmap" and value is not None:
            for part in value.split(","):
                size, rest = memparse(part)
                start, more = memparse(rest[1:])
                r = RangeSet.of((start, start + size))
                if not rest and size:
                    ram &= RangeSet.of((0, size))
                elif rest[:1] == "@" and not more:
                    ram |= r
                elif rest[:1] in ("#", "$", "!") and not more:
                    other |= r
                elif rest[:1] == "%" and more == "-1":
                    ram -= r
                else:
                    raise BadFirmwareMap(f"what memmap={part} does is not known here")
    pages = ((-(-r.start // _PAGE) * _PAGE, r.end // _PAGE * _PAGE) for r in ram - other)
    return RangeSet.of(*pages)


def _number(text: str) -> int:
    value, rest = memparse(text)
    if rest:
        raise ValueError(f"{text!r} is no number")
    return value


def extensions(directory: Path) -> bytes:
    """All entries beyond the 128 that fit into boot_params."""
    return b"".join(
        (node / "data").read_bytes()
        for node in nodes(directory)
        if int((node / "type").read_text(), 0) == _SETUP_E820_EXT
    )


def nodes(directory: Path) -> Iterator[Path]:
    """The setup_data nodes: directories 0, 1, …; none where firmware passed none."""
    number = 0
    while (node := directory / str(number)).is_dir():
        yield node
        number += 1
