# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario 12, Linux 6.12: a reboot image is kept out of ZONE_MOVABLE, or refused, or guarded."""

from __future__ import annotations

import time

import pytest

from tests.vm.lab.hotplug import Dimm
from tests.vm.lab.machine import Machine
from tests.vm.scenarios import told
from tests.vm.scenarios.conftest import ROOMY, Figures, Guest
from tests.vm.scenarios.placement import (
    MEMORY,
    Span,
    blocks,
    ending,
    inside,
    logged_segments,
    online_movable,
    placed_load,
    states,
    tools_load,
    zones,
)
from tests.vm.watched import Watched

pytestmark = pytest.mark.vm

CONFIG = "/etc/kexecwatchd/kexecwatchd.toml"
# Zeros after an initramfs are allowed; the digests of so many take their time.
LARGE_INITRD = "{ cat /lab/initrd; head -c 96M /dev/zero; } >/run/initrd"
GUARD = 'when_unsafe = "guard"\n'

# Takes a block offline as soon as a load has settled where its segments go. The rest of a load
# (digests, copies) takes most of its time; "late" says that it was over before the block was.
IN_FLIGHT = """
dmesg -C
echo ready
until dmesg | grep -q 'Loaded initrd at'; do :; done
echo offline >{state} || exit 1
! dmesg | grep -q 'kexec_file_load: type:' || echo late
"""


def plug_movable(watched: Watched) -> Dimm:
    """A DIMM whose blocks are all online in ZONE_MOVABLE."""
    online_movable(watched.vm)
    dimm = watched.vm.plug_dimm("d0", "512M")
    assert zones(watched.vm, [(dimm.start, dimm.end)]) == {"Movable"}
    return dimm


def highest_boot_memory(vm: Machine, dimm: Dimm) -> int:
    """The last address of boot memory below a DIMM: what --mem-max= wants."""
    lines = vm.run("grep -E '^[0-9a-f].*: System RAM$' /proc/iomem").text.splitlines()
    ends = [int(line.split()[0].partition("-")[2], 16) for line in lines]
    return max(end for end in ends if end < dimm.start)


def all_inside(spans: list[Span], dimm: Dimm) -> bool:
    return inside(spans, dimm.start, dimm.end) == spans


def test_kexec_tools_put_it_elsewhere_and_it_boots(guest: Guest, figures: Figures) -> None:
    with guest("6.12", memory=ROOMY) as watched:
        vm = watched.vm
        dimm = plug_movable(watched)
        watched.configure(reboot="ensure")
        watched.start()
        found = watched.wait_state("reboot", "current")
        # It was known before where the kernel would have put it: no load was wasted on that.
        assert (found["load_count"], found["proof"]) == (1, "loader")
        assert "by kexec-tools" in found["last_load"]["reason"]
        placed = told.segments(watched)
        assert told.outside(placed, dimm)
        figures(placement_ended=f"kexec-tools: {told.extent(placed)}, DIMM at {dimm.start:#x}")
        # It knows nothing of the DIMM, and does not miss it.
        vm.unplug_dimm("d0")
        watched.verify()
        assert watched.image("reboot")["state"] == "current"
        assert vm.kexec() == "second"


def test_it_boots_too_while_the_movable_memory_is_still_there(guest: Guest) -> None:
    with guest("6.12", memory=ROOMY) as watched:
        vm = watched.vm
        dimm = plug_movable(watched)
        watched.configure(reboot="ensure")
        watched.start()
        watched.wait_state("reboot", "current")
        assert vm.kexec() == "second"
        there = f"{dimm.start:x}-{dimm.end - 1:x} : System RAM"
        assert there in vm.run("cat /proc/iomem").text, "the next kernel finds it through ACPI"


# The lab's own way to boot; what comes back is the whole system.
SYSTEM = "root=/dev/vda rw console=ttyS0 crashkernel=256M memhp_default_state=online_movable"


