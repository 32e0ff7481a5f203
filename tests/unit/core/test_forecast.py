# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kexecwatchd.forecast import NoHole, Request, Undecided, forecast
from kexecwatchd.kernel import iomem
from kexecwatchd.kernel.placement_rules import Rules
from kexecwatchd.model import Segment
from kexecwatchd.ranges import Range
from tests.unit.kernel.trees import DATA

PAGE = 4096
KIB, MIB = 1 << 10, 1 << 20
NEW = Rules(highest_first=True, purgatory=0x5000, boot_parameters=(160,))
OLD = Rules(highest_first=False, purgatory=0x5000, boot_parameters=(112, 160))
# Debian's 6.12 with the lab's initrd, and that machine's memory: the last page of the second
# resource is not whole.
DEBIAN = Request(0x37EE000, 2 * MIB, 16 * MIB, 0x1C6755, 45)
LOW, MAIN = Range(0x1000, 0x9FC00), Range(0x100000, 0x2FFDA000)
HIGH, DIMM = Range(0x100000000, 0x110000000), Range(0x140000000, 0x148000000)


def places(rules: Rules, request: Request, *resources: Range) -> list[int]:
    return [s.mem for s in forecast(rules, request, resources)]


class TestSeenOnRealKernels:
    """The names of the captures say which kernel, and what was special."""

    @pytest.mark.parametrize(
        "capture",
        [
            "placed-6.12-boot-memory",
            "placed-6.12-dimm-large-initrd",
            "placed-7.3-boot-memory",
            "placed-7.3-dimm",
        ],
    )
    def test_the_log_says_the_same(self, capture: str) -> None:
        log = (DATA / capture / "kmsg").read_text()
        memory = iomem.parse((DATA / capture / "iomem").read_text())
        found = re.findall(r"segment\[\d+\]: .* mem=0x(\w+) memsz=0x(\w+)", log)
        logged = [(int(mem, 16), int(memsz, 16)) for mem, memsz in found]
        assert len(logged) == 4
        # What was asked for stands in the log too, but for the header's alignment and preference.
        (initrd,) = re.findall(r"Loaded initrd at \S+ bufsz=0x(\w+)", log)
        (cmdline,) = re.findall(r"Final command line is: (.*)", log)
        request = Request(logged[2][1], 2 * MIB, 16 * MIB, int(initrd, 16), len(cmdline) + 1)
        answer = forecast(NEW, request, memory.resources)
        assert [(s.mem, s.memsz) for s in answer] == logged
        assert [s.name for s in answer] == ["purgatory", "boot parameters", "kernel", "initrd"]

    def test_6_1_takes_the_lowest_that_fits(self) -> None:
        """There the second kernel said where its command line and initrd are (boot_params)."""
        request = Request(0x3F98000, 2 * MIB, 16 * MIB, 0x1C1375, 45)
        answer = forecast(OLD, request, (LOW, MAIN, HIGH, DIMM))
        assert answer[1] == Segment(0x98000, 0x2000, "boot parameters")
        assert answer[3] == Segment(0x2BE3E000, 0x1C2000, "initrd")


