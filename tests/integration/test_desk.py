# SPDX-License-Identifier: GPL-2.0-or-later
"""What people ask of the engine: discards, modes and holds, on the fake kernel."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kexecwatchd.config import Config
from kexecwatchd.model import Action, ImageName, Mode, State
from kexecwatchd.report import ImageStatus
from kexecwatchd.requests import Held, LoadFailed, NoSuchHold, Refused
from tests.fake_kernel import DIMM
from tests.integration.test_engine import armed, in_the_dimm
from tests.integration.world import BOOTED, LOAD_SECONDS, WALL, World

Making = Callable[..., World]
CRASH, REBOOT = ImageName.CRASH, ImageName.REBOOT
BY = "uid 1000"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Making:
    def make(**options: Any) -> World:
        return World(tmp_path, monkeypatch, **options)

    return make


def without_kernel(config: Config) -> Config:
    """The same configuration, which names no kernel for the crash image, and follows it."""
    nothing = {"mode": Mode.FOLLOW, "kernel": None, "initrd": None, "cmdline": None}
    return config.model_copy(update={"crash": config.crash.model_copy(update=nothing)})


# Discard


async def following(w: World) -> World:
    """Somebody loads a crash image, and the daemon keeps it right."""
    await armed(w, crash="follow")
    await w.desk.reload(CRASH, BY)
    w.kernel.calls.clear()
    return w


async def test_a_discarded_image_stays_away(world: Making) -> None:
    w = await following(world())
    status = await w.desk.discard(CRASH, BY)
    assert (status.state, status.loaded) == (State.ABSENT, False)
    assert status.covered
    assert status.last_action == "discarded it: it was asked for"
    told = w.decided[-1]
    assert (told.action, told.by, told.state, told.result) == (
        Action.DISCARD,
        BY,
        State.CURRENT,
        State.ABSENT,
    )
    w.kernel.add_dimm()
    await w.run(7200)
    assert len(w.kernel.unloads("crash")) == 1
    assert not w.kernel.loads("crash")


async def test_what_is_owed_is_discarded_too(world: Making) -> None:
    """One that was to be loaded again for its memory is not."""
    w = await following(world())
    w.engine.book.ledger = w.engine.book.ledger.with_image(CRASH, owed="it was unloaded")
    await w.desk.discard(CRASH, BY)
    await w.run(600)
    assert not w.kernel.loads("crash")


async def test_one_whose_load_failed_is_discarded_before_it_is_tried_again(world: Making) -> None:
    w = await following(world())
    await w.run(600)
    w.kernel.errors = [errno.ENOMEM] * 2  # the configured files, and the last good ones
    w.kernel.add_dimm()
    await w.run(3)
    assert (w.crash().state, w.crash().loaded) == (State.FAILED, False)
    status = await w.desk.discard(CRASH, BY)
    assert (status.state, status.next_step) == (State.ABSENT, "")
    w.kernel.calls.clear()
    await w.run(7200)
    assert not w.kernel.loads("crash")


@pytest.mark.parametrize(
    ("mode", "words"),
    [("ensure", "kexecwatchctl mode crash follow"), ("observe", "observe"), ("off", "off")],
)
async def test_a_discard_that_the_mode_forbids(world: Making, mode: str, words: str) -> None:
    w = await following(world())
    await w.start(w.configured(crash=mode))
    with pytest.raises(Refused, match=words):
        await w.desk.discard(CRASH, BY)
    assert not w.kernel.calls


async def test_there_is_nothing_to_discard(world: Making) -> None:
    w = await following(world())
    w.kernel.set_loaded("crash", False)
    decided = len(w.decided)
    with pytest.raises(Refused, match="none is loaded"):
        await w.desk.discard(CRASH, BY)
    assert not w.kernel.calls
    assert not [d for d in w.decided[decided:] if d.action is Action.DISCARD]


async def test_a_discard_that_fails_leaves_the_image_alone(world: Making) -> None:
    w = await following(world())
    w.kernel.busy = 1000
    with pytest.raises(LoadFailed, match="EBUSY"):
        await w.desk.discard(CRASH, BY)
    w.kernel.busy = 0
    told = w.decided[-1]
    assert (told.action, told.succeeded, told.errno) == (Action.DISCARD, False, errno.EBUSY)
    w.kernel.calls.clear()
    await w.run(600)
    assert (w.crash().state, w.crash().loaded) == (State.CURRENT, True)
    assert not w.kernel.calls


# Progress


async def test_what_is_being_done_is_published(world: Making) -> None:
    w = await following(world())
    during: list[ImageStatus] = []
    w.during_load.append(lambda: during.append(w.published[-1].images[0]))
    began = WALL + w.now - BOOTED
    await w.desk.reload(CRASH, BY)
    assert [(i.in_progress, i.in_progress_since) for i in during] == [("load", began)]
    assert (w.crash().in_progress, w.crash().in_progress_since) == ("", 0)
    await w.desk.discard(CRASH, BY)
    assert [s.images[0].in_progress for s in w.published][-3:] == ["", "discard", ""]
    assert not [s for s in w.published if s.images[1].in_progress], "it is the other image's"


# Modes


async def test_another_mode_holds_until_it_is_taken_back(world: Making) -> None:
    w = await armed(world())
    status = await w.desk.set_mode(CRASH, Mode.OBSERVE, BY)
    assert (status.mode, status.configured_mode) == (Mode.OBSERVE, Mode.ENSURE)
    told = w.decided[-1]
    assert (told.action, told.by, told.image) == (Action.SET_MODE, BY, CRASH)
    assert told.why == "mode observe until the next boot, instead of ensure"
    w.kernel.add_dimm()
    await w.run(600)
    await w.start(w.configured(crash="ensure"))
    w.desk.reconfigure(w.configured(crash="ensure"))
    await w.run(600)
    assert not w.kernel.calls
    assert (w.crash().state, w.crash().next_step) == (State.STALE, "nothing: mode is observe")
    status = await w.desk.set_mode(CRASH, None, BY)
    assert (status.mode, status.configured_mode) == (Mode.ENSURE, Mode.ENSURE)
    await w.run(600)
    assert len(w.kernel.calls) == 1
    assert w.crash().state is State.CURRENT


async def test_the_configured_mode_itself_takes_it_back(world: Making) -> None:
    w = await armed(world())
    await w.desk.set_mode(CRASH, Mode.OFF, BY)
    await w.desk.set_mode(CRASH, Mode.ENSURE, BY)
    assert w.decided[-1].why == "mode ensure again, as configured"
    w.desk.reconfigure(w.configured(crash="follow"))
    assert w.crash().mode is Mode.FOLLOW, "nothing is left of it"


async def test_a_mode_that_is_in_force_is_no_decision(world: Making) -> None:
    w = await armed(world())
    decided = len(w.decided)
    for mode in (None, Mode.ENSURE):
        await w.desk.set_mode(CRASH, mode, BY)
    assert len(w.decided) == decided


async def test_a_mode_is_one_decision(world: Making) -> None:
    """What the new mode makes of the image is told by it."""
    w = await armed(world())
    w.kernel.add_dimm()
    decided = len(w.decided)
    await w.desk.set_mode(CRASH, Mode.OBSERVE, BY)
    [told] = w.decided[decided:]
    assert told.result is State.STALE
    assert told.result_reason.endswith("nothing is done: mode is observe")


async def test_ensure_needs_a_kernel(world: Making) -> None:
    w = world()
    await w.start(without_kernel(w.configured(crash="follow")))
    with pytest.raises(Refused, match=r"no kernel is configured.*\[crash\] of kexecwatchd.toml"):
        await w.desk.set_mode(CRASH, Mode.ENSURE, BY)


@pytest.mark.parametrize("how", ["reload", "restart"])
async def test_ensure_ends_with_the_configured_kernel(world: Making, how: str) -> None:
    w = await armed(world(), crash="follow")
    await w.desk.set_mode(CRASH, Mode.ENSURE, BY)
    await w.run(600)
    assert w.crash().state is State.CURRENT
    bare = without_kernel(w.configured(crash="follow"))
    decided = len(w.decided)
    if how == "reload":
        w.desk.reconfigure(bare)
        await w.run(60)
    else:
        await w.start(bare)
    assert (w.crash().mode, w.crash().configured_mode) == (Mode.FOLLOW, Mode.FOLLOW)
    [told] = [d for d in w.decided[decided:] if d.action is Action.SET_MODE]
    assert (told.image, told.by) == (CRASH, "")
    assert "names no kernel any more" in told.why


# Holds


async def held(w: World, holder: str = ":1.5", who: str = "apt") -> int:
    return await w.desk.hold(holder, who, "a new kernel is installed", BY)


async def test_nothing_is_loaded_while_somebody_holds(world: Making) -> None:
    w = await armed(world())
    number = await held(w)
    w.kernel.add_dimm()
    await w.run(3600)
    assert not w.kernel.calls
    assert w.crash().state is State.STALE
    assert w.crash().next_step == (
        "nothing: held by apt (a new kernel is installed): nothing is loaded until that ends"
    )
    [hold] = w.engine.status().holds
    assert (hold.number, hold.who, hold.why) == (number, "apt", "a new kernel is installed")
    await w.desk.release(":1.5", number, BY)
    assert w.published[-1].holds == []
    await w.run(0)
    assert w.crash().state is State.CURRENT, "it did not look at once"
    actions = [d.action for d in w.decided[-4:]]
    assert actions == [Action.HOLD, Action.VERDICT, Action.RELEASE, Action.LOAD]
    assert (
        w.decided[-2].why == "apt (a new kernel is installed) has released its hold, after 3600 s"
    )


async def test_the_end_of_a_hold_is_followed_by_a_look(world: Making) -> None:
    """Whoever held may have done something of which no event tells."""
    w = await armed(world())
    number = await held(w)
    w.kernel.set_loaded("crash", False)
    await w.desk.release(":1.5", number, BY)
    await w.run(0)
    assert len(w.kernel.loads("crash")) == 1


async def test_a_reload_is_not_done_while_somebody_holds(world: Making) -> None:
    w = await armed(world())
    await held(w)
    with pytest.raises(Held, match=r"held by apt \(a new kernel is installed\)"):
        await w.desk.reload(CRASH, BY)
    assert not w.kernel.calls


async def test_a_discard_is_done_all_the_same(world: Making) -> None:
    w = await following(world())
    await held(w)
    assert not (await w.desk.discard(CRASH, BY)).loaded


async def test_a_danger_is_ended_all_the_same(world: Making) -> None:
    w = await in_the_dimm(world())
    number = await held(w)
    w.kernel.remove_dimm()
    await w.run(600)
    assert not w.kernel.loaded("reboot")
    assert "held by apt" in w.reboot().next_step
    await w.desk.release(":1.5", number, BY)
    await w.run(600)
    assert w.reboot().state is State.CURRENT


async def test_a_hold_outlives_the_daemon(world: Making) -> None:
    w = await armed(world())
    number = await held(w)
    await w.start(w.configured(crash="ensure"))
    w.kernel.add_dimm()
    await w.run(600)
    assert not w.kernel.calls
    await w.desk.release(":1.5", number, BY)
    await w.run(600)
    assert w.crash().state is State.CURRENT


async def test_a_hold_ends_with_its_connection_and_no_other_does(world: Making) -> None:
    w = await armed(world())
    await held(w)
    await held(w, who="dpkg")
    other = await held(w, ":1.6", "dnf")
    w.kernel.add_dimm()
    await w.run(60)
    await w.desk.gone(":1.5")
    assert [d.action for d in w.decided[-2:]] == [Action.RELEASE, Action.RELEASE]
    assert [hold.who for hold in w.engine.status().holds] == ["dnf"]
    await w.run(60)
    assert not w.kernel.calls
    await w.desk.gone(":1.6")
    await w.run(60)
    assert len(w.kernel.calls) == 1
    with pytest.raises(NoSuchHold):
        await w.desk.release(":1.6", other, BY)


async def test_who_never_held_ends_nothing(world: Making) -> None:
    w = await armed(world())
    decided = len(w.decided)
    await w.desk.gone(":1.99")
    assert len(w.decided) == decided


async def test_a_hold_does_not_end_the_pauses(world: Making) -> None:
    w = await armed(world())
    w.kernel.add_dimm()
    await w.run(LOAD_SECONDS + 1)
    number = await held(w)
    w.kernel.add_dimm(DIMM + 8)
    await w.desk.release(":1.5", number, BY)
    await w.run(10)
    assert len(w.kernel.calls) == 1