def second_generation(watched: Watched) -> Dimm:
    """A system that kexec-tools started for us while there was a DIMM, which is gone now.

    The table that the loader handed on has the DIMM in it; this kernel was told to leave it out.
    """
    vm = watched.vm
    dimm = plug_movable(watched)
    watched.configure(reboot="ensure")
    vm.run(f'sed -i \'s,cmdline = ".*,cmdline = "{SYSTEM}",\' {CONFIG}')
    watched.start()
    watched.wait_state("reboot", "current")
    vm.agent.post("systemctl kexec")
    vm.agent.wait_ready("system")
    vm.run("systemctl is-system-running --wait", check=False)
    assert f"memmap={dimm.size:#x}%{dimm.start:#x}-1" in vm.run("cat /proc/cmdline").text
    vm.run("systemctl stop kexecwatchd")
    vm.unplug_dimm("d0")
    return dimm


def test_the_kernel_after_the_next_is_told_to_leave_it_out_as_well(guest: Guest) -> None:
    with guest("6.12", memory=ROOMY) as watched:
        vm = watched.vm
        second_generation(watched)
        watched.configure(reboot="ensure")
        watched.start()
        found = watched.wait_state("reboot", "current")
        assert found["proof"] == "placement", "the kernel's own choice is safe now"
        assert vm.kexec() == "second"


def test_control_the_kernel_after_the_next_dies_of_it(guest: Guest) -> None:
    with guest("6.12", memory=ROOMY) as watched:
        second_generation(watched)
        placed_load(watched.vm)
        assert ending(watched.vm, timeout=120) in ("panic", "dead")


def test_without_kexec_tools_it_is_refused(guest: Guest, figures: Figures) -> None:
    with guest("6.12", memory=ROOMY) as watched:
        vm = watched.vm
        plug_movable(watched)
        told.without_kexec_tools(vm)
        watched.configure(reboot="ensure")
        watched.start()
        refused = watched.wait_image("reboot", lambda i: "refused" in i["next_step"])
        assert (refused["loaded"], refused["load_count"]) == (False, 0)
        assert "movable" in refused["next_step"]
        assert "install kexec-tools" in refused["next_step"]
        assert vm.run("cat /sys/kernel/kexec_loaded").text == "0"
        figures(placement_ended="refused: none loaded")
        # A load that somebody asks for is refused as well, with the same words.
        call = (
            "busctl call org.kexecwatch1 /org/kexecwatch1 org.kexecwatch1.Manager Reload s reboot"
        )
        answer = vm.run(call, check=False)
        assert b"movable" in answer.stderr
        # Without the DIMM there is nothing to refuse.
        vm.unplug_dimm("d0")
        watched.wait_state("reboot", "current")


def test_guarded_it_stays_until_a_block_goes_offline(guest: Guest, figures: Figures) -> None:
    with guest("6.12", memory=ROOMY) as watched:
        vm = watched.vm
        dimm = plug_movable(watched)
        told.without_kexec_tools(vm)
        watched.configure(reboot="ensure", more=GUARD)
        watched.start()
        unsafe = watched.wait_state("reboot", "unsafe")
        assert (unsafe["load_count"], unsafe["guarded"], unsafe["covered"]) == (1, True, True)
        placed = told.segments(watched)
        assert told.inside(placed, dimm)
        assert set().union(*told.hazards(watched).values()) == {"movable"}
        assert told.details(watched)["prediction"] == "agrees"
        figures(placement_ended=f"guarded: {told.extent(placed)}, DIMM at {dimm.start:#x}")
        told.take_offline(vm, placed)
        vm.run("until [ $(cat /sys/kernel/kexec_loaded) = 0 ]; do sleep 0.1; done")
        watched.verify()
        assert watched.image("reboot")["last_action"].startswith("unloaded")


def test_offline_while_a_load_is_in_flight(guest: Guest) -> None:
    with guest("6.12", memory=ROOMY) as watched:
        vm = watched.vm
        dimm = plug_movable(watched)
        told.without_kexec_tools(vm)
        watched.configure(reboot="ensure", more=GUARD)
        vm.run(f"{LARGE_INITRD}; sed -i s,/lab/initrd,/run/initrd, {CONFIG}")
        highest = blocks(vm, [(dimm.start, dimm.end)])[-1]
        taker = vm.spawn(IN_FLIGHT.format(state=f"{MEMORY}/memory{highest}/state"))
        vm.run("until dmesg | wc -l | grep -qx 0; do sleep 0.1; done")
        watched.start()
        taken = taker.wait()
        assert (taken.code, taken.text) == (0, "ready"), taken
        refused = watched.wait_image("reboot", lambda i: "refused" in i["next_step"])
        assert not refused["loaded"]
        assert vm.run("cat /sys/kernel/kexec_loaded").text == "0"
        said = [e.fields.get("VERDICT") for e in watched.journal() if e.fields.get("VERDICT")]
        assert "current" not in said
        # Where kexec-tools are to be had it goes elsewhere.
        told.with_kexec_tools(vm)
        vm.run("systemctl reload kexecwatchd")
        watched.wait_state("reboot", "current")
        assert told.outside(told.segments(watched), dimm)


