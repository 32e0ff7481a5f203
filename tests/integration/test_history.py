# SPDX-License-Identifier: GPL-2.0-or-later
"""What was decided: each thing once, in history, journal and on the bus alike."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kexecwatchd import messages
from kexecwatchd.config import ConfigError
from kexecwatchd.deeds import AFTER_FAILURE, CUT_SHORT, IN_TURN
from kexecwatchd.model import Action, ImageName, State
from kexecwatchd.report import Decision
from kexecwatchd.requests import LoadFailed
from tests.fake_kernel import BLOCK, DIMM, cpio
from tests.integration.test_engine import MOMENTS, armed, in_the_dimm, kill_in_the_middle
from tests.integration.world import LOAD_SECONDS, World

Making = Callable[..., World]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Making:
    def make(**options: Any) -> World:
        return World(tmp_path, monkeypatch, **options)

    return make


def since_ready(w: World) -> list[Decision]:
    """The decisions after `ready`; history, journal and bus have the same."""
    told = w.decided
    assert w.engine.book.history().decisions[-len(told) :] == told or not told
    assert [f["DECISION"] for f in w.entries if "DECISION" in f] == [d.number for d in told]
    return list(told)


async def ready(w: World, **modes: Any) -> World:
    await armed(w, **modes)
    w.entries.clear()
    w.decided.clear()
    return w


# A load is one


async def test_a_load_is_one_decision_from_what_was_seen_to_what_came_of_it(world: Making) -> None:
    w = await ready(world())
    w.kernel.add_dimm()
    await w.run(600)
    [told] = since_ready(w)
    assert (told.image, told.action, told.succeeded) == (ImageName.CRASH, Action.LOAD, True)
    assert (told.state, told.result) == (State.STALE, State.CURRENT)
    assert told.drift.missing_bytes == 4 * BLOCK
    assert told.reason == told.why == "512 MiB of memory would be missing from a dump"
    assert (told.seconds, told.unarmed_seconds) == (LOAD_SECONDS, LOAD_SECONDS)
    assert (told.source, told.by, told.error, told.errno) == ("configured", "", "", 0)
    [fields] = w.entries
    assert fields["MESSAGE_ID"] == messages.LOADED.id
    assert fields["LOAD_COUNT"] == w.crash().load_count


async def test_thousands_of_events_are_one_entry(world: Making) -> None:
    w = await ready(world(), quiet=0.5)

    def burst() -> None:
        for number in range(384):
            w._uevent("memory", "change", f"memory{number % 8}")

    for tick in range(10):
        w.at(tick / 10, burst)
    w.at(0.35, w.kernel.add_dimm)
    await w.run(600)
    assert len(w.kernel.calls) == 1
    assert [d.action for d in since_ready(w)] == [Action.LOAD]
    assert len(w.entries) == 1


async def test_events_that_change_nothing_are_no_entry(world: Making) -> None:
    w = await ready(world())
    for tick in range(100):
        w.at(tick / 10, w._uevent, "memory", "change", "memory3")
    await w.run(600)
    assert since_ready(w) == []
    assert w.entries == []


async def test_a_storm_has_an_entry_for_each_load_and_one_for_the_last_wait(world: Making) -> None:
    """While events come nobody is told that a load waits; after them it is news."""
    w = await ready(world(), quiet=0.5)
    for number in range(500):
        w.at(0.4 * number, w.kernel.add_dimm, DIMM + number, 1)
    await w.run(900)
    told = since_ready(w)
    loads = len(w.kernel.loads("crash"))
    assert loads > 3
    assert [d.action for d in told] == [Action.LOAD] * (loads - 1) + [Action.VERDICT, Action.LOAD]
    assert told[-2].why == IN_TURN


async def test_a_load_that_waits_for_its_turn_is_told(world: Making) -> None:
    w = await ready(world())
    w.kernel.add_dimm()
    await w.run(5)
    w.kernel.add_dimm(DIMM + 8)
    await w.run(10)
    first, waits = since_ready(w)
    assert (first.action, waits.action) == (Action.LOAD, Action.VERDICT)
    assert (waits.state, waits.why, waits.result) == (State.STALE, IN_TURN, None)
    await w.run(600)
    assert [d.action for d in since_ready(w)] == [Action.LOAD, Action.VERDICT, Action.LOAD]


async def test_what_a_load_did_not_cure_is_told_by_it(world: Making) -> None:
    w = await ready(world())
    w.kernel.header = lambda whole=w.kernel.header: _partial(w, whole)  # type: ignore[method-assign,misc]
    w.kernel.add_dimm()
    await w.run(3600)
    [told] = since_ready(w)
    assert told.result is State.STALE
    assert "nothing is done: our last load did not cure this" in told.result_reason


async def test_what_passes_after_a_load_is_news(world: Making) -> None:
    """The load ended with a stale image; that it is right after all is told by nothing else."""
    w = await ready(world())
    w.kernel.add_dimm()

    def another_that_the_load_does_not_see() -> None:
        before = w.kernel.ram
        w.kernel.add_dimm(DIMM + 8)
        w.kernel.ram = before

    w.during_load.append(another_that_the_load_does_not_see)
    await w.run(0.2)
    assert [d.result for d in since_ready(w)] == [State.STALE]
    w.kernel.show_map()
    w.kernel.remove_blocks(DIMM + 8)
    await w.run(600)
    _, told = since_ready(w)
    assert (told.action, told.state) == (Action.VERDICT, State.CURRENT)
    assert len(w.kernel.calls) == 1


def _partial(w: World, whole: Callable[[], bytes]) -> bytes:
    ram = w.kernel.ram
    w.kernel.ram = ram - type(ram).of((DIMM * BLOCK, (DIMM + 4) * BLOCK))
    try:
        return whole()
    finally:
        w.kernel.ram = ram


async def test_an_unload_and_the_load_that_follows_are_two(world: Making) -> None:
    w = await in_the_dimm(world())
    w.entries.clear()
    w.decided.clear()
    w.kernel.remove_dimm()
    await w.run(600)
    unload, load = since_ready(w)
    assert (unload.action, unload.state, unload.result) == (
        Action.UNLOAD,
        State.UNSAFE,
        State.ABSENT,
    )
    assert (load.action, load.state, load.result) == (Action.LOAD, State.ABSENT, State.CURRENT)
    assert load.why.startswith("it was unloaded because")


async def test_time_unarmed_is_added_up_and_outlives_the_daemon(world: Making) -> None:
    w = await ready(world())
    before = w.engine.status().unarmed_seconds
    assert before == LOAD_SECONDS
    w.kernel.add_dimm()
    await w.run(600)
    assert w.engine.status().unarmed_seconds == before + LOAD_SECONDS
    await w.start(w.configured(crash="ensure"))
    assert w.engine.status().unarmed_seconds == before + LOAD_SECONDS


# Failures


async def test_a_failure_is_told_once_with_its_error_number(world: Making) -> None:
    w = await ready(world())
    w.kernel.errors = [errno.ENOMEM] * 1000
    w.kernel.add_dimm()
    await w.run(3600)
    [told] = since_ready(w)
    assert (told.action, told.succeeded, told.errno) == (Action.LOAD, False, errno.ENOMEM)
    assert "out of memory" in told.error
    assert told.result is State.FAILED
    assert AFTER_FAILURE in told.result_reason
    assert w.entries[0]["ERRNO"] == errno.ENOMEM
    w.kernel.errors = []
    await w.run(600)
    assert [d.succeeded for d in since_ready(w)] == [False, True]


async def test_a_failure_is_told_once_while_events_come(world: Making) -> None:
    w = await ready(world())
    w.kernel.errors = [errno.ENOMEM] * 1000
    w.kernel.add_dimm()
    for _ in range(20):
        await w.run(17)
        w._uevent("memory", "change", "memory3")
    assert len(w.kernel.calls) > 4
    [told] = since_ready(w)
    assert (told.action, told.succeeded) == (Action.LOAD, False)


async def test_a_failure_is_told_again_when_all_was_well_in_between(world: Making) -> None:
    w = await ready(world())
    w.kernel.busy = 1_000_000  # so that the image that is loaded stays
    for _ in range(2):
        w.kernel.add_dimm()
        await w.run(600)
        w.kernel.remove_dimm()
        await w.run(600)
        assert w.crash().state is State.CURRENT
    failed = [d for d in since_ready(w) if d.action is Action.LOAD]
    assert [(d.succeeded, d.errno) for d in failed] == [(False, errno.EBUSY)] * 2


async def test_a_failure_that_somebody_asked_for_is_told_each_time(world: Making) -> None:
    w = await ready(world())
    w.kernel.write("boot/vmlinuz", "")
    w.kernel.write("boot/initrd.img", "")
    for name in w.kernel.path("var/lib/kexecwatchd/last-good").iterdir():
        name.unlink()
    for _ in range(2):
        with pytest.raises(LoadFailed):
            await w.desk.reload(ImageName.CRASH, "uid 1000")
    told = since_ready(w)
    assert [(d.by, d.succeeded) for d in told] == [("uid 1000", False)] * 2


async def test_files_that_were_not_the_configured_ones_are_told(world: Making) -> None:
    w = await ready(world())
    w.kernel.path("boot/vmlinuz").unlink()
    w.kernel.add_dimm()
    await w.run(600)
    [told] = since_ready(w)
    assert (told.succeeded, told.source) == (True, "last-good")
    assert "vmlinuz" in told.error


@pytest.mark.parametrize(
    ("when", "after"), list(zip(MOMENTS, (State.STALE, State.ABSENT, State.CURRENT), strict=True))
)
async def test_a_load_that_a_kill_cut_short_is_told_once(
    world: Making, when: str, after: State
) -> None:
    w = await ready(world())
    w.kernel.add_dimm()
    await kill_in_the_middle(w, when)
    assert since_ready(w) == []
    for _ in range(3):
        await w.start(w.configured(crash="ensure"))
        await w.run(600)
    short, *rest = since_ready(w)
    assert (short.action, short.error, short.result) == (Action.LOAD, CUT_SHORT, after)
    assert short.succeeded == (after is State.CURRENT)
    assert short.why == "512 MiB of memory would be missing from a dump"
    assert [d.action for d in rest] == ([] if short.succeeded else [Action.LOAD])


# What is not told again


async def test_a_restart_adds_nothing(world: Making) -> None:
    w = await ready(world(), reboot="ensure")
    history = w.engine.book.history()
    for _ in range(3):
        await w.start(w.configured(crash="ensure", reboot="ensure"))
        await w.run(600)
    assert w.engine.book.history() == history
    assert w.entries == []


async def test_what_changed_while_no_daemon_ran_is_told(world: Making) -> None:
    w = await ready(world(), crash="observe")
    w.kernel.load_crash_by_kexec_tools()
    await w.start(w.configured(crash="observe"))
    [told] = since_ready(w)
    assert (told.action, told.state) == (Action.VERDICT, State.CURRENT)


async def test_the_history_ends_with_the_boot(world: Making) -> None:
    w = await ready(world())
    path = w.kernel.path("run/kexecwatchd/ledger.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"boot_id": "the-one-before"}))
    await w.start(w.configured(crash="ensure"))
    assert [d.number for d in w.engine.book.history().decisions] == [1, 2]


# Configurations


async def test_a_configuration_that_is_taken_is_a_decision(world: Making) -> None:
    w = await ready(world())
    configured_at = w.engine.status().configured_at
    w.desk.reconfigure(w.configured(crash="follow"))
    await w.run(60)
    [told] = since_ready(w)
    assert (told.action, told.image, told.succeeded) == (Action.CONFIGURE, None, True)
    assert told.why == "the configuration was read again and is in force: crash follow, reboot off"
    assert w.engine.status().configured_at > configured_at


async def test_one_that_is_wrong_is_a_decision_without_addresses(world: Making) -> None:
    w = await ready(world())
    configured_at = w.engine.status().configured_at
    w.desk.refuse(ConfigError(['x.toml: [crash] cmdline: "memmap=1G$0x140000000" is wrong']))
    await w.run(60)
    [told] = since_ready(w)
    assert (told.action, told.succeeded) == (Action.CONFIGURE, False)
    assert told.error == 'x.toml: [crash] cmdline: "memmap=1G$[address]" is wrong'
    assert w.engine.status().config_error == told.error
    assert w.entries[0]["MESSAGE_ID"] == messages.CONFIGURATION_REFUSED.id
    assert w.engine.status().configured_at == configured_at


async def test_no_address_is_in_history_or_journal(world: Making) -> None:
    w = await in_the_dimm(world(tools=True), crash="ensure")
    w.kernel.errors = [0, errno.ENOEXEC]
    w.kernel.path("boot/initrd.img").write_bytes(cpio(b"another"))
    w.kernel.remove_dimm()
    await w.run(600)
    assert len(w.decided) > 5
    assert "0x" not in w.engine.book.history().model_dump_json()
    assert not [f for f in w.entries if any("0x" in str(value) for value in f.values())]