class TestTable:
    def test_all_in_the_highest(self) -> None:
        assert places(NEW, DEBIAN, LOW, MAIN, HIGH) == [
            0x10FFFB000, 0x10FFF9000, 0x10C800000, 0x10C639000,
        ]  # fmt: skip

    def test_lowest_first_still_goes_top_down_inside(self) -> None:
        # A page is lost where the resource ends at one, and none where it does not.
        assert places(OLD, DEBIAN, LOW, MAIN, HIGH) == [
            0x9A000, 0x98000, 0x2C600000, 0x2FE12000,
        ]  # fmt: skip

    def test_without_initrd(self) -> None:
        request = Request(0x37EE000, 2 * MIB, 16 * MIB, None, 45)
        assert len(forecast(NEW, request, (LOW, MAIN, HIGH))) == 3

    def test_what_does_not_fit_goes_elsewhere(self) -> None:
        request = Request(0x37EE000, 2 * MIB, 16 * MIB, 80 * MIB, 45)
        assert places(NEW, request, LOW, MAIN, HIGH, DIMM) == [
            0x147FFB000, 0x147FF9000, 0x144800000, 0x10B000000,
        ]  # fmt: skip

    def test_neighbours_are_not_one(self) -> None:
        request = Request(0x37EE000, 2 * MIB, 16 * MIB, 100 * MIB, 45)
        second = Range(DIMM.end, DIMM.end + 128 * MIB)
        assert places(NEW, request, HIGH, DIMM, second)[3] == DIMM.end - 100 * MIB
        merged = Range(DIMM.start, second.end)
        assert places(NEW, request, HIGH, merged)[3] != DIMM.end - 100 * MIB

    @pytest.mark.parametrize(("cmdline", "pages"), [(1, 1), (50, 1), (51, 2), (2017, 2)])
    def test_the_command_line_counts(self, cmdline: int, pages: int) -> None:
        # 4096 + cmdline + 30, up to a multiple of 16, + what stands beside it. Never so little.
        rules = Rules(True, 0x5000, (-80,))
        request = Request(0x37EE000, 2 * MIB, 16 * MIB, None, cmdline)
        assert forecast(rules, request, (HIGH,))[1].memsz == pages * PAGE

    def test_the_initrd_stays_above_16_mib(self) -> None:
        request = Request(MIB, 2 * MIB, MIB, MIB, 45)
        under = Range(0x100000, 16 * MIB)
        with pytest.raises(NoHole):
            forecast(NEW, request, (under,))
        with pytest.raises(NoHole):  # three segments take its end, and then it would be too low
            forecast(NEW, request, (Range(0x100000, 17 * MIB),))
        above = Range(16 * MIB, 17 * MIB)
        assert places(OLD, request, LOW, under, above, HIGH)[3] == HIGH.end - MIB - PAGE
        assert places(OLD, request, LOW, under, Range(16 * MIB, 18 * MIB))[3] == 17 * MIB - PAGE

    def test_exactly_as_large_as_the_hole(self) -> None:
        tight = Range(0x140000000, 0x140000000 + 0x37EE000)
        request = Request(0x37EE000, 2 * MIB, 16 * MIB, None, 45)
        assert places(NEW, request, MAIN, tight)[2] != tight.start  # purgatory is in the way
        assert (
            places(NEW, request, MAIN, tight, Range(1 << 33, (1 << 33) + 0x7000))[2] == tight.start
        )

    def test_exactly_between_two_segments(self) -> None:
        """The alignment leaves room above the kernel."""
        free = 0x10FFF9000 - (0x10C800000 + 0x37EE000)
        request = Request(0x37EE000, 2 * MIB, 16 * MIB, free, 45)
        assert places(NEW, request, HIGH)[3] == 0x10C800000 + 0x37EE000
        request = Request(0x37EE000, 2 * MIB, 16 * MIB, free + 1, 45)
        assert places(NEW, request, HIGH)[3] < 0x10C800000

    def test_nothing_goes_into_the_first_pages(self) -> None:
        assert places(OLD, DEBIAN, Range(0x1000, 0x7C00), MAIN)[:2] == [0x2FFD4000, 0x5000]
        assert places(OLD, DEBIAN, Range(0x1000, 0x4C00), MAIN)[1] == 0x2FFD2000

    def test_nothing_fits(self) -> None:
        with pytest.raises(NoHole):
            forecast(NEW, DEBIAN, (LOW,))
        with pytest.raises(NoHole):
            forecast(NEW, DEBIAN, ())


class TestUndecided:
    def test_boot_parameters_of_one_page_or_two(self) -> None:
        request = Request(0x37EE000, 2 * MIB, 16 * MIB, None, 20)
        at_the_edge = Rules(True, 0x5000, (-80, -32))
        with pytest.raises(Undecided):
            forecast(at_the_edge, request, (HIGH,))
        assert forecast(Rules(True, 0x5000, (-80, -75)), request, (HIGH,))

    def test_below_where_the_kernel_prefers_to_be(self) -> None:
        request = Request(4 * MIB, 2 * MIB, 16 * MIB, None, 45)
        small = Range(0x100000, 14 * MIB)
        with pytest.raises(Undecided):  # 1 MiB is the limit, or 16 MiB is
            forecast(NEW, request, (LOW, small))
        with pytest.raises(Undecided):
            forecast(OLD, request, (LOW, small, HIGH))
        assert forecast(NEW, request, (LOW, small, HIGH))
        low = Request(4 * MIB, 2 * MIB, MIB, None, 45)
        assert places(NEW, low, LOW, small)[2] == 8 * MIB


