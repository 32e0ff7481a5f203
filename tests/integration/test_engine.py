# SPDX-License-Identifier: GPL-2.0-or-later
"""The engine's flows, on a kernel made of files and without waiting."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kexecwatchd.model import ImageName, State
from kexecwatchd.ranges import RangeSet
from kexecwatchd.requests import LoadFailed, Refused
from tests.fake_kernel import BLOCK, CMDLINE, CRASH_REGION, DIMM, GIB, MIB, bzimage, cpio
from tests.integration.world import LOAD_SECONDS, Killed, World

Making = Callable[..., World]

DIMM_RANGE = RangeSet.of((DIMM * BLOCK, (DIMM + 4) * BLOCK))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Making:
    def make(**options: Any) -> World:
        return World(tmp_path, monkeypatch, **options)

    return make


async def armed(w: World, crash: str = "ensure", reboot: str = "off", **pacing: Any) -> World:
    """A machine whose images we loaded long ago."""
    await w.start(w.configured(crash=crash, reboot=reboot, **pacing))
    await w.run(600)
    for name, mode in (("crash", crash), ("reboot", reboot)):
        assert mode != "ensure" or w.status(name).state is State.CURRENT
    w.kernel.calls.clear()
    w.journal.clear()
    return w


# Memory comes


async def test_a_dimm_is_answered_with_one_load(world: Making) -> None:
    w = await armed(world(debug=False))
    w.kernel.add_dimm()
    await w.run(600)
    assert len(w.kernel.loads("crash")) == 1
    assert not w.kernel.unloads("crash")
    assert (w.crash().state, w.crash().proof) == (State.CURRENT, "read-back")
    assert w.kernel.listed().covers(DIMM_RANGE)


async def test_without_the_daemon_a_dimm_is_missing(world: Making) -> None:
    """The control of the test above: the fake kernel does not help by itself."""
    w = await armed(world(debug=False))
    w.kernel.add_dimm()
    assert not w.kernel.listed() & DIMM_RANGE


async def test_a_drift_is_seen_after_quiet_and_not_before(world: Making) -> None:
    w = await armed(world(), quiet=0.5)
    w.kernel.add_dimm()
    await w.run(0.49)
    assert w.crash().state is State.CURRENT
    assert not w.kernel.calls
    await w.run(0.02)
    assert len(w.kernel.calls) == 1


async def test_a_burst_is_answered_with_one_load(world: Making) -> None:
    w = await armed(world())
    for number in range(16):
        w.at(0.05 * number, w.kernel.add_dimm, DIMM + number, 1)
    await w.run(600)
    assert len(w.kernel.calls) == 1
    assert w.crash().state is State.CURRENT


async def test_a_burst_longer_than_max_wait_is_answered_with_two_loads(world: Making) -> None:
    w = await armed(world())
    for number in range(60):
        w.at(0.09 * number, w.kernel.add_dimm, DIMM + number, 1)
    await w.run(600)
    assert len(w.kernel.calls) == 2
    assert w.crash().state is State.CURRENT


async def test_a_lasting_storm_leaves_the_machine_armed(world: Making) -> None:
    """Minutes of events, as a DIMM of hundreds of GiB makes them."""
    w = await armed(world(), quiet=0.5)
    for number in range(500):
        w.at(0.4 * number, w.kernel.add_dimm, DIMM + number, 1)
    await w.run(200)
    assert 1 < len(w.kernel.calls) * LOAD_SECONDS < 0.05 * 200 + LOAD_SECONDS
    await w.run(60)
    assert w.crash().state is State.CURRENT


async def test_a_danger_after_the_storm_is_answered_at_once(world: Making) -> None:
    """Neither the budget nor the pauses within a storm hold it up."""
    w = await armed(world(crash_hotplug=True))
    w.kernel.add_dimm()
    w.kernel.add_dimm(DIMM + 8)
    await w.run(600)
    w.kernel.remove_dimm()
    await w.run(3)
    assert len(w.kernel.calls) == 1
    w.kernel.remove_dimm(DIMM + 8)
    await w.run(0.2)
    assert len(w.kernel.calls) == 2
    assert w.crash().state is State.CURRENT


async def test_what_is_published_last_is_what_is_so(world: Making) -> None:
    w = await armed(world())
    w.kernel.add_dimm()
    await w.run(600)
    assert w.published[-1] == w.engine.status()


async def test_the_kernels_own_update_is_proven_and_not_repeated(world: Making) -> None:
    w = await armed(world(crash_hotplug=True))
    w.kernel.add_dimm()
    await w.run(600)
    assert not w.kernel.calls
    assert w.crash().state is State.CURRENT
    assert w.kernel.listed().covers(DIMM_RANGE)


async def test_the_kernels_own_update_that_keeps_removed_memory_is_put_right(
    world: Making,
) -> None:
    w = await armed(world(crash_hotplug=True))
    w.kernel.add_dimm()
    await w.run(600)
    w.kernel.remove_dimm()
    assert w.kernel.listed().covers(DIMM_RANGE)
    await w.run(600)
    assert len(w.kernel.calls) == 1
    assert w.crash().state is State.CURRENT
    assert not w.kernel.listed() & DIMM_RANGE


async def test_memory_that_leaves_the_map_late_is_waited_for(world: Making) -> None:
    """`remove` comes before the range leaves /proc/iomem, and nothing comes after."""
    w = await armed(world(crash_hotplug=True))
    w.kernel.add_dimm()
    await w.run(600)
    for number in range(DIMM, DIMM + 4):
        w.kernel.set_state(number, "offline")
    w.kernel.remove_blocks()
    w.at(1.5, w.kernel.leave_map)
    await w.run(5)
    assert len(w.kernel.calls) == 1
    assert w.crash().state is State.CURRENT
    assert not w.kernel.listed() & DIMM_RANGE


async def test_a_map_that_never_settles_does_not_stop_the_work(world: Making) -> None:
    w = await armed(world())
    w.kernel.add_dimm()
    w.kernel.remove_blocks()
    looks = len(w.published)
    await w.run(300)
    assert w.crash().state is State.CURRENT
    assert w.kernel.listed().covers(DIMM_RANGE)
    assert len(w.published) - looks < 50


async def test_a_cpu_brings_its_note(world: Making) -> None:
    w = await armed(world(debug=False))
    w.kernel.add_cpu()
    await w.run(600)
    assert len(w.kernel.calls) == 1
    assert w.crash().state is State.CURRENT
    assert w.crash().last_load.reason == "the notes of 1 CPU(s) would be missing"


async def test_the_new_sysfs_paths(world: Making) -> None:
    w = await armed(world(new_paths=True))
    w.kernel.add_dimm()
    await w.run(600)
    assert len(w.kernel.loads("crash")) == 1
    assert w.crash().state is State.CURRENT


async def test_lost_events_lead_to_reading_every_block(world: Making) -> None:
    w = await armed(world(), reboot="ensure")
    w.kernel.add_dimm(zone="Normal")
    await w.run(600)
    await w.desk.reload(ImageName.REBOOT, "uid 0")
    assert DIMM_RANGE.covers(w.kernel.segments)
    w.kernel.set_state(DIMM + 3, "offline")
    w.lose_events()
    await w.run(1)
    assert len(w.kernel.unloads("reboot")) == 1
    assert any("uevents were lost" in line for line in w.journal)


async def test_the_map_moves_during_a_load(world: Making) -> None:
    w = await armed(world())
    w.kernel.add_dimm()
    late: list[RangeSet] = []

    def a_dimm_after_the_header_was_made() -> None:
        """The load saw the first DIMM only: it walked the memory before the second came."""
        late.append(w.kernel.ram)
        w.kernel.add_dimm(DIMM + 8, 1)
        w.kernel.ram = late[0]

    w.during_load.append(a_dimm_after_the_header_was_made)
    await w.run(0.2)
    w.kernel.ram |= RangeSet.of(((DIMM + 8) * BLOCK, (DIMM + 9) * BLOCK))
    w.kernel.show_map()
    await w.run(0.2)
    assert w.crash().state is State.STALE
    await w.run(600)
    assert len(w.kernel.calls) == 2
    assert w.crash().state is State.CURRENT


# Drift that a load does not cure


def uncurable(w: World) -> None:
    """A loader that leaves the DIMM out whatever the map says."""
    whole = w.kernel.header

    def partial() -> bytes:
        ram = w.kernel.ram
        w.kernel.ram = ram - DIMM_RANGE
        try:
            return whole()
        finally:
            w.kernel.ram = ram

    w.kernel.header = partial  # type: ignore[method-assign]


async def test_a_drift_that_a_load_did_not_cure_is_reported_and_left(world: Making) -> None:
    w = await armed(world())
    uncurable(w)
    w.kernel.add_dimm()
    await w.run(3600)
    assert len(w.kernel.calls) == 1
    assert w.crash().state is State.STALE
    assert w.crash().drift.missing_bytes == DIMM_RANGE.size
    assert "did not cure" in w.crash().next_step
    assert not w.crash().covered


async def test_fresh_drift_on_top_of_it_is_loaded_for(world: Making) -> None:
    w = await armed(world())
    uncurable(w)
    w.kernel.add_dimm()
    await w.run(600)
    w.kernel.add_dimm(DIMM + 8, 1)
    await w.run(600)
    assert len(w.kernel.calls) == 2
    assert w.crash().drift.missing_bytes == DIMM_RANGE.size


# The reboot image


async def in_the_dimm(w: World, crash: str = "off") -> World:
    """A machine whose reboot image we loaded into a hot-added DIMM, long ago."""
    w.kernel.add_dimm()
    w = await armed(w, crash=crash, reboot="ensure")
    assert DIMM_RANGE.covers(w.kernel.segments)
    return w


async def test_it_is_unloaded_at_the_first_offline_and_loaded_elsewhere(world: Making) -> None:
    w = await in_the_dimm(world())
    w.kernel.set_state(DIMM + 3, "offline")
    await w.engine.work()
    assert not w.kernel.loaded("reboot"), "it waited for quiet"
    assert not w.reboot().loaded, "it did not look again"
    for number in (2, 1, 0):
        w.at(0.3 * (3 - number), w.kernel.set_state, DIMM + number, "offline")
    w.at(1.2, w.kernel.remove_blocks)
    w.at(1.6, w.kernel.leave_map)
    await w.run(600)
    assert len(w.kernel.unloads("reboot")) == 1
    assert len(w.kernel.loads("reboot")) == 1
    assert w.reboot().state is State.CURRENT
    assert not w.kernel.segments & DIMM_RANGE


async def test_a_slow_removal_costs_one_load_too(world: Making) -> None:
    """Each step lasts longer than quiet, and than a load: none is wasted on what is about to go."""
    w = await in_the_dimm(world())
    w.load_seconds = 0.01
    for number in range(4):
        w.at(number, w.kernel.set_state, DIMM + 3 - number, "offline")
    w.at(5, w.kernel.remove_blocks)
    w.at(8, w.kernel.leave_map)
    await w.run(600)
    assert len(w.kernel.unloads("reboot")) == 1
    assert len(w.kernel.loads("reboot")) == 1
    assert not w.kernel.segments & DIMM_RANGE


async def test_memory_elsewhere_leaves_it_alone(world: Making) -> None:
    w = await in_the_dimm(world())
    w.kernel.set_state(2, "offline")
    await w.run(600)
    assert not w.kernel.calls
    assert w.reboot().state is State.CURRENT


async def test_a_load_that_would_land_in_offline_memory_again_is_not_repeated(
    world: Making,
) -> None:
    w = await in_the_dimm(world())
    w.kernel.set_state(DIMM + 3, "offline")
    await w.run(7200)
    assert len(w.kernel.loads("reboot")) <= 1
    assert not w.kernel.loaded("reboot")
    assert "offline" in w.reboot().next_step
    w.kernel.calls.clear()
    w.kernel.set_state(DIMM + 3, "online")
    await w.run(600)
    assert len(w.kernel.loads("reboot")) == 1
    assert w.reboot().state is State.CURRENT


async def test_offline_memory_at_the_top_is_tried_once(world: Making) -> None:
    """6.12 with auto_online_blocks=offline: the kernel places the image there nevertheless."""
    w = world(auto_online=False)
    w.kernel.add_dimm()
    await w.start(w.configured(reboot="ensure"))
    await w.run(7200)
    assert len(w.kernel.loads("reboot")) == 1
    assert not w.kernel.loaded("reboot")
    w.kernel.leave_map()
    w.kernel.remove_blocks()
    await w.run(600)
    assert w.reboot().state is State.CURRENT


async def test_one_in_movable_memory_is_reported_and_guarded(world: Making) -> None:
    w = world()
    w.kernel.add_dimm(zone="Movable")
    await w.start(w.configured(reboot="ensure"))
    await w.run(600)
    assert w.reboot().state is State.UNSAFE
    assert w.kernel.loaded("reboot")
    assert len(w.kernel.calls) == 1
    w.kernel.set_state(DIMM + 3, "offline")
    await w.engine.work()
    assert not w.kernel.loaded("reboot")


async def test_where_the_kernel_does_not_tell_the_placement_any_loss_counts(
    world: Making,
) -> None:
    w = await in_the_dimm(world(debug=False))
    assert "not known" in w.reboot().reason
    w.kernel.set_state(2, "offline")
    await w.engine.work()
    assert not w.kernel.loaded("reboot")


async def test_offline_memory_that_goes_counts_where_the_placement_is_not_known(
    world: Making,
) -> None:
    """6.1 onlines nothing by itself, and its reboot image lies in the offline DIMM all the same."""
    w = world(debug=False, auto_online=False)
    w.kernel.add_dimm()
    await w.start(w.configured(reboot="ensure"))
    await w.run(600)
    assert DIMM_RANGE.covers(w.kernel.segments)
    assert w.reboot().state is not State.CURRENT
    w.kernel.remove_blocks()
    w.kernel.leave_map()
    await w.run(600)
    assert len(w.kernel.unloads("reboot")) == 1
    assert not w.kernel.segments & DIMM_RANGE
    assert w.reboot().state is State.CURRENT


async def test_someone_elses_is_discarded_when_unsafe_and_replaced(world: Making) -> None:
    w = world()
    w.kernel.add_dimm()
    w.kernel.load_reboot_by_someone()
    await w.start(w.configured(reboot="follow"))
    await w.run(600)
    assert w.reboot().foreign
    assert w.reboot().state is State.UNKNOWN
    assert not w.kernel.calls
    w.kernel.remove_dimm()
    await w.run(600)
    assert len(w.kernel.unloads("reboot")) == 1
    assert len(w.kernel.loads("reboot")) == 1
    assert not w.reboot().foreign


async def test_a_failed_load_under_changed_memory_leaves_none(world: Making) -> None:
    w = await in_the_dimm(world(debug=False))
    w.kernel.errors = [errno.ENOMEM] * 4
    w.during_load.append(w.kernel.remove_dimm)
    with pytest.raises(LoadFailed):
        await w.desk.reload(ImageName.REBOOT, "uid 0")
    await w.engine.work()
    assert not w.kernel.loaded("reboot")
    await w.run(600)
    assert w.reboot().state is State.CURRENT


async def test_a_failed_reload_of_a_good_one_is_not_repeated_for_ever(world: Making) -> None:
    w = await armed(world(), crash="off", reboot="ensure")
    w.kernel.errors = [errno.ENOMEM] * 1000
    with pytest.raises(LoadFailed, match="out of memory"):
        await w.desk.reload(ImageName.REBOOT, "uid 0")
    calls = len(w.kernel.calls)
    await w.run(3600)
    assert len(w.kernel.calls) == calls
    assert w.reboot().state is State.CURRENT


async def test_an_unload_that_is_not_permitted_is_not_tried_for_ever(world: Making) -> None:
    w = await in_the_dimm(world())
    w.kernel.write("proc/sys/kernel/kexec_load_disabled", "1\n")
    w.kernel.remove_dimm()
    await w.run(3600)
    assert len(w.kernel.calls) <= 1
    assert w.reboot().state is State.UNSAFE
    assert "kexec_load_disabled" in w.reboot().next_step
    assert len(w.journal) <= 3


async def test_an_unload_that_fails_is_tried_again(world: Making) -> None:
    w = await in_the_dimm(world())
    w.kernel.busy = 20
    w.kernel.remove_dimm()
    await w.run(2)
    assert "EBUSY" in w.reboot().last_error
    assert [line for line in w.journal if "unload failed" in line]
    await w.run(600)
    assert len(w.kernel.unloads("reboot")) == 1
    assert w.reboot().state is State.CURRENT


# Failures


def spoil(path: Path, how: str) -> None:
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["truncated", "empty", "removed"])
@pytest.mark.parametrize("which", ["vmlinuz", "initrd.img"])
async def test_spoiled_files_lead_to_the_last_good_ones(
    world: Making, which: str, how: str
) -> None:
    w = await armed(world())
    spoil(w.kernel.path(f"boot/{which}"), how)
    w.kernel.add_dimm()
    await w.run(600)
    assert len(w.kernel.calls) == 1
    assert w.crash().state is State.CURRENT
    assert w.crash().last_load.source == "last-good"
    assert which in w.crash().degraded
    # mended: a reload of the configuration is what tells the daemon
    w.kernel.path("boot/vmlinuz").write_bytes(bzimage())
    w.kernel.path("boot/initrd.img").write_bytes(cpio())
    w.desk.reconfigure(w.configured(crash="ensure"))
    await w.run(600)
    assert w.crash().degraded == ""
    assert w.crash().last_load.source == "configured"


async def test_the_copies_survive_the_daemon(world: Making) -> None:
    w = await armed(world())
    await w.start(w.configured(crash="ensure"))
    spoil(w.kernel.path("boot/vmlinuz"), "removed")
    w.kernel.add_dimm()
    await w.run(600)
    assert w.crash().state is State.CURRENT
    assert w.crash().last_load.source == "last-good"


async def test_copies_that_no_ledger_knows_are_removed(world: Making) -> None:
    w = await armed(world())
    copies = w.kernel.path("var/lib/kexecwatchd/last-good")
    good = set(copies.iterdir())
    assert len(good) == 2
    (copies / "of-another-boot").write_text("cut sh")
    await w.start(w.configured(crash="ensure"))
    assert set(copies.iterdir()) == good


async def test_files_that_the_kernel_refused_get_another_chance_when_asked(
    world: Making,
) -> None:
    w = await armed(world())
    w.kernel.path("boot/vmlinuz").write_bytes(bzimage(b"two"))
    w.kernel.errors = [errno.ENOEXEC]
    w.kernel.add_dimm()
    await w.run(600)
    assert w.crash().last_load.source == "last-good"
    w.kernel.add_dimm(DIMM + 8)
    await w.run(600)
    assert [c.error for c in w.kernel.calls] == [errno.ENOEXEC, 0, 0], "they cost the image again"
    w.desk.reconfigure(w.configured(crash="ensure"))
    await w.run(600)
    assert w.crash().last_load.source == "configured"


async def test_a_new_configuration_is_in_force_at_once(world: Making) -> None:
    w = await armed(world())
    w.desk.reconfigure(w.configured(crash="observe"))
    await w.run(0)
    assert w.crash().mode == "observe"


async def test_the_last_good_ones_are_tried_at_once_when_the_call_fails(world: Making) -> None:
    """What the kernel refuses although it looked well costs the image: no time to lose."""
    w = await armed(world())
    w.kernel.path("boot/vmlinuz").write_bytes(bzimage(b"two"))
    w.kernel.errors = [errno.ENOEXEC]
    w.kernel.add_dimm()
    await w.run(0.2)
    assert [c.error for c in w.kernel.calls] == [errno.ENOEXEC, 0]
    assert w.crash().state is State.CURRENT
    assert "ENOEXEC" in w.crash().degraded


async def test_a_machine_left_without_image_tries_again_with_growing_pauses(
    world: Making,
) -> None:
    w = await armed(world())
    w.kernel.errors = [errno.ENOMEM] * 1000
    w.kernel.add_dimm()
    await w.run(1)
    assert w.crash().state is State.FAILED
    assert w.crash().next_try > 0
    first = len(w.kernel.calls)
    await w.run(60)
    minute = len(w.kernel.calls) - first
    await w.run(3600)
    assert len(w.kernel.calls) - first - minute < 2 * (3600 / 300 + 2)
    assert minute > 4
    assert len([line for line in w.journal if "ENOMEM" in line]) <= 2
    w.kernel.errors = []
    await w.run(301)
    assert w.crash().state is State.CURRENT
    assert w.crash().last_error == ""


async def test_a_machine_without_image_does_not_wait_for_the_budget(world: Making) -> None:
    """It is unarmed already: a load can only make that shorter."""
    w = await armed(world())
    w.kernel.errors = [errno.ENOMEM] * 2
    w.kernel.add_dimm()
    await w.run(20)
    assert w.crash().state is State.CURRENT


async def test_a_busy_lock_is_waited_for(world: Making) -> None:
    w = await armed(world())
    w.kernel.busy = 5
    w.kernel.add_dimm()
    await w.run(0.5)
    assert w.crash().state is State.CURRENT
    assert w.crash().last_load.source == "configured"


async def test_a_lock_that_stays_busy_degrades_nothing(world: Making) -> None:
    w = await armed(world())
    w.kernel.busy = 12
    w.kernel.add_dimm()
    await w.run(2)
    assert w.kernel.loaded("crash")
    assert "EBUSY" in w.crash().last_error
    await w.run(8)
    assert w.crash().state is State.CURRENT
    assert w.crash().last_load.source == "configured"
    assert w.crash().degraded == ""


@pytest.mark.parametrize("mode", ["ensure", "follow"])
async def test_loading_disabled(world: Making, mode: str) -> None:
    w = await armed(world(), crash=mode)
    w.kernel.write("proc/sys/kernel/kexec_load_disabled", "1\n")
    if mode == "follow":
        w.kernel.load_crash_by_kexec_tools()
    w.kernel.add_dimm()
    await w.run(3600)
    assert not w.kernel.calls
    assert w.kernel.loaded("crash")
    assert w.crash().state is State.STALE
    assert "kexec_load_disabled" in w.crash().next_step
    assert len(w.journal) <= 2


async def test_the_limit_is_respected(world: Making) -> None:
    w = await armed(world())
    w.kernel.write("proc/sys/kernel/kexec_load_limit_panic", "1\n")
    w.kernel.add_dimm()
    await w.run(600)
    w.kernel.add_dimm(DIMM + 8)
    await w.run(3600)
    assert len(w.kernel.calls) == 1
    assert w.kernel.loaded("crash")
    assert "kexec_load_limit_panic" in w.crash().next_step


async def test_no_reservation(world: Making) -> None:
    w = world()
    w.kernel.region = None
    w.kernel.show_map()
    await w.start(w.configured(crash="ensure"))
    await w.run(3600)
    assert not w.kernel.calls
    assert w.crash().state is State.ABSENT
    assert "crashkernel=" in w.crash().reason
    assert len(w.journal) <= 2


async def test_a_reservation_that_is_too_small(world: Making) -> None:
    w = await armed(world())
    w.kernel.path("boot/initrd.img").write_bytes(cpio(bytes(4 * MIB)))
    w.kernel.add_dimm()
    await w.run(600)
    assert w.crash().state is State.CURRENT
    assert "the region reserved for them" in w.crash().degraded
    assert len(w.kernel.calls) == 1


async def test_a_reservation_that_is_too_small_from_the_start(world: Making) -> None:
    w = world()
    w.kernel.path("boot/initrd.img").write_bytes(cpio(bytes(4 * MIB)))
    await w.start(w.configured(crash="ensure"))
    await w.run(3600)
    assert not w.kernel.calls
    assert w.crash().state is State.FAILED
    assert "the region reserved for them" in w.crash().reason
    assert len([line for line in w.journal if "reserved region" in line]) <= 2


async def test_hidden_addresses(world: Making) -> None:
    w = await armed(world())
    w.kernel.show_map(hidden=True)
    w.kernel.uevent("memory", "online", f"memory{DIMM}")
    await w.run(3600)
    assert not w.kernel.calls
    assert w.crash().state is State.UNKNOWN
    assert "zero" in w.engine.status().problem
    assert len(w.journal) <= 2
    w.kernel.show_map()
    await w.run(61)
    assert w.crash().state is State.CURRENT
    assert not w.kernel.calls


async def test_a_header_that_cannot_be_read_leaves_the_ledgers_word(world: Making) -> None:
    w = await armed(world())
    w.kernel.path("proc/kcore").unlink()
    w.kernel.path("proc/kcore").mkdir()  # the open fails, for root too
    await w.run(61)
    assert (w.crash().state, w.crash().proof) == (State.UNKNOWN, "ledger")
    w.kernel.put = lambda address, data: None  # type: ignore[method-assign]
    w.kernel.add_dimm()
    await w.run(600)
    assert len(w.kernel.loads("crash")) == 1
    assert (w.crash().state, w.crash().proof) == (State.UNKNOWN, "ledger")


async def test_notes_that_cannot_be_read_are_said_and_not_guessed(world: Making) -> None:
    w = await armed(world())
    w.kernel.write("sys/devices/system/cpu/cpu1/crash_notes", "nonsense\n")
    await w.run(61)
    assert w.crash().state is State.UNKNOWN
    assert "crash_notes" in w.crash().reason
    assert not w.kernel.calls


async def test_a_full_run_directory_is_told_once(world: Making) -> None:
    w = await armed(world())
    (w.kernel.root / "run/kexecwatchd").rename(w.kernel.root / "run/elsewhere")
    w.kernel.add_dimm()
    await w.run(3600)
    assert w.crash().state is State.CURRENT
    assert len([line for line in w.journal if "ledger.json" in line]) == 1


async def test_a_file_system_that_cannot_be_read_is_no_end(
    world: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = await armed(world())

    def unreadable(fd: int) -> str:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("kexecwatchd.kernel.initrd.check", unreadable)
    w.kernel.add_dimm()
    await w.run(60)
    assert w.kernel.loaded("crash")
    assert not w.kernel.calls
    assert "Input/output error" in w.crash().last_error


# Interruptions


async def kill_in_the_middle(w: World, when: str) -> None:
    """A load begins, and the daemon is killed."""

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    if when == "before the call":
        w.engine.hands._executor.load = die  # type: ignore[assignment,method-assign]
    elif when == "in the call, which fails":
        w.during_load.append(die)
    else:
        whole = w.engine.hands._executor.load

        def load_and_die(*arguments: Any, **named: Any) -> None:
            whole(*arguments, **named)
            raise Killed

        w.engine.hands._executor.load = load_and_die  # type: ignore[assignment,method-assign]
    with pytest.raises(Killed):
        await w.run(60)


MOMENTS = ["before the call", "in the call, which fails", "after the call"]


@pytest.mark.parametrize("when", MOMENTS)
async def test_a_kill_during_a_load_costs_one_load_at_the_most(world: Making, when: str) -> None:
    w = await armed(world())
    w.kernel.add_dimm()
    await kill_in_the_middle(w, when)
    before = len(w.kernel.loads("crash"))
    await w.start(w.configured(crash="follow"))
    await w.run(600)
    assert w.crash().state is State.CURRENT
    assert not w.crash().foreign
    assert len(w.kernel.loads("crash")) == 1
    assert before == (when == "after the call")


@pytest.mark.parametrize("when", MOMENTS)
async def test_a_kill_during_a_load_of_the_reboot_image(world: Making, when: str) -> None:
    w = await in_the_dimm(world())
    with pytest.raises(Killed):
        await kill_in_reload(w, when)
    await w.start(w.configured(reboot="follow"))
    await w.run(600)
    assert w.kernel.loaded("reboot")
    assert w.reboot().state is State.CURRENT
    # Nothing tells whether the killed call came about, so there is one load after the restart.
    assert len(w.kernel.loads("reboot")) <= 1 + (when == "after the call")
    w.kernel.remove_dimm()
    await w.run(600)
    assert len(w.kernel.unloads("reboot")) == 1
    assert not w.kernel.segments & DIMM_RANGE


async def kill_in_reload(w: World, when: str) -> None:
    reload = w.desk.reload

    async def run(seconds: float) -> None:
        await reload(ImageName.REBOOT, "uid 0")

    w.run = run  # type: ignore[method-assign]
    try:
        await kill_in_the_middle(w, when)
    finally:
        del w.run
    raise Killed


async def test_a_restart_changes_nothing(world: Making) -> None:
    w = await armed(world(), reboot="ensure")
    before = w.engine.status()
    await w.start(w.configured(crash="ensure", reboot="ensure"))
    await w.run(3600)
    assert not w.kernel.calls
    after = w.engine.status()
    assert [i.model_copy(update={"next_step": ""}) for i in after.images] == [
        i.model_copy(update={"next_step": ""}) for i in before.images
    ]


async def test_a_restart_keeps_to_the_pauses(world: Making) -> None:
    w = await armed(world())
    w.kernel.add_dimm()
    await w.run(3)
    await w.start(w.configured(crash="ensure"))
    w.kernel.add_dimm(DIMM + 8)
    await w.run(30)
    assert len(w.kernel.calls) == 1
    await w.run(30)
    assert len(w.kernel.calls) == 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"boot_id": "a-boot", "crash": {"ram": 3}}'])
async def test_a_damaged_ledger_makes_loaded_images_foreign(world: Making, text: str) -> None:
    w = await armed(world())
    w.kernel.write("run/kexecwatchd/ledger.json", text)
    await w.start(w.configured(crash="ensure"))
    await w.run(600)
    assert w.crash().foreign
    assert w.crash().state is State.CURRENT
    assert not w.kernel.calls
    assert any("count as foreign" in line for line in w.journal)


async def test_a_ledger_of_another_boot_counts_for_nothing(world: Making) -> None:
    w = await armed(world())
    path = w.kernel.path("run/kexecwatchd/ledger.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"boot_id": "the-one-before"}))
    await w.start(w.configured(crash="ensure"))
    assert w.crash().foreign
    assert w.crash().load_count == 0


# Images of others, and modes


async def test_a_foreign_crash_image_is_found_compared_and_replaced_when_it_drifts(
    world: Making,
) -> None:
    w = world()
    w.kernel.load_crash_by_kexec_tools()
    await w.start(w.configured(crash="follow"))
    await w.run(600)
    assert w.crash().foreign
    assert (w.crash().state, w.crash().proof) == (State.CURRENT, "read-back")
    assert not w.kernel.calls
    w.kernel.add_dimm()
    await w.run(600)
    assert len(w.kernel.loads("crash")) == 1
    assert not w.crash().foreign
    assert w.crash().state is State.CURRENT


async def test_a_foreign_image_is_not_reloaded_without_files_of_ours(world: Making) -> None:
    w = world()
    w.kernel.load_crash_by_kexec_tools()
    bare = w.configured(crash="follow").model_copy(
        update={"crash": w.configured(crash="off").crash.model_copy(update={"kernel": None})}
    )
    bare = bare.model_copy(update={"crash": bare.crash.model_copy(update={"mode": "follow"})})
    await w.start(bare)
    w.kernel.add_dimm()
    await w.run(600)
    assert not w.kernel.calls
    assert w.crash().state is State.STALE
    assert "no kernel is configured" in w.crash().next_step


async def test_someone_replaces_ours(world: Making) -> None:
    w = await armed(world())
    w.kernel.load_crash_by_kexec_tools()
    await w.run(61)
    assert w.crash().foreign
    assert w.crash().state is State.CURRENT


@pytest.mark.parametrize(("mode", "again"), [("ensure", 1), ("follow", 0)])
async def test_someone_takes_it_away(world: Making, mode: str, again: int) -> None:
    w = await armed(world())
    w.desk.reconfigure(w.configured(crash=mode))
    await w.run(1)
    w.kernel.set_loaded("crash", False)
    await w.run(600)
    assert len(w.kernel.loads("crash")) == again
    assert w.crash().state is (State.CURRENT if again else State.ABSENT)
    assert w.crash().covered


@pytest.mark.parametrize("mode", ["observe", "off"])
async def test_modes_that_touch_nothing(world: Making, mode: str) -> None:
    w = world()
    w.kernel.add_dimm()
    w.kernel.load_crash_by_kexec_tools()
    w.kernel.load_reboot_by_someone()
    await w.start(w.configured(crash=mode, reboot=mode))
    w.kernel.remove_dimm()
    await w.run(3600)
    assert not w.kernel.calls
    for image in ImageName:
        with pytest.raises(Refused, match=r"mode"):
            await w.desk.reload(image, "uid 0")
    if mode == "observe":
        assert (w.crash().state, w.reboot().state) == (State.STALE, State.UNSAFE)


async def test_a_changed_configuration_is_loaded(world: Making) -> None:
    w = await armed(world())
    w.kernel.path("boot/other").write_bytes(bzimage(b"two"))
    changed = w.configured(crash="ensure")
    other = changed.crash.model_copy(update={"kernel": w.kernel.path("boot/other")})
    w.desk.reconfigure(changed.model_copy(update={"crash": other}))
    await w.run(600)
    assert len(w.kernel.calls) == 1
    assert w.crash().state is State.CURRENT


@pytest.mark.parametrize("by", ["us", "kexec-tools"])
async def test_a_capture_kernel_that_would_take_the_memory_is_told_and_mended(
    world: Making, by: str
) -> None:
    w = world(acpi=True)
    w.kernel.add_dimm()
    if by == "kexec-tools":
        w.kernel.load_crash_by_kexec_tools()
    await w.start(w.configured(crash="ensure"))
    await w.run(3600)
    assert len(w.kernel.calls) == (by == "us")
    assert w.crash().state is State.UNSAFE
    assert "acpi_no_memhotplug" in w.crash().next_step
    mended = w.configured(crash="ensure")
    crash = mended.crash.model_copy(update={"cmdline": f"{CMDLINE} acpi_no_memhotplug"})
    w.desk.reconfigure(mended.model_copy(update={"crash": crash}))
    await w.run(600)
    assert len(w.kernel.calls) == 1 + (by == "us")
    assert w.crash().state is State.CURRENT


# What is asked for


async def test_a_reload_that_is_asked_for_is_done_at_once(world: Making) -> None:
    w = await armed(world())
    w.kernel.add_dimm()
    await w.run(3)
    status = await w.desk.reload(ImageName.CRASH, "uid 0")
    assert status.last_load.reason == "it was asked for"
    assert len(w.kernel.calls) == 2


async def test_a_reload_that_cannot_be_done_says_why(world: Making) -> None:
    w = await armed(world())
    w.kernel.write("proc/sys/kernel/kexec_load_disabled", "1\n")
    with pytest.raises(Refused, match="kexec_load_disabled"):
        await w.desk.reload(ImageName.CRASH, "uid 0")
    assert not w.kernel.calls


async def test_no_address_is_told_to_everyone(world: Making) -> None:
    w = await in_the_dimm(world(), crash="ensure")
    w.kernel.remove_dimm()
    await w.run(600)
    for status in w.published:
        assert "0x" not in status.model_dump_json()
    assert not [line for line in w.journal if "0x" in line]
    details = {image.image: image for image in w.engine.details().images}
    assert details[ImageName.CRASH].elfcorehdr == f"{CRASH_REGION.start:#x}"
    assert details[ImageName.REBOOT].segments[-1].end == f"{GIB - 1:#x}"


async def test_what_was_loaded_is_what_was_configured(world: Making) -> None:
    w = await armed(world())
    w.kernel.add_dimm()
    await w.run(600)
    assert [c.cmdline for c in w.kernel.calls] == [CMDLINE]
