# SPDX-License-Identifier: GPL-2.0-or-later
"""The engine keeps the reboot image out of memory that can go away."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kexecwatchd import bootmemory
from kexecwatchd.ledger import Prediction
from kexecwatchd.model import (
    ImageFiles,
    ImageName,
    MemoryMap,
    Mode,
    Observation,
    PlacedBy,
    Placement,
    Segment,
    State,
)
from kexecwatchd.outlook import Outlook
from kexecwatchd.ranges import Range, RangeSet
from kexecwatchd.requests import LoadFailed, Refused
from tests.fake_kernel import BLOCK, DIMM, GIB, MIB
from tests.integration.world import World
from tests.unit.kernel.test_firmware_map import boot_params
from tests.unit.kernel.trees import kexec_rules, populate

DIMM_RANGE = RangeSet.of((DIMM * BLOCK, (DIMM + 4) * BLOCK))
CMA = Range(256 * MIB, 320 * MIB)
LAST_BOOT_BLOCK = GIB // BLOCK - 1

Making = Callable[..., World]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Making:
    """A machine whose boot memory was recorded early."""

    def make(**options: Any) -> World:
        w = World(tmp_path, monkeypatch, **options)
        table = boot_params([(r.start, r.size, 1) for r in w.kernel.ram])
        populate(w.kernel.root, {"sys/kernel/boot_params/data": table})
        bootmemory.record(w.kernel.root)
        return w

    return make


async def with_dimm(w: World, when_unsafe: str = "refuse", zone: str = "Normal") -> World:
    """A DIMM came before the daemon started, which is to keep a reboot image loaded."""
    w.kernel.add_dimm(zone=zone)
    await w.start(w.configured(crash="off", reboot="ensure", when_unsafe=when_unsafe))
    await w.run(600)
    return w


def predicting(monkeypatch: pytest.MonkeyPatch, w: World, wrong_by: int = 0) -> None:
    """Predictions as right as the fake kernel's own choice, or off by so many bytes."""

    def add(self: Outlook, seen: Observation, memory: MemoryMap, files: ImageFiles) -> Observation:
        initrd = files.initrd.read_bytes() if files.initrd else b""
        chosen = w.kernel._highest(w.kernel.ram - w.kernel.driver_managed, initrd)
        segments = tuple(Segment(r.start - wrong_by, r.size) for r in chosen)
        return replace(seen, forecast=Placement(segments, PlacedBy.PREDICTION))

    monkeypatch.setattr(Outlook, "add", add)


async def test_refused_where_the_kernel_would_put_it_into_hot_added_memory(world: Making) -> None:
    w = await with_dimm(world())
    assert not w.kernel.loaded("reboot")
    assert w.reboot().state is State.ABSENT
    assert not w.reboot().covered
    assert "hot-added" in w.reboot().reason
    assert w.reboot().next_step.startswith("nothing: refused")
    assert "install kexec-tools" in w.reboot().next_step
    # Nothing was predicted here, so it took one load to find out; it takes no second one.
    assert len(w.kernel.loads("reboot")) == 1
    await w.run(7200)
    assert len(w.kernel.loads("reboot")) == 1
    w.kernel.remove_dimm()
    await w.run(600)
    assert w.reboot().state is State.CURRENT


