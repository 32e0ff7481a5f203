# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario 1, Linux 6.1: memory hot-added after the crash image was loaded is in the dump."""

from __future__ import annotations

import pytest

from tests.vm.lab.hotplug import Dimm
from tests.vm.lab.machine import Machine
from tests.vm.scenarios.conftest import Figures, Guest
from tests.vm.scenarios.measure import bare_load, events_ended, first_json, watch_events
from tests.vm.watched import lists, touches

pytestmark = pytest.mark.vm


def online(vm: Machine) -> None:
    """Linux 6.1 in Debian onlines nothing by itself."""
    vm.run(
        "for s in /sys/devices/system/memory/memory*/state; do "
        "[ $(cat $s) = online ] || echo online >$s; done"
    )


def plant(vm: Machine, dimm: Dimm) -> tuple[int, bytes]:
    """Have a process keep a known pattern in a page of the DIMM; its address and its bytes."""
    process = vm.spawn(f"python3 /lab/pattern.py {dimm.start:#x} {dimm.end:#x}")
    found = first_json(process)
    return found["address"], bytes.fromhex(found["pattern"])


def test_daemon_reloads_once_and_the_dump_has_it(guest: Guest, figures: Figures) -> None:
    with guest("6.1") as watched:
        vm = watched.vm
        unit = bare_load(vm, "crash")
        watched.configure(crash="ensure", pacing="")
        watched.start()
        before = watched.wait_state("crash", "current")
        events = watch_events(vm)
        dimm = vm.plug_dimm("d0", "512M")
        online(vm)
        watched.wait_reloaded("crash", before)
        watched.verify()
        after = watched.image("crash")
        assert (after["state"], after["load_count"]) == ("current", before["load_count"] + 1)
        # The default budget would hold a second load back: none is waiting for it.
        assert after["next_step"] == ""
        assert lists(watched.header()["loads"], dimm.start, dimm.end)
        address, pattern = plant(vm, dimm)
        assert dimm.start <= address < dimm.end
        load = watched.loads("crash")[-1]
        assert (load.fields["SEEN"], load.fields["VERDICT"]) == ("stale", "current")
        assert int(load.fields["MISSING_BYTES"]) == dimm.size
        figures(
            reloads=1,
            load_per_bare_load=round(int(load.fields["UNARMED_USEC"]) / 1e6 / unit, 2),
            last_event_to_proven_per_bare_load=round(
                (load.at - events_ended(events, "add")) / unit, 2
            ),
        )
        capture = vm.panic()
        assert capture.read_phys(address, len(pattern)) == pattern


def test_control_without_the_daemon_it_is_lost(bare: Guest) -> None:
    with bare("6.1") as watched:
        vm = watched.vm
        bare_load(vm, "crash")
        dimm = vm.plug_dimm("d0", "512M")
        online(vm)
        assert not touches(watched.header()["loads"], dimm.start, dimm.end)
        address, pattern = plant(vm, dimm)
        capture = vm.panic()
        assert capture.elf(), "there is a dump"
        assert capture.read_phys(address, len(pattern)) is None
