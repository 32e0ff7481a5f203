# SPDX-License-Identifier: GPL-2.0-or-later
"""/proc/zoneinfo: where ZONE_MOVABLE can be.

A zone spans from its first page to its last, with other zones' memory in between at times: only
memoryN/valid_zones says which zone a block is in. But where no ZONE_MOVABLE spans there is no such
block, so one file saves asking thousands. Format: zoneinfo_show_print(), mm/vmstat.c.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from kexecwatchd.model import MOVABLE
from kexecwatchd.ranges import Range, RangeSet

_ZONE = re.compile(r"Node \d+, zone +(\S+)")
_NUMBER = re.compile(r" +(spanned|present|start_pfn:) +(\d+)")


def movable_spans(root: Path = Path("/")) -> RangeSet:
    """The memory between the first and the last page of each node's ZONE_MOVABLE.

    Raises OSError, or ValueError where a zone with pages does not say where it starts.
    """
    path = root / "proc/zoneinfo"
    try:
        return parse(path.read_text(encoding="ascii", errors="replace"), os.sysconf("SC_PAGE_SIZE"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parse(text: str, page: int) -> RangeSet:
    """From the text of /proc/zoneinfo; `page` is the page size in bytes. Raises ValueError."""
    spans: list[Range] = []
    numbers: dict[str, int] = {}
    movable = False
    for line in [*text.splitlines(), "Node 0, zone end"]:
        if match := _ZONE.match(line):
            if movable and numbers.get("present"):
                spans.append(_span(numbers, page))
            movable, numbers = match[1] == MOVABLE, {}
        elif movable and (match := _NUMBER.fullmatch(line)):
            numbers[match[1].rstrip(":")] = int(match[2])
    return RangeSet(spans)


def _span(numbers: dict[str, int], page: int) -> Range:
    """Of a zone that has pages; one without shows no start_pfn."""
    try:
        first, spanned = numbers["start_pfn"], numbers["spanned"]
    except KeyError as missing:
        raise ValueError(f"a Movable zone with pages does not show {missing}") from None
    return Range(first * page, (first + spanned) * page)
