# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario 8, Linux 7.3: everything works through /sys/kernel/kexec/."""

from __future__ import annotations

import pytest

from tests.vm.scenarios.conftest import ROOMY, Figures, Guest
from tests.vm.scenarios.measure import bare_load
from tests.vm.watched import HASTE, lists, touches

pytestmark = pytest.mark.vm


def test_both_images_through_add_and_remove(guest: Guest, figures: Figures) -> None:
    with guest("7.3", memory=ROOMY) as watched:
        vm = watched.vm
        vm.run("test -e /sys/kernel/kexec/crash_loaded")
        # So long a quiet that no slow host puts it between `add`, when the memory is there, and
        # `online`, when the kernel lists it.
        pacing = f"{HASTE}\nquiet = 2.0\nmax_wait = 10.0"
        watched.configure(crash="ensure", reboot="ensure", pacing=pacing)
        watched.start()
        crash = watched.wait_state("crash", "current")
        watched.wait_state("reboot", "current")
        dimm = vm.plug_dimm("d0", "512M")
        watched.verify()
        added = watched.image("crash")
        assert (added["state"], added["load_count"]) == ("current", crash["load_count"])
        assert added["next_step"] == "", "nothing waits for its turn"
        assert lists(watched.header()["loads"], dimm.start, dimm.end)
        vm.unplug_dimm("d0")
        removed = watched.wait_reloaded("crash", crash)
        assert removed["load_count"] == crash["load_count"] + 1
        assert not touches(watched.header()["loads"], dimm.start, dimm.end)
        assert watched.image("reboot")["state"] == "current"
        figures(reloads_after_add=0, reloads_after_remove=1)


def test_control_without_the_daemon_it_stays_stale(bare: Guest) -> None:
    with bare("7.3", memory=ROOMY) as watched:
        vm = watched.vm
        bare_load(vm, "crash")
        dimm = vm.plug_dimm("d0", "512M")
        vm.unplug_dimm("d0")
        assert touches(watched.header()["loads"], dimm.start, dimm.end)
