# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line of the loaded crash image, read back from the crash region (x86).

It lies there as text, with the address of the elfcorehdr in it: "elfcorehdr=0x…" where the kernel
wrote it (kexec_file_load), "elfcorehdr=…K" where kexec-tools did. That address tells it from what
an earlier image left behind. Elsewhere than on x86 it is in a device tree, without the address.
"""

from __future__ import annotations

import re

from kexecwatchd.kernel.kcore import Kcore
from kexecwatchd.model import CoreHeader
from kexecwatchd.ranges import RangeSet

# Seen at 24 KiB (kexec_file_load) and 692 KiB (kexec-tools 2.0.29) from the region's end.
_SEARCHED = 1 << 20
_LINE = re.compile(rb"[\x20-\x7e]*\belfcorehdr=(?:0x([0-9a-f]+)|(\d+)K)\b[\x20-\x7e]*")


def read(core: Kcore, regions: RangeSet, header: CoreHeader) -> str | None:
    """The command line whose elfcorehdr= is that header; None where there is none to be found.

    Raises what Kcore.read raises.
    """
    region = next(r for r in regions if r.start <= header.address < r.end)
    size = min(_SEARCHED, region.size)
    return find(core.read(region.end - size, size), header.address)


def find(data: bytes, address: int) -> str | None:
    """The last command line in `data` that names this elfcorehdr."""
    found = None
    for line in _LINE.finditer(data):
        hexadecimal, kibibytes = line.groups()
        named = int(hexadecimal, 16) if hexadecimal else int(kibibytes) << 10
        if named == address:
            found = line.group().decode("ascii")
    return found
