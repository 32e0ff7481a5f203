# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario 7, Linux 6.1: a CPU that came after the load has its note in the dump."""

from __future__ import annotations

import pytest

from tests.vm.lab.capture import Capture
from tests.vm.lab.machine import Machine
from tests.vm.scenarios.conftest import Figures, Guest
from tests.vm.scenarios.measure import bare_load
from tests.vm.watched import Watched

pytestmark = pytest.mark.vm


def crash_notes(vm: Machine) -> dict[str, int]:
    """Each present CPU's note address, from sysfs."""
    text = vm.run("grep . /sys/devices/system/cpu/cpu[0-9]*/crash_notes").text
    pairs = (line.split(":") for line in text.splitlines())
    return {path.split("/")[5]: int(address, 16) for path, address in pairs}


def missing(watched: Watched) -> set[str]:
    """CPUs whose note elfcorehdr does not list."""
    listed = {note["paddr"] for note in watched.header()["notes"]}
    return {cpu for cpu, address in crash_notes(watched.vm).items() if address not in listed}


def dumped(capture: Capture) -> int:
    """How many CPUs' registers are in the dump."""
    return sum(kind == "NT_PRSTATUS" for _, kind, _ in capture.notes())


def test_notes_are_right_again(guest: Guest, figures: Figures) -> None:
    with guest("6.1") as watched:
        vm = watched.vm
        watched.configure(crash="ensure")
        watched.start()
        before = watched.wait_state("crash", "current")
        cpus = len(crash_notes(vm))
        vm.plug_cpu()
        assert len(crash_notes(vm)) == cpus + 1
        after = watched.wait_reloaded("crash", before)
        assert not missing(watched)
        figures(reloads=after["load_count"] - before["load_count"])
        assert dumped(vm.panic()) == cpus + 1


def test_control_without_the_daemon_the_note_is_missing(bare: Guest) -> None:
    with bare("6.1") as watched:
        vm = watched.vm
        bare_load(vm, "crash")
        assert not missing(watched)
        cpus = len(crash_notes(vm))
        vm.plug_cpu()
        assert len(missing(watched)) == 1
        assert dumped(vm.panic()) == cpus
