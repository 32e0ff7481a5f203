# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario 2, Linux 6.12: a reboot image that lies in a DIMM survives the DIMM's removal."""

from __future__ import annotations

import json
import time

import pytest

from tests.vm.lab import MachineDied
from tests.vm.lab.machine import Machine
from tests.vm.lab.report import limit
from tests.vm.scenarios.conftest import ROOMY, Figures, Guest
from tests.vm.scenarios.measure import bare_load, events, watch_events
from tests.vm.watched import HASTE, Watched

pytestmark = pytest.mark.vm


def segments(watched: Watched) -> list[tuple[int, int]]:
    """Where the reboot image lies, as the daemon tells root; ends exclusive."""
    answer = json.loads(watched.vm.run("kexecwatchctl verify --json", check=False).text)
    details = next(i for i in answer["details"]["images"] if i["image"] == "reboot")
    return [(int(s["start"], 16), int(s["end"], 16) + 1) for s in details["segments"]]


def take_offline(vm: Machine, spans: list[tuple[int, int]]) -> str:
    """Take one memory block offline that has some of the spans in it; its state file."""
    size = int(vm.run("cat /sys/devices/system/memory/block_size_bytes").text, 16)
    blocks = {n for start, end in spans for n in range(start // size, (end - 1) // size + 1)}
    said = ""
    for block in sorted(blocks):
        state = f"/sys/devices/system/memory/memory{block}/state"
        answer = vm.run(f"echo offline >{state}", check=False)
        if answer.code == 0:
            return state
        said = answer.stderr.decode()
    raise AssertionError(f"none of the memory blocks {blocks} goes offline: {said}")


def test_unloaded_while_its_memory_is_still_there(guest: Guest) -> None:
    """A block goes offline and comes back, and no memory is removed."""
    with guest("6.12", memory=ROOMY) as watched:
        vm = watched.vm
        dimm = vm.plug_dimm("d0", "512M")
        watched.configure(reboot="ensure")
        watched.start()
        first = watched.wait_state("reboot", "current")
        before = segments(watched)
        assert before
        assert all(dimm.start <= start and end <= dimm.end for start, end in before)
        state = take_offline(vm, before)
        vm.run("until [ $(cat /sys/kernel/kexec_loaded) = 0 ]; do sleep 0.1; done")
        assert f"{dimm.start:x}-{dimm.end - 1:x} : System RAM" in vm.run("cat /proc/iomem").text
        watched.verify()
        held = watched.image("reboot")
        assert not held["loaded"]
        assert held["last_action"].startswith("unloaded")
        assert "into the same memory again" in held["next_step"]
        assert held["load_count"] == first["load_count"]
        vm.run(f"echo online >{state}")
        again = watched.wait_reloaded("reboot", first)
        assert again["load_count"] == first["load_count"] + 1


def test_unloaded_at_the_first_offline_and_loaded_elsewhere(guest: Guest, figures: Figures) -> None:
    with guest("6.12", memory=ROOMY) as watched:
        vm = watched.vm
        unit = bare_load(vm, "reboot")
        vm.run("python3 /lab/bareload.py unload-reboot")
        dimm = vm.plug_dimm("d0", "512M")
        # So long a quiet that an unload that waited for it would be seen to have.
        quiet = 30
        watched.configure(
            reboot="ensure", pacing=f"{HASTE}\nquiet = {quiet}.0\nmax_wait = {quiet}.0"
        )
        watched.start()
        watched.wait_state("reboot", "current")
        before = segments(watched)
        assert before
        assert all(dimm.start <= start and end <= dimm.end for start, end in before)
        log = watch_events(vm)
        vm.unplug_dimm("d0")
        again = watched.wait_image(
            "reboot", lambda i: i["state"] == "current" and i["load_count"] == 2
        )
        assert "went away" in again["last_load"]["reason"]
        unloads = [e for e in watched.journal() if e.fields.get("ACTION") == "unload"]
        assert len(unloads) == 1
        offline = [at for at, action, _ in events(log) if action == "offline"]
        assert unloads[0].at - offline[0] < quiet
        after = segments(watched)
        assert after
        assert all(end <= dimm.start or dimm.end <= start for start, end in after)
        figures(
            reloads=1,
            first_offline_to_unloaded_per_bare_load=round((unloads[0].at - offline[0]) / unit, 2),
        )
        assert vm.kexec() == "second"


def test_control_without_the_daemon_the_machine_dies(guest: Guest) -> None:
    with guest("6.12", memory=ROOMY) as watched:
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
