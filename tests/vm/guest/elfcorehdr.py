#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the crash image's elfcorehdr back through /proc/kcore: the scenarios' own eyes.

Prints {"address": …, "loads": [{"paddr", "memsz"}, …], "notes": [{"paddr", "memsz"}, …]}. Shares no
code with the daemon, so that the two can disagree.
"""

import json
import os
import struct
import sys
from collections.abc import Iterator

PAGE = 4096
Header = tuple[int, int, int, int]
PT_LOAD, PT_NOTE, ET_CORE = 1, 4, 4


def program_headers(data: bytes) -> Iterator[Header]:
    """(p_type, p_offset, p_paddr, p_memsz) of each program header of an ELF64 file."""
    (offset,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    for at in range(offset, offset + size * count, size):
        kind, _, file_at, _, physical, _, memory, _ = struct.unpack_from("<IIQQQQQQ", data, at)
        yield kind, file_at, physical, memory


core = os.open("/proc/kcore", os.O_RDONLY)
mapped = [h for h in program_headers(os.pread(core, 1 << 20, 0)) if h[0] == PT_LOAD]


def physical(address: int, size: int) -> bytes:
    for _, offset, start, memory in mapped:
        if start <= address < start + memory:
            return os.pread(core, size, offset + address - start)
    return b""


def regions() -> Iterator[tuple[int, int]]:
    with open("/proc/iomem") as iomem:
        for line in iomem:
            if line.strip().endswith("Crash kernel"):
                start, end = line.split()[0].split("-")
                yield int(start, 16), int(end, 16) + 1


def headers() -> Iterator[tuple[int, list[Header]]]:
    """Everything in the crash regions that has the look of an elfcorehdr."""
    for start, end in regions():
        for address in range(start, end, PAGE):
            data = physical(address, 64)
            if data[:5] != b"\x7fELF\x02" or struct.unpack_from("<H", data, 16)[0] != ET_CORE:
                continue
            found = list(program_headers(physical(address, 1 << 20)))
            if any(h[0] == PT_LOAD for h in found) and any(h[0] == PT_NOTE for h in found):
                yield address, found


for address, found in headers():
    answer = {
        name: [{"paddr": h[2], "memsz": h[3]} for h in found if h[0] == kind]
        for name, kind in (("loads", PT_LOAD), ("notes", PT_NOTE))
    }
    print(json.dumps({"address": address, **answer}))
    break
else:
    sys.exit("no elfcorehdr in the crash regions")
