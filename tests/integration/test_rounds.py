# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's rounds: the cheap checks are asked when there is time, and never in the way."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kexecwatchd import rounds
from kexecwatchd.checks.check import Answer, Check, Finding
from kexecwatchd.checks.host import Host
from kexecwatchd.engine import IDLE_LOOK
from kexecwatchd.model import ImageName, State
from kexecwatchd.rounds import CALM, INTERVAL
from tests.fake_kernel import DIMM
from tests.integration.harness import until
from tests.integration.world import World


class Asked:
    """A check that notes when it was asked, and how many loads there had been by then."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.at: list[float] = []
        self.loads: list[int] = []
        self.answer = Finding(Answer.OK, "yes")
        world.checks = (Check("asked", "Is it so?", self.look, frozenset(Answer)),)

    def look(self, host: Host) -> Finding:
        self.at.append(self.world.now)
        self.loads.append(len(self.world.kernel.loads("crash")))
        assert host.config is not None
        if host.config.crash.mode == "observe":
            return Finding(Answer.WARNING, "mode is observe")
        return self.answer


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


@pytest.fixture
def asked(world: World) -> Asked:
    return Asked(world)


async def test_at_start_the_image_comes_first(world: World, asked: Asked) -> None:
    await world.start(world.configured(crash="ensure"))
    assert asked.at == []
    await world.run(5)
    assert asked.loads == [1]
    assert world.published[-1].checks[0].summary == "yes"


async def test_they_go_on_without_a_change(world: World, asked: Asked) -> None:
    await world.start(world.configured(crash="observe"))
    first = world.now
    await world.run(3 * INTERVAL)
    # The first look at all is a change too.
    assert asked.at == [first + n * INTERVAL for n in range(4)]


def plan_storm(world: World, seconds: int) -> float:
    """Thousands of events without a pause, and memory among them; returns when the last comes."""

    def storm() -> None:
        for number in range(50):
            world._uevent("memory", "online", f"memory{number % 8}")

    for tick in range(seconds * 20):
        world.at(tick / 20, storm)
    world.at(seconds / 2, world.kernel.add_dimm)
    return world.now + seconds - 1 / 20


async def test_a_storm_is_followed_by_one(world: World, asked: Asked) -> None:
    await world.start(world.configured(crash="ensure"))
    await world.run(60)
    asked.at.clear()
    over = plan_storm(world, 10)
    await world.run(100)
    assert world.crash().state is State.CURRENT
    assert len(asked.at) == 1
    assert asked.at[0] >= over + CALM
    assert asked.loads[-1] == len(world.kernel.loads("crash"))


async def test_not_even_what_is_wanted_soon_is_done_in_a_storm(world: World, asked: Asked) -> None:
    await world.start(world.configured())
    await world.run(60)
    asked.at.clear()
    over = plan_storm(world, 10)
    await world.run(5)
    world.desk.reconfigure(world.configured(crash="observe"))
    await world.run(95)
    assert len(asked.at) == 1
    assert over <= asked.at[0] < over + CALM


async def test_nor_while_memory_is_being_removed(world: World, asked: Asked) -> None:
    world.kernel.add_dimm()
    await world.start(world.configured())
    await world.run(60)
    asked.at.clear()
    world.kernel.remove_blocks()
    await world.run(1)
    world.desk.reconfigure(world.configured(crash="observe"))
    await world.run(1)
    assert asked.at == []
    world.kernel.leave_map()
    await world.run(1)
    assert len(asked.at) == 1


async def test_what_is_loaded_by_others_is_a_change(world: World, asked: Asked) -> None:
    await world.start(world.configured())
    await world.run(10)
    asked.at.clear()
    world.kernel.load_crash_by_kexec_tools()
    await world.run(IDLE_LOOK + CALM)
    assert len(asked.at) == 1


async def test_a_new_configuration_is_asked_about_at_once(world: World, asked: Asked) -> None:
    await world.start(world.configured())
    await world.run(10)
    world.desk.reconfigure(world.configured(crash="observe"))
    await world.run(0)
    assert world.engine.status().check_warnings == ["asked: mode is observe"]


async def test_a_problem_is_told_once_and_when_it_is_gone(world: World, asked: Asked) -> None:
    await world.start(world.configured())
    asked.answer = Finding(Answer.PROBLEM, "no", "because", "do")
    await world.run(3 * INTERVAL)
    assert [line for line in world.journal if "Is it so?" in line] == [
        "problem: Is it so? no; what to do: kexecwatchctl check asked"
    ]
    assert world.published[-1].check_problems == ["asked: no"]
    asked.answer = Finding(Answer.OK, "yes")
    await world.run(INTERVAL)
    assert [line for line in world.journal if "Is it so?" in line][1:] == [
        "no problem any more: Is it so? yes"
    ]
    assert world.published[-1].check_problems == []


async def test_a_sysctl_is_found_by_the_real_checks(world: World) -> None:
    world.checks = rounds.CHEAP
    await world.start(world.configured())
    await world.run(10)
    assert not [line for line in world.engine.status().check_problems if "permission" in line]
    world.kernel.write("proc/sys/kernel/kexec_load_disabled", "1\n")
    await world.run(IDLE_LOOK + CALM)
    assert "permission: no: kernel.kexec_load_disabled is 1" in world.published[-1].check_problems


class Hanging:
    """Three checks; the second hangs until it is let go."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.free = threading.Event()
        self.times: list[str] = []
        world.hangs = True
        world.checks = tuple(
            Check(name, "Is it so?", look, frozenset({Answer.OK}))
            for name, look in (("before", self.yes), ("hangs", self.hang), ("after", self.yes))
        )

    def yes(self, host: Host) -> Finding:
        return Finding(Answer.OK, "yes")

    def hang(self, host: Host) -> Finding:
        self.times.append("hang")
        self.free.wait(20)
        return Finding(Answer.OK, "yes")

    def told(self) -> list[str]:
        return [f"{c.answer}: {c.summary}" for c in self.world.engine.status().checks]

    async def given_up(self) -> bool:
        return len(self.told()) == 3

    async def is_well(self) -> bool:
        return self.told() == ["ok: yes"] * 3


