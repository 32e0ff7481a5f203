# SPDX-License-Identifier: GPL-2.0-or-later
"""When a round of the checks is due."""

from __future__ import annotations

import asyncio
import itertools

from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.checks.host import Host
from kexecwatchd.checks.registry import CHECKS
from kexecwatchd.rounds import CALM, CHEAP, INTERVAL, Rounds, Timetable
from tests.unit.core.cases import seen

ONE, OTHER = seen(), seen(reboot=False)


def test_what_reads_much_or_is_the_daemons_own_is_not_asked() -> None:
    assert {check.name for check in CHECKS} - {check.name for check in CHEAP} == {
        "boot-memory",
        "capture-memory",
        "first-megabyte",
        "hotplug",
        "images",
        "initrd",
        "next-boot",
        "removable-memory",
    }


def test_the_first_is_due_at_once() -> None:
    table = Timetable()
    assert table.due() == 0
    table.looked(ONE, 10)
    assert table.due() == 0


def test_without_change_they_are_regular() -> None:
    table = Timetable()
    table.looked(ONE, 10)
    table.begins(10)
    for moment in (70, 130, 190):
        table.looked(ONE, moment)
        table.event(moment)
        assert table.due() == 10 + INTERVAL


def test_a_change_is_followed_by_one_when_it_is_over() -> None:
    table = Timetable()
    table.looked(ONE, 10)
    table.begins(10)
    for moment in (20, 21, 22):
        table.looked(OTHER if moment % 2 else ONE, moment)
    table.looked(ONE, 23)  # nothing new
    assert table.due() == 22 + CALM
    table.event(24)
    assert table.due() == 24 + CALM
    table.begins(30)
    assert table.due() == 30 + INTERVAL


def test_changes_without_end_do_not_put_it_off_for_ever() -> None:
    table = Timetable()
    table.begins(10)
    for tick in range(400):
        table.looked((ONE, OTHER)[tick % 2], 10 + tick)
    assert table.due() == 10 + INTERVAL


def test_a_change_during_a_round_calls_for_the_next() -> None:
    table = Timetable()
    table.begins(10)
    table.looked(ONE, 11)
    assert table.due() == 11 + CALM


def test_soon_waits_for_nothing() -> None:
    table = Timetable()
    table.begins(10)
    table.soon()
    assert table.due() == 0


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans())))
def test_never_more_often_than_each_calm_and_never_rarer_than_the_interval(
    looks: list[tuple[float, bool]],
) -> None:
    table, now, began = Timetable(began=0.0, seen=ONE), 0.0, [0.0]
    for pause, changed in looks:
        now += pause
        if changed:
            table.looked(OTHER if table.seen is ONE else ONE, now)
        assert table.due() <= began[-1] + INTERVAL
        if now >= table.due():
            table.begins(now)
            began.append(now)
    assert all(later - earlier >= CALM for earlier, later in itertools.pairwise(began))


async def test_a_round_that_does_not_come_about_keeps_nobody_waiting() -> None:
    def host() -> Host:
        raise RuntimeError("can't start new thread")

    rounds = Rounds([], host, lambda: None)
    async with asyncio.timeout(30):
        await rounds.ask()
    assert rounds.results == ()
