# SPDX-License-Identifier: GPL-2.0-or-later
"""What of an image lies where it must not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd import hazards
from kexecwatchd.model import Hazard, MemoryMap, Observation, Risk, Segment
from kexecwatchd.ranges import RangeSet
from tests.unit.core.cases import GIB, REGION, gib, placed, seen

MANAGED = MemoryMap(gib(*range(8)), REGION, driver_managed=gib(7))

CASES = [
    # (look, blocks of the segment, hazards by block)
    (seen(), [7], {}),
    (seen(present=range(7)), [7], {7: Hazard.GONE}),
    (seen(offline=[7]), [7], {7: Hazard.OFFLINE}),
    (seen(movable=gib(7)), [7], {7: Hazard.MOVABLE}),
    (seen(movable=gib(6)), [7], {}),
    (seen(map=MANAGED), [7], {7: Hazard.DRIVER_MANAGED}),
    (seen(map=MANAGED), [6], {}),
    (seen(boot_ram=gib(*range(7))), [7], {7: Hazard.HOT_ADDED}),
    (seen(boot_ram=gib(*range(7))), [6], {}),
    (seen(boot_ram=None), [7], {}),
    # of several, the worst is told
    (seen(offline=[7], movable=gib(7), boot_ram=gib(0)), [7], {7: Hazard.OFFLINE}),
    (
        seen(movable=gib(7), boot_ram=gib(*range(6))),
        [6, 7],
        {7: Hazard.MOVABLE, 6: Hazard.HOT_ADDED},
    ),
]


@pytest.mark.parametrize(("look", "blocks", "expected"), CASES)
def test_risks(look: Observation, blocks: list[int], expected: dict[int, Hazard]) -> None:
    found = hazards.risks(placed(*blocks).segments, look)
    assert {risk.blocks[0]: risk.hazard for risk in found} == expected
    assert [risk.hazard for risk in found] == list(expected.values()), "the worst first"
    for risk in found:
        assert risk.segment.mem == risk.blocks[0] * GIB
        assert risk.part == gib(*risk.blocks)


def test_a_segment_over_several_blocks_is_told_part_by_part() -> None:
    segment = Segment(5 * GIB + GIB // 2, 2 * GIB, "initrd")
    (risk,) = hazards.risks([segment], seen(movable=gib(6, 7)))
    assert risk.part == RangeSet.of((6 * GIB, 7 * GIB + GIB // 2))
    assert risk.blocks == (6, 7)
    assert hazards.describe([risk]).startswith("1.5 GiB of it into movable memory")


@pytest.mark.parametrize(("mem", "risky"), [(3 << 21, False), (3 << 20, True)])
def test_a_kernel_must_lie_where_it_can_start(mem: int, risky: bool) -> None:
    found = hazards.risks([Segment(mem, 1 << 20, "kernel", alignment=1 << 21)], seen())
    assert [risk.hazard for risk in found] == ([Hazard.MISALIGNED] if risky else [])
    assert hazards.risks([Segment(mem, 1 << 20, "initrd")], seen()) == ()


def test_unsafe_memory_is_all_of_it() -> None:
    look = seen(offline=[2], movable=gib(5), boot_ram=gib(*range(7)))
    assert hazards.unsafe_memory(look) == gib(2, 5, 7)
    assert not hazards.unsafe_memory(seen())
    assert not hazards.unsafe_memory(seen(map=None))
    assert not hazards.unsafe_memory(seen(map=None, boot_ram=gib(0), offline=[2]))
    assert not hazards.unsafe_memory(seen(present=range(7), movable=gib(7)))


def test_hot_added_is_what_firmware_did_not_bring_and_no_driver_manages() -> None:
    assert hazards.hot_added(seen(boot_ram=gib(*range(6)))) == gib(6, 7)
    assert hazards.hot_added(seen(map=MANAGED, boot_ram=gib(*range(6)))) == gib(6)
    assert not hazards.hot_added(seen(boot_ram=None))
    assert not hazards.hot_added(seen(map=None, boot_ram=gib(0)))


@pytest.mark.parametrize(
    ("look", "lost"),
    [
        (seen(boot_ram=gib(*range(8))), ""),
        (seen(boot_ram=gib(*range(7))), ""),
        (seen(boot_ram=None, present=[0]), ""),
        (seen(boot_ram=gib(*range(8)), offline=[7]), ""),
        (seen(boot_ram=gib(*range(10))), "2 GiB of boot memory is gone"),
        (seen(boot_ram=gib(*range(10)), boot_ram_sure=False), ""),
    ],
)
def test_the_next_kernel_would_be_told_of_memory_of_boot_that_is_gone(
    look: Observation, lost: str
) -> None:
    told = hazards.told_of_lost_memory(look)
    assert told.startswith(lost)
    assert bool(told) == bool(lost)


def test_each_hazard_is_told_in_its_own_words_and_summed_up() -> None:
    segment = Segment(0, 4 * GIB)
    told = {h: hazards.describe([Risk(segment, gib(1), (1,), h)]) for h in Hazard}
    assert len(set(told.values())) == len(Hazard)
    assert all(words.startswith("1 GiB of it into ") for words in told.values())
    parts = [Risk(segment, gib(n), (n,), h) for n, h in enumerate((Hazard.MOVABLE,) * 2)]
    both = hazards.describe([*parts, Risk(segment, gib(3), (3,), Hazard.HOT_ADDED)])
    assert both == f"{told[Hazard.MOVABLE].replace('1', '2')}; {told[Hazard.HOT_ADDED]}"
    assert hazards.describe([]) == ""


blocks = st.sets(st.integers(0, 9))
looks = st.builds(
    seen,
    present=st.sets(st.integers(0, 9), min_size=1),
    offline=blocks,
    movable=blocks.map(lambda some: gib(*some)),
    boot_ram=st.none() | blocks.map(lambda some: gib(*some)),
)
segments = st.lists(
    st.builds(Segment, st.integers(0, 9 * GIB), st.integers(1, 3 * GIB)), max_size=4
)


@given(looks, segments)
def test_each_byte_is_safe_or_counted_once(look: Observation, placed: list[Segment]) -> None:
    for segment in placed:
        found = hazards.risks([segment], look)
        counted = sum(risk.part.size for risk in found)
        risky = RangeSet(r for risk in found for r in risk.part)
        assert counted == risky.size
        assert not (RangeSet([segment.range]) - risky) & hazards.unsafe_memory(look)
        assert (RangeSet([segment.range]) - risky) - look.ram == RangeSet()
        assert "0x" not in hazards.describe(found)
