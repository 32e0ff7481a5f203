# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario 13, Linux 7.3: reboot images and CMA, where the kernel's alignment is lost."""

from __future__ import annotations

import re

import pytest

from tests.vm.lab.machine import Machine
from tests.vm.scenarios import told
from tests.vm.scenarios.conftest import ROOMY, Figures, Guest
from tests.vm.scenarios.placement import Span, ending, inside, placed_load

pytestmark = pytest.mark.vm

#: Room for one image and not for two (kernel and initrd of the lab need 65 MiB).
ONE = "cma=96M"
#: Room for two, so that the next one can be loaded while one is there.
TWO = "cma=192M"
#: kernel_alignment of the boot header (offset 0x230), Debian's value.
ALIGNMENT = 2 << 20
KERNEL = 2


def cma_area(vm: Machine) -> Span:
    """The area that cma= reserved: only the boot log tells where it is."""
    log = vm.run("journalctl -k --no-pager").text
    found = re.search(r"cma: Reserved (\d+) MiB at (0x\w+)", log)
    assert found, log
    start = int(found[2], 16)
    return start, start + (int(found[1]) << 20)


@pytest.mark.parametrize("cma", [ONE, TWO])
def test_without_hot_added_memory_cma_is_left_alone(
    guest: Guest, figures: Figures, cma: str
) -> None:
    with guest("7.3", cmdline=cma, memory=ROOMY) as watched:
        watched.configure(reboot="ensure")
        watched.start()
        watched.wait_state("reboot", "current")
        known = told.details(watched)
        # It went where it was predicted to go, and the prediction knows nothing of CMA.
        assert (known["placed_by"], known["prediction"]) == ("log", "agrees")
        placed = told.extent(told.segments(watched))
        figures(placement_ended=f"{cma}: kexec_file_load without CMA: {placed}")
        assert watched.vm.kexec() == "second"


@pytest.mark.parametrize("cma", [ONE, TWO])
def test_what_cma_leaves_unsound_is_seen_and_put_elsewhere(
    guest: Guest, figures: Figures, cma: str
) -> None:
    with guest("7.3", cmdline=cma, memory=ROOMY) as watched:
        vm = watched.vm
        dimm = vm.plug_dimm("d0", "512M")
        watched.configure(reboot="ensure")
        watched.start()
        found = watched.wait_state("reboot", "current")
        # CMA was tried first, and what came of it did not stay.
        first, *_ = watched.loads("reboot")
        assert first.fields["VERDICT"] == "unsafe"
        assert "cannot start" in first.message
        assert (found["proof"], found["load_count"]) == ("loader", 2)
        placed = told.segments(watched)
        assert told.outside(placed, dimm)
        figures(
            placement_ended=f"{cma}: kexec-tools: {told.extent(placed)}, DIMM at {dimm.start:#x}"
        )
        assert vm.kexec() == "second"


def test_without_kexec_tools_it_is_refused(guest: Guest, figures: Figures) -> None:
    with guest("7.3", cmdline=TWO, memory=ROOMY) as watched:
        vm = watched.vm
        dimm = vm.plug_dimm("d0", "512M")
        told.without_kexec_tools(vm)
        watched.configure(reboot="ensure")
        watched.start()
        refused = watched.wait_image("reboot", lambda i: "refused" in i["next_step"])
        assert not refused["loaded"]
        assert refused["load_count"] == 1
        figures(placement_ended=f"{TWO}: refused, none loaded")
        told.with_kexec_tools(vm)
        vm.unplug_dimm("d0")
        watched.wait_state("reboot", "current")
        assert told.outside(told.segments(watched), dimm)
        assert not set().union(*told.hazards(watched).values())


def test_control_a_reload_leaves_the_area(bare: Guest) -> None:
    with bare("7.3", cmdline=ONE, memory=ROOMY) as watched:
        vm = watched.vm
        area = cma_area(vm)
        dimm = vm.plug_dimm("d0", "512M")
        first = placed_load(vm)
        assert inside(first, *area) == first
        # The old image still has its place while the new one is loaded.
        again = placed_load(vm)
        assert inside(again, dimm.start, dimm.end) == [again[KERNEL]]
        assert inside(again, *area) == [s for s in again if s != again[KERNEL]]
        vm.run("python3 /lab/bareload.py unload-reboot")
        alone = placed_load(vm)
        assert inside(alone, *area) == alone


@pytest.mark.parametrize("loads", [1, 2])
def test_control_the_area_forgets_the_kernels_alignment(bare: Guest, loads: int) -> None:
    """The kernel moves itself up to its alignment, over the beginning of the initrd behind it.

    CONFIG_CMA_ALIGNMENT caps what kexec_alloc_contig (kernel/kexec_file.c) asks for at 1 MiB.
    """
    with bare("7.3", cmdline=TWO, memory=ROOMY) as watched:
        vm = watched.vm
        for _ in range(loads):
            start, _ = placed_load(vm)[KERNEL]
        # Each image takes the place that the one before did not have.
        assert start % ALIGNMENT == (ALIGNMENT // 2 if loads == 1 else 0)
        came = ending(vm, timeout=120)
        assert came == "second" if loads == 2 else came in ("panic", "dead")