def naive(rules: Rules, request: Request, resources: Sequence[Range]) -> list[Segment] | None:
    """The kernel's loops as they stand, a page at a time, with inclusive ends."""
    parameters = 4096 + request.cmdline_bytes + 30
    parameters = (parameters + 15) // 16 * 16 + rules.boot_parameters[0]
    wanted = [
        ("purgatory", rules.purgatory, 1, 0x3000),
        ("boot parameters", parameters, 16, 0x3000),
        ("kernel", request.kernel_memory, request.kernel_alignment, request.kernel_preferred),
    ]
    if request.initrd_size is not None:
        wanted.append(("initrd", request.initrd_size, PAGE, 0x1000000))
    placed: list[Segment] = []
    for name, size, align, minimum in wanted:
        memsz = (size + PAGE - 1) // PAGE * PAGE
        for resource in reversed(resources) if rules.highest_first else resources:
            last = resource.end - 1
            if last - resource.start + 1 < memsz or last < minimum:
                continue
            start = last - memsz + (1 if rules.highest_first else 0)
            while True:
                start -= start % max(align, PAGE)
                if start < resource.start or start < minimum or free(placed, start, memsz):
                    break
                start -= PAGE
            if start >= resource.start and start >= minimum:
                placed.append(Segment(start, memsz, name))
                break
        else:
            return None
    return placed


def free(placed: Iterable[Segment], start: int, memsz: int) -> bool:
    end = start + memsz - 1
    return not any(start <= s.mem + s.memsz - 1 and s.mem <= end for s in placed)


sizes = st.integers(1, 6 * MIB)
machines = st.lists(st.tuples(st.integers(0, 6 * KIB), st.integers(1, 12 * KIB)), max_size=8)
requests = st.builds(
    Request,
    kernel_memory=sizes,
    kernel_alignment=st.sampled_from([1, PAGE, 64 * KIB, 2 * MIB]),
    kernel_preferred=st.just(MIB),
    initrd_size=st.none() | sizes,
    cmdline_bytes=st.integers(1, 2017),
)
rules_of_any = st.builds(
    Rules,
    highest_first=st.booleans(),
    purgatory=st.integers(1, 8).map(lambda pages: pages * PAGE),
    boot_parameters=st.tuples(st.integers(0, 5000)),
)


def lay_out(machine: list[tuple[int, int]]) -> tuple[Range, ...]:
    """Resources from (gap, size) pairs in KiB, from the first MiB on, the first at page 1."""
    ends = list(itertools.accumulate(itertools.chain.from_iterable(machine), initial=512))
    return (LOW, *(Range(a * KIB, b * KIB) for a, b in zip(ends[1::2], ends[2::2], strict=True)))


@given(rules_of_any, requests, machines)
def test_the_same_as_page_by_page(
    rules: Rules, request: Request, machine: list[tuple[int, int]]
) -> None:
    resources = lay_out(machine)
    wanted = naive(rules, request, resources)
    if wanted is None:
        with pytest.raises(NoHole):
            forecast(rules, request, resources)
    else:
        assert list(forecast(rules, request, resources)) == wanted


@given(rules_of_any, requests, machines)
def test_segments_are_apart_and_each_in_one_resource(
    rules: Rules, request: Request, machine: list[tuple[int, int]]
) -> None:
    resources = lay_out(machine)
    try:
        segments = forecast(rules, request, resources)
    except NoHole:
        assume(False)
        raise
    for one, other in itertools.combinations(segments, 2):
        assert one.mem + one.memsz <= other.mem or other.mem + other.memsz <= one.mem
    for segment in segments:
        assert any(r.start <= segment.mem and segment.range.end <= r.end for r in resources)
        assert segment.mem % PAGE == segment.memsz % PAGE == 0
    assert segments[2].mem % request.kernel_alignment == 0


def test_a_terabyte_of_crowded_memory_takes_no_time() -> None:
    """No loop over pages: an initrd that has to pass a kernel of a terabyte."""
    huge = Range(1 << 40, 1 << 44)
    request = Request(1 << 41, 2 * MIB, 16 * MIB, 1 << 41, 45)
    assert places(NEW, request, huge)[3] == (1 << 44) - 2 * MIB - (1 << 42)
