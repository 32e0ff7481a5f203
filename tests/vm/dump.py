# SPDX-License-Identifier: GPL-2.0-or-later
"""A dump as makedumpfile wrote it, read by drgn: code that others wrote, and people use."""

from __future__ import annotations

from pathlib import Path

import drgn

_PAGE = 4096


def find(dump: Path, pattern: bytes, start: int, end: int) -> tuple[list[int], int]:
    """Look for a page in the dump of physical memory in [start, end).

    Returns where it is (addresses), and how many pages of the range are in the dump at all.
    """
    program = drgn.Program()
    program.set_core_dump(dump)
    found, present = [], 0
    for address in range(start, end, _PAGE):
        try:
            page = program.read(address, _PAGE, physical=True)
        except drgn.FaultError:
            continue
        present += 1
        if page == pattern:
            found.append(address)
    return found, present
