# SPDX-License-Identifier: GPL-2.0-or-later
"""Where KASLR may put a kernel, held against trying every address."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.kaslr import Image, Options, SlotArea, Slots, find_slots, parse_options
from kexecwatchd.ranges import Range, RangeSet

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
STEP = 2 * MIB

#: Debian's 6.12, as QEMU loads it.
IMAGE = Image(output=16 * MIB, size=56 * MIB, init_size=0x37EE000, align=STEP)
ANY = 1 << 46


def mib(*pairs: tuple[int, int]) -> tuple[Range, ...]:
    return tuple(Range(start * MIB, end * MIB) for start, end in pairs)


def places(slots: Slots) -> list[int]:
    found = [place // MIB for place in slots]
    assert slots.count == len(found)
    return found


def one_by_one(image: Image, ram: Iterable[Range], avoid: Iterable[Range], limit: int) -> list[int]:
    """Each address by itself: the whole of [place, place + size) in one RAM entry, off what is to
    be avoided."""
    avoid = (Range(image.output, image.output + image.init_size), *avoid)
    least = min(image.output, 512 * MIB)
    return [
        place
        for entry in ram
        for place in range(-(-entry.start // STEP) * STEP, entry.end, STEP)
        if place >= least
        and place + image.size <= min(entry.end, limit)
        and not any(place < a.end and a.start < place + image.size for a in avoid)
    ]


class TestSlots:
    def test_a_lab_guest(self) -> None:
        """As a kernel chose among them 200 times: docs/FACTS.md."""
        ram = (Range(MIB, 0x2FFE0000), *mib((4096, 4864)))
        options = parse_options("memmap=16M$128M,16M$456M memmap=16M$600M")
        slots = find_slots(IMAGE, ram, [Range(0x2FED4000, 0x2FFDF15F)], options, most=ANY)
        assert [(a.start // MIB, a.count) for a in slots.areas] == [
            (72, 1), (144, 129), (472, 37), (616, 48), (4096, 357)
        ]  # fmt: skip
        assert slots.count == 572

    def test_not_across_two_entries(self) -> None:
        assert not any(
            place in find_slots(IMAGE, mib((100, 200), (200, 300)), (), Options(), most=ANY)
            for place in range(146 * MIB, 200 * MIB, STEP)
        )

    def test_not_across_two_nodes_nor_where_memory_can_go(self) -> None:
        ram, stays = mib((128, 1024)), mib((0, 256), (256, 512), (2048, 4096))
        slots = find_slots(IMAGE, ram, (), Options(), most=ANY, immovable=stays)
        assert places(slots) == [*range(128, 201, 2), *range(256, 457, 2)]
        slots = find_slots(IMAGE, mib((128, 400)), (), Options(), most=ANY, immovable=stays)
        assert places(slots) == [*range(128, 201, 2), *range(256, 345, 2)]

    def test_entries_that_touch_the_minimum_and_the_limits(self) -> None:
        ram = mib((0, 16), (72, 128), (200, 255), (300, 356))
        assert places(find_slots(IMAGE, ram, (), Options(), most=ANY)) == [72, 300]
        assert places(find_slots(IMAGE, ram, (), Options(), most=356 * MIB - 1)) == [72]
        limited = Options(limit=300 * MIB)
        assert places(find_slots(IMAGE, ram, (), limited, most=ANY)) == [72]
        limited = Options(limit=400 * MIB)
        assert places(find_slots(IMAGE, ram, (), limited, most=300 * MIB)) == [72]

    def test_loaded_high_the_minimum_is_512_mib(self) -> None:
        high = Image(4 * GIB, IMAGE.size, IMAGE.init_size, STEP)
        assert places(find_slots(high, mib((128, 570)), (), Options(), most=ANY)) == [512, 514]

    def test_off_or_without_any_room_it_stays_where_it_unpacks_itself(self) -> None:
        ram = mib((128, 1024))
        assert places(find_slots(IMAGE, ram, (), Options(off="nokaslr"), most=ANY)) == [16]
        assert places(find_slots(IMAGE, mib((128, 180)), (), Options(), most=ANY)) == [16]

    def test_gigantic_pages_are_left_alone(self) -> None:
        ram = mib((512, 5120))
        slots = find_slots(IMAGE, ram, (), Options(gigantic=2), most=ANY)
        assert places(slots) == [*range(512, 969, 2), *range(3072, 5065, 2)]
        # More than there are, or none that is whole.
        slots = find_slots(IMAGE, ram, (), Options(gigantic=9), most=ANY)
        assert places(slots) == [*range(512, 969, 2)]
        slots = find_slots(IMAGE, mib((1030, 2040)), (), Options(gigantic=1), most=ANY)
        assert len(places(slots)) == 478
        slots = find_slots(IMAGE, mib((600, 1500)), (), Options(gigantic=1), most=ANY)
        assert places(slots) == [*range(600, 1445, 2)]
        # Four of five in the first entry, the last one in the second.
        ram = mib((1000, 5200), (6144, 9000))
        slots = find_slots(IMAGE, ram, (), Options(gigantic=5), most=ANY)
        assert places(slots) == [*range(5120, 5145, 2), *range(7168, 8945, 2)]
        slots = find_slots(IMAGE, ram, (), Options(), most=ANY)
        assert places(slots) == [*range(1000, 5145, 2), *range(6144, 8945, 2)]

    def test_the_table_has_100_areas(self) -> None:
        ram = mib(*((n * 100, n * 100 + 56) for n in range(1, 200)))
        assert find_slots(IMAGE, ram, (), Options(), most=ANY).count == 100

    def test_64_tib_are_counted_at_once(self) -> None:
        slots = find_slots(IMAGE, mib((4096, 64 << 20)), (), Options(), most=ANY)
        assert slots.count == (64 * TIB - 4 * GIB - 56 * MIB) // STEP + 1
        assert slots.within(RangeSet.of((5 * GIB, 6 * GIB))) == 512


@given(
    gaps=st.lists(st.tuples(st.integers(0, 90), st.integers(1, 700)), min_size=1, max_size=6),
    avoid=st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 200)), max_size=4),
    limit=st.integers(1, 4000),
    odd=st.integers(0, 3) | st.just(0),
    size=st.integers(1, 60),
)
def test_every_place_and_no_other(
    gaps: list[tuple[int, int]],
    avoid: list[tuple[int, int]],
    limit: int,
    odd: int,
    size: int,
) -> None:
    ram, at = [], MIB
    for gap, length in gaps:
        at += gap * MIB + odd * 4096
        ram.append(Range(at, at + length * MIB))
        at += length * MIB
    kept_off = [Range(a * MIB + odd, (a + length) * MIB) for a, length in avoid]
    image = Image(16 * MIB, size * STEP, 70 * MIB, STEP)
    slots = find_slots(image, ram, kept_off, Options(), most=limit * MIB)
    found = one_by_one(image, ram, kept_off, limit * MIB)
    assert list(slots) == (found or [image.output])
    assert slots.count == len(list(slots))


@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(1, 50)), max_size=3),
    st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 300)), max_size=3),
)
def test_within_is_counting(areas: list[tuple[int, int]], ranges: list[tuple[int, int]]) -> None:
    slots = Slots(tuple(SlotArea(start, count, 16) for start, count in areas))
    addresses = RangeSet.of(*((start, start + size) for start, size in ranges))
    counted = [p for p in slots if any(r.start <= p < r.end for r in addresses)]
    assert slots.within(addresses) == len(counted)
    assert all(place in slots for place in counted)
    assert -1 not in slots


class TestOptions:
    @pytest.mark.parametrize(
        ("cmdline", "expected"),
        [
            ("ro quiet", Options()),
            ("memmap=16M$128M", Options(mib((128, 144)))),
            ("memmap=16M#128M,4M!1G", Options(mib((128, 144), (1024, 1028)))),
            ("memmap=16M@128M mem=4G memmap=2G", Options(limit=2 * GIB)),
            ("mem=nopentium mem=0 mem=1G", Options()),  # nothing is read after mem=0
            ("mem=nopentium mem=2G mem=3G memmap=0", Options(limit=2 * GIB)),
            ("mem memmap hugepagesz=1G hugepages hugepagesz", Options()),  # no values
            # Only the size is read where there is neither #, $ nor !, as a limit.
            ("memmap=512M%6G-1", Options(limit=512 * MIB)),
            ("memmap=exactmap,16M$128M", Options()),
            ("a -- memmap=16M$128M", Options()),
            ('"memmap=16M$128M"', Options(mib((128, 144)))),
            ("memmap=x,16M$128M", Options()),
            ("hugepagesz=1G hugepages=4 panic=9", Options(gigantic=4)),
            ("hugepagesz=2M hugepages=4", Options()),
            ("hugepages=4", Options()),
            ("nokaslr", Options(off="nokaslr is on the command line")),
            ("nokaslr memmap=1G", Options((), GIB, off="nokaslr is on the command line")),
            ("xnokaslr", Options()),
        ],
    )
    def test_read(self, cmdline: str, expected: Options) -> None:
        assert parse_options(cmdline) == expected

    def test_four_ranges_and_no_more(self) -> None:
        four = "memmap=1M$128M,1M$256M,1M$384M,1M$512M"
        assert len(parse_options(four).avoid) == 4
        assert not parse_options(four).off
        # In one option more than four switch it off, in a further option they do not count.
        assert parse_options(f"{four},1M$640M").off
        assert parse_options("memmap=1M$128M memmap=1M$256M,1M$384M,1M$512M,1M$640M").off
        assert parse_options(f"{four} memmap=1M$640M") == parse_options(four)

    @given(st.text(alphabet="memap=,%-1@$#! 0123456789xKMGnokaslr"))
    def test_any_command_line_will_do(self, cmdline: str) -> None:
        parse_options(f"memmap={cmdline}")
