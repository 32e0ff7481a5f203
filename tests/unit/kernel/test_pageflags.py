# SPDX-License-Identifier: GPL-2.0-or-later
"""/proc/kpageflags: reserved or not, as 6.1, 6.12 and 7.3 show it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from kexecwatchd.kernel.pageflags import all_reserved
from kexecwatchd.ranges import RangeSet
from tests.unit.kernel.trees import populate

# What all three showed: of each page below 1 MiB, and of free pages above it (KPF_BUDDY, or none).
RESERVED, FREE, UNUSED = 1 << 32, 1 << 10, 0


def flags(root: Path, *pages: int) -> None:
    populate(root, {"proc/kpageflags": struct.pack(f"={len(pages)}Q", *pages)})


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        (RangeSet.of((0, 0x3000)), True),
        (RangeSet.of((0, 0x4000)), False),
        (RangeSet.of((0x3000, 0x4000)), False),
        (RangeSet.of((0, 0x1000), (0x4000, 0x5000)), False),
        (RangeSet.of((0x1000, 0x3C00)), True),  # a part of a page is no memory to the kernel
        (RangeSet.of((0x3400, 0x4000)), True),
        (RangeSet.of((0x3400, 0x3800)), True),
        (RangeSet(), True),
    ],
)
def test_all_reserved(tmp_path: Path, memory: RangeSet, expected: bool) -> None:
    flags(tmp_path, RESERVED, RESERVED | 1 << 20, RESERVED, FREE, UNUSED)
    assert all_reserved(tmp_path, memory) is expected


def test_what_the_file_does_not_have_is_an_error(tmp_path: Path) -> None:
    flags(tmp_path, RESERVED)
    with pytest.raises(ValueError, match="8 bytes where 16 belong"):
        all_reserved(tmp_path, RangeSet.of((0, 0x2000)))


def test_without_the_option_in_the_kernel(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="kpageflags"):
        all_reserved(tmp_path, RangeSet.of((0, 0x1000)))
