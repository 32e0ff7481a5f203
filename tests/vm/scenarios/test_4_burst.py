# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario 4, Linux 6.1: sixteen memory blocks at once are one reload, and no more unarmed time."""

from __future__ import annotations

import json

import pytest

from tests.vm.scenarios.conftest import Figures, Guest
from tests.vm.scenarios.measure import bare_load, events, events_ended, watch_events
from tests.vm.watched import lists, touches

pytestmark = pytest.mark.vm

BLOCKS = 16


def test_one_reload_and_unarmed_only_inside_it(guest: Guest, figures: Figures) -> None:
    with guest("6.1") as watched:
        vm = watched.vm
        unit = bare_load(vm, "crash")
        watched.configure(crash="ensure", pacing="")
        watched.start()
        before = watched.wait_state("crash", "current")
        log = watch_events(vm)
        poller = vm.spawn("exec python3 /lab/pollarmed.py")
        dimm = vm.plug_dimm("d0", BLOCKS * (128 << 20))
        watched.wait_reloaded("crash", before)
        watched.verify()
        # What a second load would be needed for is now seen, and has until here to be loaded.
        after = watched.wait_state("crash", "current")
        assert after["next_step"] == "", "a further load waits for its turn"
        poller.signal("TERM")
        armed = json.loads(poller.wait().stdout)
        added = [e for e in events(log) if e[1] == "add"]
        assert len(added) == BLOCKS
        assert lists(watched.header()["loads"], dimm.start, dimm.end)
        # One load is all it takes, unless the burst outlasted a good part of max_wait (2 s).
        reloads = after["load_count"] - before["load_count"]
        burst = added[-1][0] - added[0][0]
        assert reloads <= (1 if burst < 1.0 else 2)
        loads = watched.loads("crash")[-reloads:]
        inside = sum(int(e.fields["UNARMED_USEC"]) / 1e6 for e in loads)
        unarmed = [state for _, state in armed["transitions"]].count(0)
        assert unarmed <= reloads
        assert armed["unarmed_seconds"] <= inside * 1.1
        assert loads[-1].fields["VERDICT"] == "current"
        figures(
            blocks=BLOCKS,
            reloads=reloads,
            unarmed_per_bare_load=round(armed["unarmed_seconds"] / unit, 2),
            last_event_to_proven_per_bare_load=round(
                (loads[-1].at - events_ended(log, "add")) / unit, 2
            ),
        )


def test_control_without_the_daemon_the_blocks_are_missing(bare: Guest) -> None:
    with bare("6.1") as watched:
        vm = watched.vm
        bare_load(vm, "crash")
        dimm = vm.plug_dimm("d0", BLOCKS * (128 << 20))
        assert not touches(watched.header()["loads"], dimm.start, dimm.end)
