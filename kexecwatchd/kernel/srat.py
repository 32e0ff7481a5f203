# SPDX-License-Identifier: GPL-2.0-or-later
"""ACPI's System Resource Affinity Table: which memory is there to stay.

Format: ACPI specification 6.5, 5.2.16 (memory affinity structure: 5.2.16.2). x86 puts the kernel
only into memory that it does not call hot-pluggable, and across no two of its entries
(count_immovable_mem_regions() in arch/x86/boot/compressed/acpi.c, which looks at nothing else).
"""

from __future__ import annotations

import struct
from pathlib import Path

from kexecwatchd.ranges import Range

_HEADER = 48  # the table's own header, and 12 reserved bytes
_MEMORY = 1
_AFFINITY = struct.Struct("<BBIHQQII")  # type, length, node, -, base, length, -, flags
_HOT_PLUGGABLE = 2


class BadSrat(ValueError):
    """The table is damaged."""


def read_immovable(root: Path = Path("/")) -> tuple[Range, ...]:
    """The memory that is there to stay, an entry each, in their order; empty without a table.

    Raises OSError or BadSrat.
    """
    path = root / "sys/firmware/acpi/tables/SRAT"
    try:
        return parse(path.read_bytes())
    except FileNotFoundError:
        return ()
    except BadSrat as error:
        raise BadSrat(f"{path}: {error}") from error


def parse(table: bytes) -> tuple[Range, ...]:
    """As read_immovable(), of the table's bytes. Raises BadSrat."""
    if table[:4] != b"SRAT" or len(table) < _HEADER:
        raise BadSrat(f"no SRAT; it begins with {table[:4]!r}")
    found = []
    offset = _HEADER
    while offset + 2 < len(table):
        kind, length = table[offset], table[offset + 1]
        if not length:
            raise BadSrat(f"an entry without length at byte {offset}")
        if kind == _MEMORY:
            if offset + _AFFINITY.size > len(table):
                raise BadSrat(f"cut short in the entry at byte {offset}")
            _, _, _, _, base, size, _, flags = _AFFINITY.unpack_from(table, offset)
            if size and not flags & _HOT_PLUGGABLE:
                found.append(Range(base, base + size))
        offset += length
    return tuple(found)
