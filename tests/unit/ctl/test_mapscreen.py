# SPDX-License-Identifier: GPL-2.0-or-later
"""The screen, whole for the machines that it was made for, and fitting for all others."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.ctl.mapkinds import MEANINGS, Kind, sizes, spans
from kexecwatchd.ctl.mapscreen import render
from kexecwatchd.memorypicture import Survey, picture_of
from kexecwatchd.model import Block, Blocks, BlockState, CoreHeader, Drift, Segment
from kexecwatchd.ranges import RangeSet
from kexecwatchd.sizes import human
from tests.unit.core.machines import GIB, MIB, TIB, big, managed, small, small_with_dimm, surveys

MACHINES = {
    "small": small(),
    "with a DIMM": small_with_dimm(),
    "big": big(),
    "big, small blocks": big(128 * MIB),
}


LOADED = "Crash image    loaded; 256 MiB reserved"


def screen(machine: Survey, width: int = 80, *, colour: bool = False) -> str:
    return render(picture_of(machine), width=width, colour=colour)


def answer(machine: Survey) -> list[str]:
    """The lines above the picture, each as one."""
    head = re.sub(r"\n {15}", " ", screen(machine).split("\n\n", maxsplit=1)[0])
    return head.splitlines()


def part(text: str, title: str) -> list[str]:
    """The lines below a title."""
    paragraphs = (paragraph.splitlines() for paragraph in text.split("\n\n"))
    return next(lines[1:] for lines in paragraphs if lines[0] == title)


SMALL = """\
Memory         1023.6 MiB in 8 blocks of 128 MiB
Crash image    loaded; 256 MiB reserved; it lists all of memory
Reboot image   loaded; 4 segments, none in memory that can go away

A character is 2 MiB and shows the most important thing there; a row is 128 MiB.
0x0         ################################################################
0x8000000   ################################################################
0x10000000  ################################################################
0x18000000  ################################################################
0x20000000  KCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC
0x28000000  CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKK
            ... no memory for 3.2 GiB ...
0x100000000 ################################################################
0x108000000 ################################RRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRR

  R     62 MiB  reboot image (kexec)
  K   62.1 MiB  crash image (kdump)
  C  193.9 MiB  reserved for the crash image
  #  705.6 MiB  ordinary memory

Images
  crash   reserved         0x20000000-0x2fffffff    256 MiB
  crash   elfcorehdr       0x20000000-0x20003fff    16 KiB
  crash   initrd           0x2c000000-0x2d7fffff    24 MiB
  crash   kernel           0x2d800000-0x2fdfffff    38 MiB
  crash   boot parameters  0x2fff0000-0x2fff4fff    20 KiB
  crash   purgatory        0x2fffb000-0x2fffffff    20 KiB
  reboot  initrd           0x10c000000-0x10d7fffff  24 MiB
  reboot  kernel           0x10d800000-0x10fdfffff  38 MiB
  reboot  boot parameters  0x10fff0000-0x10fff4fff  20 KiB
  reboot  purgatory        0x10fffb000-0x10fffffff  20 KiB

Memory blocks
  node 0  several zones  online  1 block   127.6 MiB
  node 0  DMA32          online  5 blocks  640 MiB
  node 0  Normal         online  2 blocks  256 MiB

System RAM in /proc/iomem
  0x1000-0x9fbff           635 KiB
  0x100000-0x2fffffff      767 MiB
  0x100000000-0x10fffffff  256 MiB"""

BIG = """\
Memory         2 TiB in 1024 blocks of 2 GiB on 4 nodes; 64 GiB hot-added,
               16 GiB offline, 48 GiB movable
Crash image    loaded; 1.2 GiB reserved; 16 GiB would be missing from a dump
Reboot image   loaded; 4 segments, 1 in movable memory

A character is 2 GiB (one block) and shows the most important thing there; a row
is 128 GiB.
              node 0: 512 GiB
0x0           C.##############################C###############################
0x2000000000  ################################################################
0x4000000000  ################################################################
0x6000000000  ################################################################
0x8000000000  #
              ... no memory for 510 GiB ...
              node 1: 512 GiB
0x10000000000 ################################################################
0x12000000000 ################################################################
0x14000000000 ################################################################
0x16000000000 ################################################################
              ... no memory for 512 GiB ...
              node 2: 512 GiB
0x20000000000 ################################################################
0x22000000000 ################################################################
0x24000000000 ################################################################
0x26000000000 ###############################################################R
              ... no memory for 512 GiB ...
              node 3: 512 GiB
