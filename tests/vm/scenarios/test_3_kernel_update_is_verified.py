# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario 3, Linux 6.12: the kernel's own update is taken when it is right, mended when not.

With crash_hotplug the kernel rewrites elfcorehdr itself, and leaves removed memory in it.
"""

from __future__ import annotations

import pytest

from tests.vm.scenarios.conftest import ROOMY, Figures, Guest
from tests.vm.scenarios.measure import bare_load, events_ended, watch_events
from tests.vm.watched import lists, touches

pytestmark = pytest.mark.vm


def test_no_reload_for_what_is_right_and_one_for_what_is_not(
    guest: Guest, figures: Figures
) -> None:
    with guest("6.12", memory=ROOMY) as watched:
        vm = watched.vm
        unit = bare_load(vm, "crash")
        watched.configure(crash="ensure", pacing="")
        watched.start()
        first = watched.wait_state("crash", "current")
        assert vm.run("cat /sys/devices/system/memory/crash_hotplug").text == "1"
        dimm = vm.plug_dimm("d0", "512M")
        watched.verify()
        added = watched.image("crash")
        assert (added["state"], added["load_count"]) == ("current", first["load_count"])
        assert added["next_step"] == "", "nothing waits for its turn"
        assert lists(watched.header()["loads"], dimm.start, dimm.end)
        log = watch_events(vm)
        vm.unplug_dimm("d0")
        removed = watched.wait_reloaded("crash", first)
        assert removed["load_count"] == first["load_count"] + 1
        load = watched.loads("crash")[-1]
        assert (load.fields["SEEN"], load.fields["VERDICT"]) == ("stale", "current")
        assert int(load.fields["EXTRA_BYTES"]) == dimm.size
        assert not touches(watched.header()["loads"], dimm.start, dimm.end)
        figures(
            reloads_after_add=0,
            reloads_after_remove=1,
            last_event_to_proven_per_bare_load=round(
                (load.at - events_ended(log, "remove")) / unit, 2
            ),
        )


def test_control_without_the_daemon_it_stays_stale(bare: Guest) -> None:
    with bare("6.12", memory=ROOMY) as watched:
        vm = watched.vm
        bare_load(vm, "crash")
        dimm = vm.plug_dimm("d0", "512M")
        vm.unplug_dimm("d0")
        assert touches(watched.header()["loads"], dimm.start, dimm.end)
        assert vm.run("cat /sys/devices/system/memory/crash_hotplug").text == "1"
