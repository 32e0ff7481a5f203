# SPDX-License-Identifier: GPL-2.0-or-later
"""/proc/kpageflags: is memory kept from all use? Root only.

A 64-bit number for each page frame (Documentation/admin-guide/mm/pagemap.rst, kpageflags_read() in
fs/proc/page.c). What is taken out with memblock_reserve() while the kernel starts never reaches the
page allocator, and keeps PG_reserved for as long as the kernel runs (KPF_RESERVED, which is
promised nowhere; bit 32 since 2.6.31).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from kexecwatchd.ranges import RangeSet

_KPF_RESERVED = 1 << 32  # include/linux/kernel-page-flags.h
_ENTRY = 8


def all_reserved(root: Path, memory: RangeSet) -> bool:
    """True when each whole page of `memory` is reserved. Reads 8 bytes a page.

    Raises OSError (no CONFIG_PROC_PAGE_MONITOR: FileNotFoundError), or ValueError where the file
    ends before.
    """
    path = root / "proc/kpageflags"
    page = os.sysconf("SC_PAGE_SIZE")
    with path.open("rb", buffering=0) as file:
        for part in memory:
            first, end = -(-part.start // page), part.end // page
            if first >= end:
                continue
            data = os.pread(file.fileno(), (end - first) * _ENTRY, first * _ENTRY)
            if len(data) != (end - first) * _ENTRY:
                raise ValueError(
                    f"{path} has {len(data)} bytes where {(end - first) * _ENTRY} belong"
                )
            flags = struct.unpack(f"={end - first}Q", data)
            if not all(flag & _KPF_RESERVED for flag in flags):
                return False
    return True