0x30000000000 ################################################################
0x32000000000 ################################################################
0x34000000000 ################################################################
0x36000000000 ################################................................
0x38000000000 mmm!mmmmmmmmmmmmmmmmmmmm++++++++

  !   128 MiB  image in memory that is offline or can go away: see Images
  R    38 MiB  reboot image (kexec)
  C   1.2 GiB  reserved for the crash image
  +    16 GiB  memory that the crash image does not list: not in a dump
  m  47.9 GiB  movable zone: can be taken away
  #   1.9 TiB  ordinary memory
  .            no memory

Images
"""


def test_a_small_machine_whole() -> None:
    assert screen(small()) == SMALL


def test_a_big_machine_down_to_the_tables() -> None:
    text = screen(big())
    assert text.startswith(BIG)
    assert len(BIG.splitlines()) <= 43
    line = "! reboot  initrd           0x381f8000000-0x381ffffffff  128 MiB  movable\n"
    assert line in text
    assert part(text, "Memory blocks")[-1] == (
        "  node 3  no zone        offline  8 blocks    16 GiB   hot-added"
    )


def test_blocks_of_128_mib_show_no_less() -> None:
    text = screen(big(128 * MIB))
    assert text.startswith("Memory         2 TiB in 16384 blocks of 128 MiB on 4 nodes;")
    assert "A character is 2 GiB (16 blocks)" in text
    assert "\n0x38000000000 mmm!mmmmmmmmmmmmmmmmmmmm++++++++\n" in text


@pytest.mark.parametrize("width", [60, 80, 120, 160])
@pytest.mark.parametrize("name", MACHINES)
def test_the_picture_fills_the_width_and_no_more(name: str, width: int) -> None:
    text = screen(MACHINES[name], width)
    cells = 32 if width == 60 else 128 if width == 160 else 64
    assert max(map(len, re.findall(r"^0x\S+ +([#CKRmo+.!-]+)$", text, re.MULTILINE))) == cells
    assert max(map(len, text.splitlines())) <= width
    picture = text.split("\n\n")[1].splitlines()
    assert len(picture) <= 26 + 2


def test_remarks_stand_below_each_other() -> None:
    place = 5 * GIB + 128 * MIB
    segments = (Segment(place, 4096), Segment(place + MIB, 100 * MIB))
    machine = dataclasses.replace(small_with_dimm(), reboot_segments=segments)
    remarks = [line.find("movable") for line in part(screen(machine), "Images")[-2:]]
    assert len(set(remarks)) == 1
    assert remarks[0] > 0


def test_with_little_room_numbers_stay_with_their_units() -> None:
    text = screen(big(), 60)
    assert "\n  reboot  boot parameters  0x27fffff0000-0x27fffff4fff\n          20 KiB\n" in text
    assert "\n  reboot  kernel  0x27ffc000000-0x27ffe5fffff  38 MiB\n" in text


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"crash_loaded": False}, "Crash image    none is loaded; 256 MiB reserved"),
        (
            {"crash_loaded": None},
            "Crash image    not known whether one is loaded; 256 MiB reserved",
        ),
        (
            {"header": None},
            f"{LOADED}; what it lists could not be read",
        ),
        (
            {"drift": Drift(RangeSet.of((0x1000, 0x3000)), RangeSet.of((2 * TIB, 3 * TIB)))},
            f"{LOADED}; 8 KiB would be missing from a dump, 1 TiB listed, but gone",
        ),
        ({"reboot_loaded": False}, "Reboot image   none is loaded"),
        ({"reboot_loaded": None}, "Reboot image   not known whether one is loaded"),
        ({"reboot_segments": ()}, "Reboot image   loaded; where it lies is not known"),
        (
            {"boot_ram": None},
            "Reboot image   loaded; 4 segments, none in memory that can go away, as far as known",
        ),
        (
            {"reboot_segments": (Segment(0x2000, 0x1000),)},
            "Reboot image   loaded; 1 segment, none in memory that can go away",
        ),
        (
            {"reboot_segments": (Segment(GIB, GIB), Segment(2 * GIB, GIB))},
            "Reboot image   loaded; 2 segments, 2 in memory that is GONE",
        ),
        ({"nodes": {0: 0, 1: 1}}, "Memory         1023.6 MiB in 8 blocks of 128 MiB on 2 nodes"),
        (
            {"blocks": Blocks(0, {})},
            "Memory         1023.6 MiB",
        ),
        (
            {"memory": managed(small(), RangeSet.of((4 * GIB, 5 * GIB)))},
            "Memory         1023.6 MiB in 8 blocks of 128 MiB; 256 MiB driver-managed",
        ),
    ],
)
def test_the_answer_says_what_matters(changes: dict[str, Any], line: str) -> None:
    assert line in answer(dataclasses.replace(small(), **changes))


def test_each_segment_counts_once_by_the_worst() -> None:
    machine = small_with_dimm()
    first = 5 * GIB
    machine = dataclasses.replace(
        machine,
        reboot_segments=(
            Segment(first, MIB),
            Segment(first + 128 * MIB, MIB),
            Segment(8 * GIB, MIB),
            Segment(MIB, MIB),
        ),
    )
    assert answer(machine)[2] == (
        "Reboot image   loaded; 4 segments, 1 in memory that is GONE, 1 in offline memory,"
        " 1 in movable memory"
    )


def test_long_tables_are_cut_but_every_segment_is_listed() -> None:
    ram = RangeSet.of(*((n * GIB, n * GIB + 256 * MIB) for n in range(40)))
    machine = Survey(
        memory=dataclasses.replace(small().memory, system_ram=ram),
        blocks=Blocks(0, {}),
        reboot_loaded=True,
        reboot_segments=tuple(Segment(n * GIB, 4096) for n in range(30)),
        header=CoreHeader(GIB, ram, ()),
        drift=Drift(ram),
    )
    text = screen(machine)
    assert len(part(text, "Images")) == 32
    assert part(text, "System RAM in /proc/iomem")[16:] == [
        "  and 24 more: all of them with --json"
    ]
    assert part(text, "Missing from a dump")[16:] == ["  and 24 more: all of them with --json"]


def test_what_is_not_known_is_said() -> None:
    machine = dataclasses.replace(small(), notes=("one\nthing", "\x1b[2Jthe other"))
    assert part(screen(machine), "Not known") == ["  one thing", "  ?[2Jthe other"]
    assert "Not known" not in screen(small())


def test_every_symbol_has_a_letter_of_its_own_and_a_meaning() -> None:
    assert len({kind.symbol for kind in Kind}) == len(Kind)
    assert MEANINGS.keys() == set(Kind)
    assert all(kind.symbol.isascii() and kind.symbol.isprintable() for kind in Kind)


@given(surveys(), st.integers(60, 160))
def test_any_machine_fits_and_its_legend_is_complete(machine: Survey, width: int) -> None:
    text = screen(machine, width)
    for line in text.splitlines():
        assert len(line) <= width
        assert all(c.isprintable() for c in line)
    whole = re.sub(r"\s+", " ", text)
    for kind, size in sizes(spans(picture_of(machine))).items():
        assert f" {kind.symbol} {human(size)} {MEANINGS[kind]}" in whole
    listed = part(text, "Images") if "\nImages\n" in text else []
    for segment in (*machine.crash_segments, *machine.reboot_segments):
        assert any(str(segment.range) in line for line in listed)


@given(surveys())
def test_a_picture_shows_only_what_its_legend_has(machine: Survey) -> None:
    _, picture, legend, *_ = screen(machine).split("\n\n")
    shown = set("".join(re.findall(r"^0x\S+ +(\S+)$", picture, re.MULTILINE)))
    assert shown <= set(re.findall(r"^  (\S) ", legend, re.MULTILINE))


@pytest.mark.parametrize("name", MACHINES)
def test_colour_adds_nothing_but_colour(name: str) -> None:
    coloured = screen(MACHINES[name], colour=True)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == screen(MACHINES[name])
    assert coloured.count("\x1b[0m") == coloured.count("\x1b[") / 2 > 0


def test_what_is_bad_is_red() -> None:
    coloured = screen(small_with_dimm(), colour=True)
    assert coloured.count("\x1b[1;31mCrash image\x1b[0m") == 1
    assert coloured.count("\x1b[1;31mReboot image\x1b[0m") == 1
    assert coloured.count("\x1b[1;31m!\x1b[0m") == 1 + 4  # in the legend and in Images
    assert "\x1b[1;31m" not in screen(small(), colour=True)


def test_an_offline_block_is_seen() -> None:
    machine = small()
    blocks = {**machine.blocks.by_number, 3: Block(3, BlockState.GOING_OFFLINE)}
    machine = dataclasses.replace(machine, blocks=Blocks(128 * MIB, blocks))
    assert f"\n0x18000000  {'o' * 64}\n" in screen(machine)
    assert "  node 0  no zone        going-offline  1 block   128 MiB" in screen(machine)