@pytest.fixture
def hanging(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    monkeypatch.setattr(rounds, "LIMIT", 0.01)
    made = Hanging(world)
    yield made
    made.free.set()


async def test_a_check_that_hangs_is_in_nobodys_way(world: World, hanging: Hanging) -> None:
    await world.start(world.configured(crash="ensure"))
    await world.run(10)
    await until(hanging.given_up)
    assert hanging.told() == [
        "ok: yes",
        "cannot tell: no answer within 0 s: does what it reads lie on a network file system?",
        "cannot tell: not asked: the check hangs hangs",
    ]
    # The work goes on, whoever asks gets what is known, and no second thread comes to hang.
    world.kernel.add_dimm()
    await world.run(2 * INTERVAL)
    assert world.crash().state is State.CURRENT
    assert world.crash().load_count == 2
    assert world.engine.check().done()
    assert hanging.times == ["hang"]
    hanging.free.set()
    await until(hanging.is_well)


async def test_once_it_hangs_no_more_all_are_asked_again(world: World, hanging: Hanging) -> None:
    await world.start(world.configured(crash="observe"))
    await world.run(10)
    await until(hanging.given_up)
    hanging.free.set()
    await until(hanging.is_well)
    assert hanging.times == ["hang", "hang"], "what the first would tell by now is old"


async def test_a_danger_does_not_wait_for_a_round(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "LIMIT", 1000)
    begun, release = threading.Event(), threading.Event()

    def hold(host: Host) -> Finding:
        begun.set()
        release.wait(1000)
        return Finding(Answer.OK, "yes")

    world.checks = (Check("holds", "Is it so?", hold, frozenset({Answer.OK})),)
    world.hangs = True
    world.kernel.add_dimm()
    try:
        async with asyncio.timeout(20):
            await world.start(world.configured(crash="off", reboot="follow"))
            await world.desk.reload(ImageName.REBOOT, "uid 0")
            await world.run(10)
            assert await asyncio.to_thread(begun.wait, 20)
            world.kernel.set_state(DIMM + 3, "offline")
            await world.run(0)
            assert world.kernel.unloads("reboot")
    finally:
        release.set()


async def test_those_who_ask_share_a_round_that_begins_after_they_asked(
    world: World, asked: Asked
) -> None:
    await world.start(world.configured())
    one, two = world.engine.check(), world.engine.check()
    assert one is two
    await one
    assert len(asked.at) == 1
    three = world.engine.check()
    assert not three.done()
    await three
    assert len(asked.at) == 2


def test_the_daemon_ends_although_a_check_hangs() -> None:
    program = """
import asyncio, threading, time
from kexecwatchd.checks.check import Check
from kexecwatchd.checks.host import Host
from kexecwatchd.rounds import Rounds

begun = threading.Event()

def hang(host):
    begun.set()
    time.sleep(1000)

async def main():
    Rounds([Check("hangs", "Is it so?", hang, frozenset())], Host, lambda: None).ask()
    await asyncio.to_thread(begun.wait)

asyncio.run(main())
"""
    # The limit only ends a broken test.
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