def test_control_it_lies_there_and_the_machine_dies(bare: Guest) -> None:
    with bare("6.12", memory=ROOMY) as watched:
        vm = watched.vm
        dimm = plug_movable(watched)
        spans = placed_load(vm)
        assert all_inside(spans, dimm)
        assert zones(vm, spans) == {"Movable"}
        vm.unplug_dimm("d0")
        assert vm.run("cat /sys/kernel/kexec_loaded").text == "1"
        assert ending(vm) == "dead"


def test_control_kexec_tools_place_it_there_too_unless_told_otherwise(bare: Guest) -> None:
    with bare("6.12", memory=ROOMY) as watched:
        vm = watched.vm
        dimm = plug_movable(watched)
        assert len(inside(tools_load(vm), dimm.start, dimm.end)) == 4, "all but the lowest"
        last = highest_boot_memory(vm, dimm)
        spans = tools_load(vm, f"--mem-max={last:#x}")
        assert inside(spans, dimm.start, dimm.end) == []
        assert max(end for _, end in spans) == last + 1, "the bound is inclusive"
        refused = vm.run(
            "kexec -c -l /lab/vmlinuz --initrd=/lab/initrd --mem-max=0x1000000", check=False
        )
        assert refused.code == 1
        assert b"Could not find a free area of memory" in refused.stderr
        assert vm.run("cat /sys/kernel/kexec_loaded").text == "1", "the old image is still there"
        assert ending(vm) == "second"


@pytest.mark.parametrize("told", [False, True], ids=["as-it-is", "taken-out-of-the-map"])
def test_control_kexec_tools_tell_the_next_kernel_of_the_dimm(bare: Guest, told: bool) -> None:
    """An image of theirs that lies elsewhere dies with the DIMM, too.

    They hand on the memory map of /sys/firmware/memmap, which has hot-added DIMMs in it, and the
    next kernel takes memory from there at once. memmap=SIZE%START-1 takes them out again.
    """
    with bare("6.12", memory=ROOMY) as watched:
        vm = watched.vm
        dimm = plug_movable(watched)
        words = "earlyprintk=ttyS0"
        if told:
            words += f" memmap={dimm.size:#x}%{dimm.start:#x}-1"
        spans = tools_load(vm, f"--mem-max={highest_boot_memory(vm, dimm):#x}", words)
        assert inside(spans, dimm.start, dimm.end) == []
        vm.unplug_dimm("d0")
        assert ending(vm) == ("second" if told else "panic")


def test_control_its_memory_goes_offline_while_it_is_loaded(bare: Guest) -> None:
    with bare("6.12", memory=ROOMY) as watched:
        vm = watched.vm
        dimm = plug_movable(watched)
        vm.run(LARGE_INITRD)
        options = "--initrd /run/initrd"
        before = placed_load(vm, options)
        assert all_inside(before, dimm)
        vm.run("python3 /lab/bareload.py unload-reboot")
        last = blocks(vm, before)[-1]
        taker = vm.spawn(IN_FLIGHT.format(state=f"{MEMORY}/memory{last}/state"))
        while "ready" not in taker.output():
            assert taker.running()
            time.sleep(0.2)
        vm.run(f"python3 /lab/bareload.py reboot --debug {options}")
        taken = taker.wait()
        assert (taken.code, taken.text) == (0, "ready"), taken
        spans = logged_segments(vm)
        assert spans == before
        assert "offline" in states(vm, spans)
        assert vm.run("cat /sys/kernel/kexec_loaded").text == "1", "and nobody says so"
