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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kexecwatchd.ranges import RangeSet

# arch/x86/include/uapi/asm/bootparam.h and setup_data.h
_ENTRIES = 0x1E8  # e820_entries, one byte
_TABLE = 0x2D0  # e820_table
_MOST = 128  # E820_MAX_ENTRIES_ZEROPAGE; the rest is in setup_data
_SETUP_E820_EXT = 1

_ENTRY = struct.Struct("<QQI")  # addr, size, type
# E820_TYPE_RAM, and E820_TYPE_RESERVED_KERN: setup_data, which the kernel shows as System RAM too.
_RAM = frozenset({1, 128})

_TAKEN_OUT = re.compile(r"(?:^|\s)memmap=(\w+)%(\w+)-1(?=\s|$)")
_SUFFIXES = {suffix: 10 * (n + 1) for n, suffix in enumerate("KMGTPE")}


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
        ram = parse(data, _extensions(directory / "setup_data"))
    except BadFirmwareMap as error:
        raise BadFirmwareMap(f"{path}: {error}") from error
    return FirmwareMap(ram, taken_out(cmdline))


def parse(data: bytes, more: bytes = b"") -> RangeSet:
    """RAM by the e820 table in struct boot_params and the entries `more` (SETUP_E820_EXT).

    Raises BadFirmwareMap.
    """
    if len(data) < _TABLE:
        raise BadFirmwareMap(f"{len(data)} bytes are no struct boot_params")
    end = _TABLE + min(data[_ENTRIES], _MOST) * _ENTRY.size
    table = data[_TABLE:end]
    if len(data) < end or len(more) % _ENTRY.size:
        raise BadFirmwareMap("the e820 table is cut short")
    ram = RangeSet.of(
        *(
            (start, start + size)
            for start, size, kind in _ENTRY.iter_unpack(table + more)
            if kind in _RAM
        )
    )
    if not ram:
        raise BadFirmwareMap("the e820 table has no RAM")
    return ram


def taken_out(cmdline: str) -> RangeSet:
    """What memmap=SIZE%START-1 takes out of the map; other words take out nothing."""
    ranges = []
    for size, start in _TAKEN_OUT.findall(cmdline):
        try:
            ranges.append((_number(start), _number(start) + _number(size)))
        except ValueError:
            continue
    return RangeSet.of(*ranges)


def _number(text: str) -> int:
    """As memparse() in lib/cmdline.c: 0x20000000, 512M."""
    shift = _SUFFIXES.get(text[-1].upper(), 0) if not text.lower().startswith("0x") else 0
    return int(text[:-1] if shift else text, 0) << shift


def _extensions(directory: Path) -> bytes:
    """All entries beyond the 128 that fit into boot_params."""
    return b"".join(
        (node / "data").read_bytes()
        for node in _nodes(directory)
        if int((node / "type").read_text(), 0) == _SETUP_E820_EXT
    )


def _nodes(directory: Path) -> Iterator[Path]:
    """The setup_data nodes: directories 0, 1, …; none where firmware passed none."""
    number = 0
    while (node := directory / str(number)).is_dir():
        yield node
        number += 1
