# SPDX-License-Identifier: GPL-2.0-or-later
"""/proc/zoneinfo: the spans of ZONE_MOVABLE."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.kernel import zoneinfo
from kexecwatchd.ranges import RangeSet
from tests.unit.kernel.trees import populate

PAGE = 4096
# As 6.12 writes it; the lines that nobody here asks for are cut short.
NORMAL = """Node 0, zone   Normal
  per-node stats
      nr_inactive_anon 3
  pages free     30592
        boost    0
        min      660
        spanned  65536
        present  65536
        managed  47616
        cma      0
        protection: (0, 0, 0, 0, 0)
      nr_free_pages 30592
  pagesets
    cpu: 0
              count:    0
  node_unreclaimable:  0
  start_pfn:           1048576
"""
EMPTY = """Node 0, zone  Movable
  pages free     0
        boost    0
        spanned  0
        present  0
        managed  0
        protection: (0, 0, 0, 0, 0)
"""


def movable(node: int, first: int, spanned: int) -> str:
    return f"""Node {node}, zone  Movable
  pages free     131072
        spanned  {spanned}
        present  {spanned}
        managed  {spanned}
        protection: (0, 0, 0, 0, 0)
  node_unreclaimable:  0
  start_pfn:           {first}
"""


def test_none_where_the_zone_is_empty() -> None:
    assert not zoneinfo.parse(NORMAL + EMPTY + NORMAL, PAGE)


def test_each_nodes_span() -> None:
    text = NORMAL + movable(0, 0x120000, 0x20000) + NORMAL + movable(1, 0x200000, 0x8000) + NORMAL
    assert zoneinfo.parse(text, PAGE) == RangeSet.of(
        (0x120000000, 0x140000000), (0x200000000, 0x208000000)
    )


def test_the_last_zone_counts_too() -> None:
    assert zoneinfo.parse(movable(0, 16, 4), PAGE) == RangeSet.of((0x10000, 0x14000))


def test_a_zone_with_pages_must_say_where(tmp_path: Path) -> None:
    text = movable(0, 16, 4).replace("start_pfn", "start")
    populate(tmp_path, {"proc/zoneinfo": text})
    with pytest.raises(ValueError, match=r"zoneinfo: .*start_pfn"):
        zoneinfo.movable_spans(tmp_path)


def test_read_below_the_root_in_this_machines_pages(tmp_path: Path) -> None:
    populate(tmp_path, {"proc/zoneinfo": movable(0, 16, 4)})
    page = os.sysconf("SC_PAGE_SIZE")
    assert zoneinfo.movable_spans(tmp_path) == RangeSet.of((16 * page, 20 * page))


def test_this_machines_own_can_be_read() -> None:
    zoneinfo.movable_spans()


@given(st.text(alphabet="Node Movable,zone0123456789 :\nstartpfnpresentspanned_", max_size=300))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        zoneinfo.parse(text, PAGE)
