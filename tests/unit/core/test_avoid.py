# SPDX-License-Identifier: GPL-2.0-or-later
"""By which way a reboot image is loaded; test_reconcile.py has what comes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kexecwatchd import avoid
from kexecwatchd.ledger import ImageRecord, Landing, NoDetour, Prediction
from kexecwatchd.model import (
    Detour,
    Load,
    MemoryMap,
    Observation,
    PlacedBy,
    Placement,
    Segment,
    WhenUnsafe,
)
from kexecwatchd.ranges import RangeSet
from tests.unit.core.cases import GIB, PAIR, REGION, gib, ours, placed, seen

REFUSE, GUARD = WhenUnsafe.REFUSE, WhenUnsafe.GUARD
LOAD = Load("it is wanted", endangers=True)
NONE = ImageRecord()
ALL = gib(*range(8))
LANDED = ImageRecord(landing=Landing(pair=PAIR, ram=ALL, segments=placed(7).segments))
THERE = placed(7, source=PlacedBy.PREDICTION)
ELSEWHERE = placed(5, source=PlacedBy.PREDICTION)
OTHER_PAIR = PAIR.model_copy(update={"initrd": ""})
TRIED = NoDetour(ram=ALL, below=7 * GIB, error="no room")
MISALIGNED = Placement((Segment(7 * GIB, GIB, "kernel", alignment=16 * GIB),), PlacedBy.PREDICTION)


def route(
    look: Observation, record: ImageRecord = NONE, load: Load = LOAD, answer: WhenUnsafe = REFUSE
) -> Load | str:
    return avoid.route(load, PAIR, look, record, answer)


def movable(**changes: Any) -> Observation:
    return seen(movable=gib(7), **changes)


@pytest.mark.parametrize(
    ("look", "record"),
    [
        (seen(forecast=THERE), NONE),
        (movable(forecast=ELSEWHERE), NONE),
        (movable(), NONE),  # nothing tells: the load itself shows
        (movable(forecast=THERE), NONE.model_copy(update={"prediction": Prediction.DISAGREES})),
        # what is predicted counts more than where it went before: the files may be others
        (movable(forecast=ELSEWHERE), LANDED),
        (movable(present=range(9)), LANDED),
    ],
)
def test_what_is_safe_or_not_known_is_loaded_as_it_was_wanted(
    look: Observation, record: ImageRecord
) -> None:
    assert route(look, record) == LOAD


@pytest.mark.parametrize(
    ("look", "record"),
    [
        (movable(forecast=THERE), NONE),
        (movable(forecast=THERE), NONE.model_copy(update={"prediction": Prediction.AGREES})),
        (movable(), LANDED),
        # a landing of other memory says nothing
        (movable(forecast=THERE, present=range(9)), LANDED),
    ],
)
def test_kexec_tools_load_it_below(look: Observation, record: ImageRecord) -> None:
    way = route(look, record)
    assert isinstance(way, Load)
    assert way.detour == Detour(7 * GIB)
    assert (way.endangers, way.cma) == (True, False)
    assert way.why == (
        "it is wanted; by kexec-tools, since the kernel would put 1 GiB of it into movable"
        " memory, which can go offline at any time"
    )


def test_a_landing_of_other_files_says_nothing() -> None:
    assert avoid.route(LOAD, OTHER_PAIR, movable(), LANDED, REFUSE) == LOAD
    assert not avoid.known_safe(OTHER_PAIR, seen(), LANDED)


@pytest.mark.parametrize("load", [Load("x", detour=Detour(3 * GIB)), Load("x", cma=True)])
def test_a_load_whose_way_is_chosen_keeps_it(load: Load) -> None:
    assert route(movable(forecast=THERE, cma=True), load=load) == load
    assert route(movable(forecast=THERE, tools_obstacle="none"), load=load) == load


def test_cma_comes_before_kexec_tools() -> None:
    look = movable(forecast=THERE, cma=True)
    assert route(look) == Load("it is wanted", endangers=True, cma=True)
    full = ImageRecord(no_cma=ALL)
    way = route(look, full)
    assert isinstance(way, Load)
    assert (way.cma, way.detour) == (False, Detour(7 * GIB))
    grown = movable(forecast=THERE, cma=True, present=range(9))
    assert route(grown, full) == Load("it is wanted", endangers=True, cma=True)


@pytest.mark.parametrize("answer", WhenUnsafe)
def test_no_load_mends_what_the_next_kernel_is_told_of_boot_memory(answer: WhenUnsafe) -> None:
    look = seen(present=range(7), boot_ram=ALL)
    for load in (LOAD, Load("x", detour=Detour(3 * GIB)), Load("x", cma=True)):
        way = route(look, load=load, answer=answer)
        assert isinstance(way, str)
        assert way.startswith("refused: 1 GiB of boot memory is gone")
    assert route(seen(present=range(7), boot_ram=ALL, boot_ram_sure=False)) == LOAD


@pytest.mark.parametrize(
    ("look", "guarded"),
    [
        (movable(forecast=THERE), True),
        (seen(boot_ram=gib(*range(7)), forecast=THERE), True),
        (seen(map=MemoryMap(ALL, REGION, driver_managed=gib(7)), forecast=THERE), True),
        (seen(offline=[7], forecast=THERE), False),
        (seen(offline=[7], movable=gib(6), forecast=placed(6, 7)), False),
        (seen(forecast=placed(8)), False),
        (seen(forecast=MISALIGNED), False),
    ],
)
def test_what_no_loader_can_put_elsewhere(look: Observation, guarded: bool) -> None:
    """Guarded it may lie in memory that can go; in memory that is away already it never may."""
    look = replace(look, tools_obstacle="it is not installed")
    refusal = route(look)
    assert isinstance(refusal, str)
    assert refusal.startswith("refused: the kernel would put 1 GiB of it into ")
    assert refusal.endswith("; kexec-tools cannot put it elsewhere: it is not installed")
    assert route(look, answer=GUARD) == (LOAD if guarded else refusal)


# The detour


@pytest.mark.parametrize(
    ("look", "below", "hidden"),
    [
        (movable(), 7, ()),
        (seen(movable=gib(3, 7)), 3, ()),
        (seen(offline=[2], movable=gib(5)), 2, ()),
        (seen(boot_ram=gib(*range(6)), movable=gib(4)), 4, (6, 7)),
        (
            seen(map=MemoryMap(ALL, REGION, driver_managed=gib(6)), boot_ram=gib(*range(5))),
            5,
            (5, 7),
        ),
    ],
)
def test_a_detour_goes_below_the_lowest_that_can_go_and_hides_what_came(
    look: Observation, below: int, hidden: tuple[int, ...]
) -> None:
    assert avoid.detour(look, NONE) == Detour(below * GIB, gib(*hidden))


@pytest.mark.parametrize(
    ("look", "record", "words"),
    [
        (movable(tools_obstacle="it is not installed"), NONE, "it is not installed"),
        (seen(movable=gib(0, 7)), NONE, "no memory that stays below"),
        # nothing can go away, and yet it would lie where it must not
        (seen(), NONE, "no memory that stays below"),
        (movable(), ImageRecord(no_detour=TRIED), "could not put it elsewhere: no room"),
    ],
)
def test_there_is_no_detour(look: Observation, record: ImageRecord, words: str) -> None:
    way = avoid.detour(look, record)
    assert isinstance(way, str)
    assert words in way


@pytest.mark.parametrize(("start", "helps"), [(0xFF000, False), (0x140000, True)])
def test_kexec_tools_use_next_to_nothing_of_the_first_mib(start: int, helps: bool) -> None:
    way = avoid.detour(seen(movable=RangeSet.of((start, GIB))), NONE)
    assert (way == Detour(start)) is helps


@pytest.mark.parametrize(
    ("look", "below"),
    [(seen(movable=gib(6, 7)), 6), (seen(movable=gib(7), present=range(9)), 7)],
)
def test_a_detour_that_failed_says_nothing_of_other_memory(look: Observation, below: int) -> None:
    assert avoid.detour(look, ImageRecord(no_detour=TRIED)) == Detour(below * GIB)


# What is known beforehand


@pytest.mark.parametrize(
    ("look", "record", "safe"),
    [
        (seen(forecast=THERE), NONE, True),
        (movable(forecast=ELSEWHERE), NONE, True),
        (seen(), LANDED, True),
        (movable(forecast=THERE), NONE, False),
        (movable(), LANDED, False),
        (seen(), NONE, False),
        (seen(forecast=THERE), NONE.model_copy(update={"prediction": Prediction.DISAGREES}), False),
    ],
)
def test_known_safe(look: Observation, record: ImageRecord, safe: bool) -> None:
    assert avoid.known_safe(PAIR, look, record) is safe


@pytest.mark.parametrize(
    ("look", "record", "may"),
    [
        (seen(cma=True), NONE, True),
        (seen(), NONE, False),
        (seen(cma=True), ImageRecord(no_cma=ALL), False),
        (seen(cma=True), ImageRecord(no_cma=gib(0)), True),
        (seen(cma=True, present=range(9)), ours(no_cma=ALL), True),
    ],
)
def test_cma_may_help(look: Observation, record: ImageRecord, may: bool) -> None:
    assert avoid.cma_may_help(look, record) is may
