# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario 6, Linux 6.1: kill -9 at the worst moment, and a restart."""

from __future__ import annotations

import json

import pytest

from tests.vm.lab.process import GuestProcess
from tests.vm.scenarios.conftest import Figures, Guest
from tests.vm.scenarios.measure import bare_load
from tests.vm.watched import lists

pytestmark = pytest.mark.vm

LEDGER = "/run/kexecwatchd/ledger.json"

# Busy, because the moment at which the old image is gone and the new one not there is short.
KILLER = f"""
pid=$(systemctl show -P MainPID kexecwatchd)
while read armed </sys/kernel/kexec_crash_loaded && [ $armed = 1 ]; do :; done
kill -9 $pid
echo killed $pid
cat {LEDGER}
"""


def hit_a_load(killer: GuestProcess) -> None:
    """Wait for the kill: what the daemon had written down last is that a load was under way."""
    killed = killer.wait()
    assert killed.text.startswith("killed"), killed
    assert json.loads(killed.text.partition("\n")[2])["crash"]["intent"] is not None


def test_killed_during_a_load(guest: Guest, figures: Figures) -> None:
    with guest("6.1") as watched:
        vm = watched.vm
        bare_load(vm, "crash")
        watched.configure(crash="ensure", pacing="")
        watched.start()
        watched.wait_state("crash", "current")
        told = len(watched.loads("crash"))
        killer = vm.spawn(KILLER)
        dimm = vm.plug_dimm("d0", "512M")
        hit_a_load(killer)
        vm.run(
            "until [ $(systemctl show -P NRestarts kexecwatchd) = 1 ] &&"
            " systemctl -q is-active kexecwatchd; do sleep 0.5; done"
        )
        watched.wait_state("crash", "current")
        assert vm.run("cat /sys/kernel/kexec_crash_loaded").text == "1"
        assert lists(watched.header()["loads"], dimm.start, dimm.end)
        # The load that was killed is told after the restart; it counts where it came about.
        reloads = len(watched.loads("crash")) - told
        assert reloads <= 1
        figures(loads_after_the_restart=reloads)


def test_killed_while_idle_changes_nothing(guest: Guest) -> None:
    with guest("6.12") as watched:
        vm = watched.vm
        watched.configure(crash="ensure", reboot="ensure")
        watched.start()
        watched.wait_state("crash", "current")
        watched.wait_state("reboot", "current")
        before = watched.verify()
        vm.run("systemctl kill -s KILL kexecwatchd")
        vm.run(
            "until [ $(systemctl show -P NRestarts kexecwatchd) = 1 ] &&"
            " systemctl -q is-active kexecwatchd; do sleep 0.5; done"
        )
        after = watched.verify()
        keep = ("image", "state", "reason", "foreign", "proof", "since", "load_count", "last_load")
        assert [{k: i[k] for k in keep} for i in after["images"]] == [
            {k: i[k] for k in keep} for i in before["images"]
        ]


def test_control_the_kill_does_interrupt_the_load(guest: Guest) -> None:
    """Without a restart the load stays as the kill left it, an intent that nobody follows up.

    It shows that the kill comes in the middle of a load. It need not leave the machine without an
    image: the kernel may finish the call for a process that is already dying.
    """
    with guest("6.1") as watched:
        vm = watched.vm
        vm.put("/etc/systemd/system/kexecwatchd.service.d/once.conf", b"[Service]\nRestart=no\n")
        vm.run("systemctl daemon-reload")
        bare_load(vm, "crash")
        watched.configure(crash="ensure", pacing="")
        watched.start()
        watched.wait_state("crash", "current")
        told = len(watched.loads("crash"))
        killer = vm.spawn(KILLER)
        vm.plug_dimm("d0", "512M")
        hit_a_load(killer)
        vm.run("until systemctl -q is-failed kexecwatchd; do sleep 0.5; done")
        assert json.loads(vm.get(LEDGER))["crash"]["intent"] is not None
        assert len(watched.loads("crash")) == told, "the load was never told: it was cut short"
