# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario 2, Linux 6.12: a guarded reboot image leaves a DIMM before the DIMM is removed."""

from __future__ import annotations

import time

import pytest

from tests.vm.lab import MachineDied
from tests.vm.lab.report import limit
from tests.vm.scenarios.conftest import ROOMY, Figures, Guest
from tests.vm.scenarios.measure import bare_load, events, watch_events
from tests.vm.scenarios.told import (
    inside,
    outside,
    segments,
    take_offline,
    with_kexec_tools,
    without_kexec_tools,
)
from tests.vm.watched import HASTE

pytestmark = pytest.mark.vm

# The image is to lie in the DIMM first.
GUARD = 'when_unsafe = "guard"\n'


def test_unloaded_while_its_memory_is_still_there(guest: Guest) -> None:
    """A block goes offline and comes back, and no memory is removed."""
    with guest("6.12", memory=ROOMY) as watched:
        vm = watched.vm
        dimm = vm.plug_dimm("d0", "512M")
        without_kexec_tools(vm)
        watched.configure(reboot="ensure", more=GUARD)
        watched.start()
        first = watched.wait_state("reboot", "unsafe")
        before = segments(watched)
        assert inside(before, dimm)
        state = take_offline(vm, before)
        vm.run("until [ $(cat /sys/kernel/kexec_loaded) = 0 ]; do sleep 0.1; done")
        assert f"{dimm.start:x}-{dimm.end - 1:x} : System RAM" in vm.run("cat /proc/iomem").text
        watched.verify()
        held = watched.image("reboot")
        assert not held["loaded"]
        assert held["last_action"].startswith("unloaded")
        assert "refused: the kernel would put" in held["next_step"]
        assert held["load_count"] == first["load_count"]
        vm.run(f"echo online >{state}")
        watched.wait_image("reboot", lambda i: i["load_count"] == first["load_count"] + 1)
        assert inside(segments(watched), dimm)


def test_unloaded_at_the_first_offline_and_loaded_elsewhere(guest: Guest, figures: Figures) -> None:
    with guest("6.12", memory=ROOMY) as watched:
        vm = watched.vm
        unit = bare_load(vm, "reboot")
        vm.run("python3 /lab/bareload.py unload-reboot")
        dimm = vm.plug_dimm("d0", "512M")
        # So long a quiet that an unload that waited for it would be seen to have.
        quiet = 30
        pacing = f"{HASTE}\nquiet = {quiet}.0\nmax_wait = {quiet}.0"
        watched.configure(reboot="ensure", pacing=pacing, more=GUARD)
        without_kexec_tools(vm)
        watched.start()
        watched.wait_state("reboot", "unsafe")
        assert inside(segments(watched), dimm)
        log = watch_events(vm)
        vm.unplug_dimm("d0")
        again = watched.wait_image(
            "reboot", lambda i: i["state"] == "current" and i["load_count"] == 2
        )
        assert "it was unloaded because" in again["last_load"]["reason"]
        unloads = [e for e in watched.journal() if e.fields.get("ACTION") == "unload"]
        assert len(unloads) == 1
        offline = [at for at, action, _ in events(log) if action == "offline"]
        assert unloads[0].at - offline[0] < quiet
        assert outside(segments(watched), dimm)
        figures(
            reloads=1,
            first_offline_to_unloaded_per_bare_load=round((unloads[0].at - offline[0]) / unit, 2),
        )
        with_kexec_tools(vm)
        assert vm.kexec() == "second"


def test_control_without_the_daemon_the_machine_dies(bare: Guest) -> None:
    with bare("6.12", memory=ROOMY) as watched:
        vm = watched.vm
        vm.plug_dimm("d0", "512M")
        bare_load(vm, "reboot")
        vm.unplug_dimm("d0")
        assert vm.run("cat /sys/kernel/kexec_loaded").text == "1"
        start = len(vm.console.text())
        with pytest.raises(MachineDied):
            vm.kexec()
        vm.wait_exit()
        deadline = time.monotonic() + limit(60)
        while "Starting new kernel" not in (said := vm.console.text()[start:]):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert "LAB: second kernel" not in said
