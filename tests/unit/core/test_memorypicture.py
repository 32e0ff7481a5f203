# SPDX-License-Identifier: GPL-2.0-or-later
"""What a picture says of a machine, as JSON too."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given

from kexecwatchd.memorypicture import MemoryPicture, Survey, picture_of, range_of, ranges_of
from kexecwatchd.model import Block, BlockState, CoreHeader, Drift, Hazard, ImageName, Segment
from kexecwatchd.ranges import RangeSet

from .machines import GIB, KIB, MIB, big, blocks_of, managed, small, small_with_dimm, surveys

DIMM = 40  # the number of its first block


def runs(picture: MemoryPicture) -> list[tuple[int, int, str, str, int | None, bool | None]]:
    return [(r.first, r.last, str(r.state), r.zone, r.node, r.hot_added) for r in picture.blocks]


def test_a_small_machine() -> None:
    picture = picture_of(small())
    assert picture.schema_version == 1
    assert picture.block_size == 128 * MIB
    assert picture.nodes == [0]
    assert [(r.start, r.end, r.driver_managed) for r in picture.ranges] == [
        ("0x1000", "0x9fbff", False),
        ("0x100000", "0x2fffffff", False),
        ("0x100000000", "0x10fffffff", False),
    ]
    assert runs(picture) == [
        (0, 0, "online", "none", 0, False),
        (1, 5, "online", "DMA32", 0, False),
        (32, 33, "online", "Normal", 0, False),
    ]
    assert [(r.start, r.end) for r in picture.crash_regions] == [("0x20000000", "0x2fffffff")]
    assert (picture.crash_loaded, picture.reboot_loaded) == (True, True)
    assert picture.elfcorehdr == "0x20000000"
    assert picture.missing == picture.extra == []
    assert not any(segment.hazards for segment in picture.segments)


def test_segments_are_in_order_and_named_as_far_as_known() -> None:
    picture = picture_of(small())
    assert [(s.image, s.name) for s in picture.segments] == [
        ("crash", "elfcorehdr"),
        ("crash", "initrd"),
        ("crash", "kernel"),
        ("crash", "boot parameters"),
        ("crash", "purgatory"),
        ("reboot", "initrd"),
        ("reboot", "kernel"),
        ("reboot", "boot parameters"),
        ("reboot", "purgatory"),
    ]
    first = picture.segments[0]
    assert (first.start, first.end) == ("0x20000000", "0x20003fff")


def test_only_the_crash_image_has_an_elfcorehdr() -> None:
    machine = replace(
        small(),
        crash_segments=(Segment(0x21000000, KIB),),
        reboot_segments=(Segment(0x20000000, KIB),),
    )
    assert [s.name for s in picture_of(machine).segments] == ["", ""]


def test_a_dimm_with_the_reboot_image() -> None:
    picture = picture_of(small_with_dimm())
    assert runs(picture)[3:] == [
        (DIMM, DIMM, "offline", "Movable", 0, True),
        (DIMM + 1, DIMM + 3, "online", "Movable", 0, True),
    ]
    hazards = [s.hazards for s in picture.segments if s.image is ImageName.REBOOT]
    assert hazards == [[Hazard.MOVABLE]] * 4
    assert [(r.start, r.end) for r in picture.missing] == [("0x140000000", "0x15fffffff")]
    assert [(r.start, r.end) for r in picture.extra] == [("0x180000000", "0x18fffffff")]


BLOCK = 128 * MIB
TOP = 4 * GIB


def at_4_gib(**changes: object) -> Survey:
    """Four blocks at 4 GiB and a segment from the last page of the first into the second."""
    ram = RangeSet.of((0, GIB), (TOP, TOP + 4 * BLOCK))
    machine = Survey(
        memory=replace(small().memory, system_ram=ram),
        blocks=blocks_of(ram, BLOCK),
        boot_ram=ram,
        reboot_segments=(Segment(TOP + BLOCK - 4096, 8192),),
    )
    return replace(machine, **changes)  # type: ignore[arg-type]


FIRST_MANAGED = managed(at_4_gib(), RangeSet.of((TOP, TOP + BLOCK)))


def with_block(number: int, state: BlockState | None) -> Survey:
    """The same with one block in that state, or without it."""
    blocks = at_4_gib().blocks
    by_number = {n: b for n, b in blocks.by_number.items() if n != number}
    if state is not None:
        by_number[number] = Block(number, state)
    return at_4_gib(blocks=replace(blocks, by_number=by_number))


@pytest.mark.parametrize(
    ("machine", "hazards"),
    [
        (at_4_gib(), []),
        (with_block(33, BlockState.OFFLINE), ["offline"]),
        (with_block(32, BlockState.GOING_OFFLINE), ["offline"]),
        (with_block(34, BlockState.OFFLINE), []),
        # /proc/iomem has it still, the block is gone already.
        (with_block(33, None), ["gone"]),
        (at_4_gib(zones={33: "Movable"}), ["movable"]),
        (at_4_gib(zones={34: "Movable", 33: "none"}), []),
        (replace(with_block(33, BlockState.OFFLINE), zones={33: "Movable"}), ["offline"]),
        (at_4_gib(memory=FIRST_MANAGED), ["driver-managed"]),
        (at_4_gib(boot_ram=RangeSet.of((0, TOP + BLOCK))), ["hot-added"]),
        (at_4_gib(boot_ram=None), []),
        (at_4_gib(reboot_segments=(Segment(2 * GIB, 4096),)), ["gone"]),
        (at_4_gib(reboot_segments=(Segment(GIB - 4096, 8192),)), ["gone"]),
        (
            at_4_gib(
                zones=dict.fromkeys(range(32, 36), "Movable"),
                memory=FIRST_MANAGED,
                boot_ram=RangeSet.of((0, GIB)),
            ),
            ["movable"],
        ),
        (at_4_gib(zones={33: "Movable"}, boot_ram=RangeSet.of((0, GIB))), ["movable", "hot-added"]),
        (
            at_4_gib(memory=FIRST_MANAGED, boot_ram=RangeSet.of((0, GIB))),
            ["driver-managed", "hot-added"],
        ),
    ],
)
def test_why_a_segment_must_not_lie_there(machine: Survey, hazards: list[str]) -> None:
    (segment,) = picture_of(machine).segments
    assert [str(hazard) for hazard in segment.hazards] == hazards


def test_a_crash_image_has_hazards_too() -> None:
    machine = replace(
        at_4_gib(), reboot_segments=(), crash_segments=at_4_gib().reboot_segments, boot_ram=None
    )
    machine = replace(machine, blocks=with_block(33, BlockState.OFFLINE).blocks)
    (segment,) = picture_of(machine).segments
    assert (segment.image, segment.hazards) == (ImageName.CRASH, [Hazard.OFFLINE])


def test_what_was_hot_added_can_be_unknown() -> None:
    picture = picture_of(replace(small(), boot_ram=None))
    assert [run.hot_added for run in picture.blocks] == [None] * 3


def test_fragments_below_a_page_make_no_block_hot_added() -> None:
    boot = small().memory.system_ram - RangeSet.of((0x9F800, 0x9FC00))
    assert [r.hot_added for r in picture_of(replace(small(), boot_ram=boot)).blocks] == [False] * 3


def test_driver_managed_memory_is_a_range_of_its_own() -> None:
    picture = picture_of(
        at_4_gib(memory=managed(at_4_gib(), RangeSet.of((TOP, TOP + BLOCK), (8 * TOP, 9 * TOP))))
    )
    assert [(r.start, r.driver_managed) for r in picture.ranges] == [
        ("0x0", False),
        ("0x100000000", True),
        ("0x108000000", False),
    ]


def test_runs_end_where_anything_changes_or_a_block_is_absent() -> None:
    machine = at_4_gib(nodes={n: int(n >= 34) for n in range(40)})
    assert [(r.first, r.last, r.node) for r in picture_of(machine).blocks] == [
        (0, 7, 0),
        (32, 33, 0),
        (34, 35, 1),
    ]
    assert picture_of(machine).nodes == [0, 1]
    machine = replace(machine, blocks=with_block(33, None).blocks, nodes={})
    assert [(r.first, r.last, r.node) for r in picture_of(machine).blocks] == [
        (0, 7, None),
        (32, 32, None),
        (34, 35, None),
    ]


def test_drift_means_something_only_with_a_header() -> None:
    drift = Drift(RangeSet.of((0, 4096)), RangeSet.of((TOP * 2, TOP * 3)))
    picture = picture_of(at_4_gib(drift=drift))
    assert (picture.missing, picture.extra, picture.elfcorehdr) == ([], [], "")
    header = CoreHeader(0x20000000, RangeSet(), ())
    assert picture_of(at_4_gib(drift=drift, header=header)).missing[0].end == "0xfff"


def test_a_machine_without_memory_blocks() -> None:
    none = replace(small().blocks, size=0, by_number={})
    picture = picture_of(replace(small(), blocks=none))
    assert (picture.block_size, picture.blocks, picture.nodes) == (0, [], [])
    assert not any(segment.hazards for segment in picture.segments)


@pytest.mark.parametrize(("block_size", "count"), [(2 * GIB, 1024), (128 * MIB, 16384)])
def test_a_big_machine_is_few_runs(block_size: int, count: int) -> None:
    picture = picture_of(big(block_size))
    assert sum(run.last + 1 - run.first for run in picture.blocks) == count
    assert len(picture.blocks) < 12
    assert picture.nodes == [0, 1, 2, 3]


@given(surveys())
def test_the_json_is_the_picture(machine: Survey) -> None:
    picture = picture_of(machine)
    assert MemoryPicture.model_validate_json(picture.model_dump_json()) == picture
    assert json.loads(picture.model_dump_json())["schema_version"] == 1
    assert ranges_of(picture.ranges) == machine.memory.system_ram
    numbers = [n for run in picture.blocks for n in range(run.first, run.last + 1)]
    assert numbers == sorted(machine.blocks.by_number)
    placed = [(range_of(s).start, range_of(s).size) for s in picture.segments]
    asked = [(s.mem, s.memsz) for s in (*machine.crash_segments, *machine.reboot_segments)]
    assert sorted(placed) == sorted(asked)