async def test_what_is_predicted_is_not_even_tried(
    world: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = world()
    predicting(monkeypatch, w)
    await with_dimm(w)
    assert not w.kernel.calls
    assert "refused" in w.reboot().next_step
    with pytest.raises(Refused, match=r"refused.*hot-added"):
        await w.desk.reload(ImageName.REBOOT, "uid 0")
    assert not w.kernel.calls


async def test_the_kernels_own_rules_tell_it_beforehand(world: Making) -> None:
    """From the files on the disk to the refusal; and where they cannot be read, a load tells."""
    w = world()
    kexec_rules(w.kernel.root)
    await with_dimm(w)
    assert not w.kernel.calls
    assert "refused" in w.reboot().next_step
    assert "hot-added" in w.reboot().next_step
    w.kernel.remove_dimm()
    await w.run(600)
    assert w.reboot().state is State.CURRENT
    assert len(w.kernel.calls) == 1
    w.kernel.path("boot/vmlinuz").unlink()
    w.kernel.add_dimm()
    await w.run(600)
    assert w.reboot().state is State.CURRENT, "it lies in boot memory, whatever became of its file"
    assert len(w.kernel.calls) == 1


async def test_kexec_tools_put_it_elsewhere(world: Making) -> None:
    w = await with_dimm(world(tools=True))
    assert w.reboot().state is State.CURRENT
    assert w.reboot().proof == "loader"
    assert not w.kernel.segments & DIMM_RANGE
    assert not w.kernel.unloads("reboot"), "the one replaced the other"
    assert [call.tools for call in w.kernel.loads("reboot")] == [False, True]
    # The next kernel is not told of the DIMM: it may be gone by then.
    assert w.kernel.calls[-1].cmdline.endswith(f"memmap={4 * BLOCK:#x}%{DIMM * BLOCK:#x}-1")
    await w.run(7200)
    assert len(w.kernel.calls) == 2
    w.kernel.remove_dimm()
    await w.run(600)
    assert w.reboot().state is State.CURRENT
    assert len(w.kernel.calls) == 2


async def test_by_prediction_kexec_tools_go_first(
    world: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = world(tools=True)
    predicting(monkeypatch, w)
    await with_dimm(w, zone="Movable")
    assert w.reboot().state is State.CURRENT
    assert [call.tools for call in w.kernel.calls] == [True]
    assert "by kexec-tools, since" in w.reboot().last_action


async def test_a_dimm_that_comes_later_does_not_touch_one_in_boot_memory(world: Making) -> None:
    w = world()
    await w.start(w.configured(crash="off", reboot="ensure", when_unsafe="refuse"))
    await w.run(600)
    w.kernel.add_dimm(zone="Movable")
    await w.run(600)
    assert w.reboot().state is State.CURRENT
    assert len(w.kernel.calls) == 1


@pytest.mark.parametrize("why", ["no room", "an error"])
async def test_where_kexec_tools_fail_it_is_refused(world: Making, why: str) -> None:
    w = world(tools=True)
    if why == "no room":
        # All that stays below movable memory is 640 KiB and half a MiB.
        w.kernel.ram -= RangeSet.of((MIB + MIB // 2, BLOCK))
        w.kernel.show_map()
        w.kernel.path("run/kexecwatchd/boot-memory.json").unlink()
        bootmemory.record(w.kernel.root)
        w.kernel.zones[1] = "Movable"
        w.kernel.set_state(1, "online")
    else:
        w.kernel.errors = [0, errno.EPERM, errno.EPERM]
    await with_dimm(w)
    assert not w.kernel.loaded("reboot")
    assert "kexec-tools could not put it elsewhere" in w.reboot().next_step
    calls = len(w.kernel.calls)
    await w.run(7200)
    assert len(w.kernel.calls) == calls, "it was tried again for the same memory"


async def test_what_passes_is_tried_again_and_does_not_leave_it_there_meanwhile(
    world: Making,
) -> None:
    w = world(tools=True)
    w.kernel.errors = [0, *[errno.ENOMEM] * 4]
    unsafe = []
    w.at(120, lambda: unsafe.append(w.kernel.loaded("reboot")))
    await with_dimm(w)
    assert unsafe == [False], "it waited in memory that can go away"
    assert w.reboot().state is State.CURRENT
    assert w.kernel.calls[-1].tools


async def test_files_that_come_back_are_loaded(world: Making) -> None:
    w = world(tools=True)
    hidden = w.kernel.path("boot/initrd.img").rename(w.kernel.path("boot/away"))
    await with_dimm(w)
    assert not w.kernel.loaded("reboot")
    hidden.rename(w.kernel.path("boot/initrd.img"))
    await w.run(600)
    assert w.reboot().state is State.CURRENT
    assert not w.kernel.segments & DIMM_RANGE


@pytest.mark.parametrize("tools", [True, False])
@pytest.mark.parametrize("when_unsafe", ["refuse", "guard"])
@pytest.mark.parametrize("cma", [None, "sound", "misaligned"])
@pytest.mark.parametrize("missing", ["", "boot/vmlinuz", "boot/initrd.img"])
async def test_a_machine_that_does_not_change_is_left_alone(
    world: Making, tools: bool, when_unsafe: str, cma: str | None, missing: str
) -> None:
    """Whatever the answer is, it is found once: no load after load while nothing happens."""
    area = {"sound": CMA, "misaligned": Range(CMA.start + MIB, CMA.end)}.get(cma or "")
    w = world(tools=tools, cma=area)
    await w.start(w.configured(crash="off", reboot="ensure", when_unsafe=when_unsafe))
    await w.run(600)  # it keeps copies of the files
    if missing:
        w.kernel.path(missing).unlink()
    w.kernel.add_dimm(zone="Movable")
    await w.run(600)
    with contextlib.suppress(LoadFailed):
        await w.desk.reload(ImageName.REBOOT, "uid 0")
    await w.run(3600)
    w.kernel.calls.clear()
    before = w.kernel.loaded("reboot")
    await w.run(7200)
    assert w.kernel.calls == []
    assert w.kernel.loaded("reboot") == before


async def test_without_memory_below_kexec_tools_are_not_tried(world: Making) -> None:
    w = world(tools=True)
    w.kernel.zones[0] = "Movable"
    w.kernel.set_state(0, "online")
    await with_dimm(w)
    assert not w.kernel.loaded("reboot")
    assert "no memory that stays below" in w.reboot().next_step
    assert not [call for call in w.kernel.calls if call.tools]


async def test_a_new_map_gives_kexec_tools_a_new_chance(world: Making) -> None:
    w = world(tools=True)
    w.kernel.errors = [0, errno.EPERM, errno.EPERM]
    await with_dimm(w)
    assert not w.kernel.loaded("reboot")
    w.kernel.add_dimm(DIMM + 8, 1)
    await w.run(600)
    assert w.reboot().state is State.CURRENT
    assert w.kernel.calls[-1].tools


async def test_guarded_it_stays_until_its_memory_goes(world: Making) -> None:
    w = await with_dimm(world(), when_unsafe="guard", zone="Movable")
    assert w.kernel.loaded("reboot")
    assert w.reboot().state is State.UNSAFE
    assert (w.reboot().guarded, w.reboot().covered) == (True, True)
    assert "movable" in w.reboot().reason
    assert "kept, as when_unsafe asks" in w.reboot().next_step
    await w.run(7200)
    assert len(w.kernel.calls) == 1
    w.kernel.set_state(DIMM + 3, "offline")
    await w.engine.work()
    assert not w.kernel.loaded("reboot")
    assert (w.reboot().guarded, w.reboot().covered) == (False, False)


async def test_nobody_guards_what_is_only_observed(world: Making) -> None:
    w = await with_dimm(world(), when_unsafe="guard", zone="Movable")
    await w.desk.set_mode(ImageName.REBOOT, Mode.OBSERVE, "uid 0")
    assert w.reboot().state is State.UNSAFE
    assert (w.reboot().guarded, w.reboot().covered) == (False, False)


async def test_memory_that_becomes_movable_under_it_counts(world: Making) -> None:
    """Offline and online again as movable, between two looks."""
    w = world(tools=True)
    await w.start(w.configured(crash="off", reboot="ensure"))
    await w.run(600)
    assert w.reboot().state is State.CURRENT
    w.kernel.zones[LAST_BOOT_BLOCK] = "Movable"
    w.kernel.set_state(LAST_BOOT_BLOCK, "online")
    await w.run(600)
    assert w.reboot().state is State.CURRENT
    assert not w.kernel.segments & RangeSet.of((LAST_BOOT_BLOCK * BLOCK, GIB))
    assert w.kernel.calls[-1].tools


async def test_offline_while_a_load_is_in_flight(world: Making) -> None:
    w = world()
    w.kernel.add_dimm(zone="Movable")

    def go_offline() -> None:
        for number in range(4):
            w.kernel.set_state(DIMM + number, "offline")

    w.during_load.append(go_offline)
    await w.start(w.configured(crash="off", reboot="ensure", when_unsafe="guard"))
    await w.run(600)
    assert len(w.kernel.loads("reboot")) == 1
    assert not w.kernel.loaded("reboot")
    assert not any("reboot image current" in line for line in w.journal)


async def test_a_prediction_that_was_wrong_is_told_and_counts_no_more(
    world: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = world()
    predicting(monkeypatch, w, wrong_by=BLOCK * 28)
    await with_dimm(w)
    assert w.engine.book.ledger.reboot.prediction is Prediction.DISAGREES
    assert sum("elsewhere than it was predicted" in line for line in w.journal) == 1
    assert not w.kernel.loaded("reboot")
    assert len(w.kernel.loads("reboot")) == 1


async def test_a_prediction_that_was_right_is_on_record(
    world: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = world()
    predicting(monkeypatch, w)
    await with_dimm(w, when_unsafe="guard")
    details = {d.image: d for d in w.engine.details().images}[ImageName.REBOOT]
    assert (details.placed_by, details.prediction) == ("log", "agrees")
    assert {risk.hazard for s in details.segments for risk in s.risks} == {"hot-added"}


async def test_without_the_log_the_prediction_is_what_is_known(
    world: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = world(debug=False)
    predicting(monkeypatch, w)
    await w.start(w.configured(crash="off", reboot="ensure"))
    await w.run(600)
    assert (w.reboot().state, w.reboot().proof) == (State.CURRENT, "prediction")
    w.kernel.set_state(2, "offline")
    await w.run(600)
    assert w.reboot().state is State.CURRENT, "other memory went"
    w.kernel.set_state(LAST_BOOT_BLOCK, "offline")
    await w.engine.work()
    assert not w.kernel.loaded("reboot")


async def test_a_map_that_moves_makes_a_prediction_void(
    world: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = world(debug=False)
    predicting(monkeypatch, w)
    w.during_load.append(lambda: w.kernel.add_dimm(DIMM + 8, 1))
    await w.start(w.configured(crash="off", reboot="ensure", when_unsafe="guard"))
    await w.run(600)
    assert len(w.kernel.loads("reboot")) == 2
    assert w.reboot().proof == "prediction"


async def test_an_image_for_memory_that_was_there_at_boot_and_is_gone(world: Making) -> None:
    w = world()
    await w.start(w.configured(crash="off", reboot="ensure"))
    await w.run(600)
    w.kernel.ram -= RangeSet.of((GIB - 2 * BLOCK, GIB - BLOCK))
    w.kernel.remove_blocks(LAST_BOOT_BLOCK - 1, 1)
    w.kernel.show_map()
    await w.run(600)
    assert not w.kernel.loaded("reboot")
    assert "boot memory is gone" in w.reboot().next_step
    calls = len(w.kernel.calls)
    await w.run(7200)
    assert len(w.kernel.calls) == calls


def test_the_dimm_is_far_above_boot_memory() -> None:
    assert DIMM * BLOCK > GIB + MIB


async def test_cma_is_left_alone_where_the_rest_is_safe(world: Making) -> None:
    w = world(cma=CMA)
    await w.start(w.configured(crash="off", reboot="ensure"))
    await w.run(600)
    assert w.reboot().state is State.CURRENT
    assert not w.kernel.segments & RangeSet([CMA])


async def test_cma_is_used_where_the_rest_can_go_away(
    world: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = world(cma=CMA, tools=True)
    predicting(monkeypatch, w)
    await with_dimm(w)
    assert w.reboot().state is State.CURRENT
    assert RangeSet([CMA]).covers(w.kernel.segments)
    assert len(w.kernel.calls) == 1
    w.kernel.remove_dimm()
    await w.run(600)
    assert len(w.kernel.calls) == 1


async def test_an_image_that_cma_left_misaligned_does_not_stay(
    world: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    """7.3: the kernel lies where it cannot start."""
    w = world(cma=Range(CMA.start + MIB, CMA.end), tools=True)
    predicting(monkeypatch, w)
    await with_dimm(w)
    assert w.reboot().state is State.CURRENT
    assert w.reboot().proof == "loader"
    assert [call.tools for call in w.kernel.loads("reboot")] == [False, True]
    assert len(w.kernel.unloads("reboot")) == 1
    assert any("cannot start" in line for line in w.journal)


async def test_full_cma_and_no_tools_end_in_a_refusal(
    world: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = world(cma=Range(CMA.start, CMA.start + 64 * 1024))
    predicting(monkeypatch, w)
    await with_dimm(w)
    assert not w.kernel.loaded("reboot")
    assert "refused" in w.reboot().next_step
    calls = len(w.kernel.calls)
    await w.run(7200)
    assert len(w.kernel.calls) == calls
